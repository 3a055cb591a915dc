"""Dense heads: maps of a whole plane from its embedding, and the objects that are cut out of them."""

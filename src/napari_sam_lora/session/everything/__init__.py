"""Find all objects of planes without prompts, plane by plane, and propose them."""

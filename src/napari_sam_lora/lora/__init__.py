"""Low-rank adapters: their layers, their place in a model, and their files."""

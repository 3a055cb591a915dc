"""Layers of the viewer: which are in use, which labels belong to which image, and where their planes lie."""

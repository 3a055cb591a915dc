"""Planes that are larger than the model input, and stacks of planes."""

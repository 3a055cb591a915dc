"""Propagation of objects through a stack, one plane at a time."""

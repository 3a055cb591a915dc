"""Propagation: follow objects through a stack, plane by plane."""

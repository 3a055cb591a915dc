"""Propagate objects through the planes of a stack."""

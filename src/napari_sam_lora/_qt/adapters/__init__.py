"""Adapters panel: the adapter library, and segmenting again with another adapter."""

"""Architectures besides segment-anything's own."""

"""Segment many images, one after the other, without a viewer."""

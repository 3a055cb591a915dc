"""COCO annotations: read, write, and compress masks to run lengths."""

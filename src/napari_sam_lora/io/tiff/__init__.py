"""TIFF: write labels, read pixel sizes, detect truncated files."""

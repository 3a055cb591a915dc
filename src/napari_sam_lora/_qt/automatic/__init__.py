"""Segment a whole image, or a folder of files, without prompts."""

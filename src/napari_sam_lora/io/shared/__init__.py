"""Checks, warnings and optional libraries that readers and writers of all formats share."""

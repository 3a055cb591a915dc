"""CSV, JSON and NumPy files of objects and their prompts."""

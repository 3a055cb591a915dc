"""Prompt panel: drawing tools, prompt layers, preview and committing objects."""

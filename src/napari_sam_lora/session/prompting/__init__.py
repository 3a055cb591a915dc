"""Prompts of a session: drafts, previews, and segmenting again from stored prompts."""

"""Evaluation: scores, validation during a run, and acceptance of the adapter."""

"""What readers and writers of all formats share: checks, warnings and optional libraries."""

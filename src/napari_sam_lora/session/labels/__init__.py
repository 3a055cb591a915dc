"""Label images of a session: objects, edits, undo, proposals and export."""

"""Project folders: save a session, load it again, and recover unfinished ones."""

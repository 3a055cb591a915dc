"""Worker threads of a session: queued jobs, model downloads, and messages about failures."""

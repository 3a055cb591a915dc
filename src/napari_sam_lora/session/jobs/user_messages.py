"""What a person is told about an error."""

from __future__ import annotations

from napari_sam_lora.errors import SamLoraError


def user_message(error: BaseException) -> str:
    """What to tell a person about an error."""
    if isinstance(error, SamLoraError):
        return str(error)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "There was not enough memory: close other programs, or choose a smaller model or input size."
    if isinstance(error, OSError) and error.strerror:
        place = error.filename or "a file"
        return f"Could not read or write {place}: {error.strerror}. Your labels and prompts are as they were."
    return f"Something went wrong ({type(error).__name__}: {error}). Your labels and prompts are as they were."

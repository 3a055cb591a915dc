"""Messages to the user about errors of any kind."""

from __future__ import annotations

from napari_sam_lora.errors import SamLoraError, is_out_of_memory

OUT_OF_MEMORY = "There was not enough memory: close other programs, or choose a smaller model or input size."


def user_message(error: BaseException) -> str:
    """Return a message about an error for the user."""
    if isinstance(error, SamLoraError):
        return str(error)
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    if isinstance(error, OSError) and error.strerror:
        place = error.filename or "a file"
        return f"Could not read or write {place}: {error.strerror}. Your labels and prompts are as they were."
    return f"Something went wrong ({type(error).__name__}: {error}). Your labels and prompts are as they were."

"""Turn the errors of image decoders into one line for the user."""

from __future__ import annotations

from pathlib import Path

from napari_sam_lora.errors import InputError

_LONGEST = 200


def summarize(error: Exception) -> str:
    """Return the text of an exception as one short line that ends like a sentence."""
    text = " ".join(str(error).split())[:_LONGEST].rstrip(".") or type(error).__name__
    return text if text.endswith("?") else f"{text}."


def unreadable(path: Path, error: Exception) -> InputError:
    """Return the error to raise when a decoder failed: the file may be damaged, or a codec is missing."""
    if "imagecodecs" in str(error):
        return InputError(
            f"{path.name} cannot be read: its compression needs another package: pip install imagecodecs.",
            code="package-missing",
        )
    return InputError(f"{path.name} cannot be read: {summarize(error)} It may be damaged.", code="file-not-readable")

"""Choose the data type in which label ids are stored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError


def label_dtype(labels: NDArray[np.integer[Any]]) -> np.dtype[Any]:
    """Return the smallest unsigned type that holds all ids: uint8, uint16 or uint32.

    Raises
    ------
    InputError
        If labels are not whole numbers, an id is negative, or it does not fit into 32 bits.
    """
    if labels.dtype.kind not in "biu":
        raise InputError(f"Labels must be whole numbers, not {labels.dtype}.", code="labels-not-whole-numbers")
    if labels.dtype.kind == "i" and labels.min(initial=0) < 0:
        raise InputError("Labels must not be negative.", code="labels-negative")
    largest = int(labels.max(initial=0))
    if largest >= 2**32:
        raise InputError(
            f"Files hold ids up to {2**32 - 1}, not {largest}; renumber the labels first.", code="ids-too-large"
        )
    return np.dtype(np.uint8 if largest < 2**8 else np.uint16 if largest < 2**16 else np.uint32)

"""Label images as TIFF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.files import atomic_path


def write_labels(path: str | Path, labels: NDArray[np.integer[Any]]) -> Path:
    """Write a label image as compressed TIFF, atomically, in the smallest type that holds its ids.

    Parameters
    ----------
    path : path-like
        Ends in .tif or .tiff.
    labels : int (y, x) or (z, y, x)
        Not negative.

    Returns
    -------
    Path
    """
    target = Path(path)
    if target.suffix.lower() not in (".tif", ".tiff"):
        raise InputError(f"A label TIFF ends in .tif or .tiff, unlike {target.name}.")
    if labels.min(initial=0) < 0:
        raise InputError("Labels must not be negative.")
    if labels.max(initial=0) >= 2**32:
        raise InputError(f"A label TIFF holds ids up to {2**32 - 1}, not {labels.max()}; renumber the labels first.")
    dtype = np.uint16 if labels.max(initial=0) < 2**16 else np.uint32
    with atomic_path(target) as temporary:
        tifffile.imwrite(temporary, labels.astype(dtype), compression="zlib", photometric="minisblack")
    return target

"""Write label planes as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_sam_lora.errors import InputError
from napari_sam_lora.files import atomic_path
from napari_sam_lora.io.label_dtype import label_dtype
from napari_sam_lora.io.shared.existing_files import check_replaceable


def plane_paths(path: str | Path, shape: tuple[int, ...]) -> list[Path]:
    """Return the file of each plane: the path of a single plane, NAME_0000.png etc. of a stack.

    With several axes before y there is a number for each: NAME_0000_0000.png for (t, z).
    """
    target = Path(path)
    if len(shape) == 2:
        return [target]
    bare = target.with_suffix("")
    numbers = ("_".join(f"{position:04d}" for position in index) for index in np.ndindex(*shape[:-2]))
    return [bare.with_name(f"{bare.name}_{number}.png") for number in numbers]


def write_png(path: str | Path, labels: NDArray[np.integer[Any]], overwrite: bool = False) -> list[Path]:
    """Write each plane as a gray PNG of 8 or 16 bits, atomically, with the ids as values.

    Parameters
    ----------
    path : path-like
        Ends in .png.
    labels : int (..., y, x)
    overwrite : bool
        Whether files that exist may be replaced.

    Returns
    -------
    list of Path
        See `plane_paths`.

    Raises
    ------
    InputError
        If the ending is another, an id is above 65,535, or a file exists.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise InputError(f"The name of a PNG file must end in .png, not {target.name}.", code="wrong-file-ending")
    dtype = label_dtype(labels)
    if dtype.itemsize > 2:
        raise InputError(
            f"PNG holds ids up to 65535, not {labels.max()}: renumber the labels, or write TIFF or NIfTI.",
            code="ids-too-large",
        )
    paths = plane_paths(target, labels.shape)
    check_replaceable(paths, overwrite)
    for file, index in zip(paths, np.ndindex(*labels.shape[:-2]), strict=True):
        with atomic_path(file) as temporary:
            Image.fromarray(np.asarray(labels[index]).astype(dtype)).save(temporary, format="PNG")
    return paths

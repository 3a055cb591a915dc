"""Labelled image sets on disk, as planes.

A set is a folder with ``images/`` and ``labels/``; an image and its labels have the same name. PNG, TIFF and NIfTI.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi

from napari_sam_lora.labels import find_objects

PLANE = 256
SMALLEST = 30
# At most so many planes of a stack, evenly spaced: neighbours are near duplicates.
PLANES_A_STACK = 5
# Smaller planes (MRI crops, small confocal stacks) are enlarged to about this longest side.
ENLARGE_BELOW = 128


@dataclass(frozen=True, eq=False)
class LabelledPlane:
    """A plane of a set.

    Attributes
    ----------
    source : str
        File name, with the index of the plane in a stack.
    image : (y, x), as stored; RGB converted to gray
    labels : int64 (y, x); objects of less than `SMALLEST` pixels are removed
    """

    source: str
    image: NDArray[Any]
    labels: NDArray[np.int64]


def load_set(folder: Path, plane: int = PLANE) -> list[LabelledPlane]:
    """All planes of a set, cut to their middle ``plane`` x ``plane`` pixels; small ones are enlarged first."""
    planes = []
    for path in sorted((folder / "images").iterdir()):
        image, labels = read(path), read(folder / "labels" / path.name)
        for source, pixels, ids in _planes(path.name, image, labels):
            cut = _middle(pixels.shape, plane)
            kept = _without_small(ids[cut])
            if kept.any():
                planes.append(LabelledPlane(source, pixels[cut], kept))
    return planes


def read(path: Path) -> NDArray[Any]:
    """Read an image as (y, x), (z, y, x) or, for NIfTI, (x, y, z) turned into (z, y, x); RGB becomes gray."""
    if path.suffix == ".png":
        with Image.open(path) as file:
            data = np.asarray(file)
            return np.asarray(file.convert("L")) if data.ndim == 3 else data
    if path.suffix in (".tif", ".tiff"):
        return tifffile.imread(path)
    if path.name.endswith((".nii", ".nii.gz")):
        import nibabel  # noqa: PLC0415  only the sets in NIfTI need it

        return np.asarray(nibabel.nifti1.load(path).dataobj).T
    raise ValueError(f"{path.name} is neither PNG, TIFF nor NIfTI")


def _planes(
    name: str, image: NDArray[Any], labels: NDArray[Any]
) -> Iterator[tuple[str, NDArray[Any], NDArray[np.int64]]]:
    if image.ndim == 2:
        yield name, image, labels.astype(np.int64)
        return
    filled = np.flatnonzero((labels > 0).any((1, 2)))
    wanted = filled[np.linspace(0, len(filled) - 1, min(PLANES_A_STACK + 2, len(filled))).astype(int)][1:-1]
    for z in np.unique(wanted):
        factor = max(1, round(ENLARGE_BELOW * 2 / max(image.shape[1:]))) if max(image.shape[1:]) < ENLARGE_BELOW else 1
        pixels = ndi.zoom(image[z].astype(np.float32), factor, order=1, grid_mode=True, mode="nearest")
        ids = np.kron(labels[z], np.ones((factor, factor), labels.dtype))
        yield f"{name}[{z}]", pixels, ids.astype(np.int64)


def _middle(shape: tuple[int, ...], side: int) -> tuple[slice, slice]:
    top, left = (max(0, (length - side) // 2) for length in shape)
    return slice(top, top + side), slice(left, left + side)


def _without_small(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    kept = [found.label for found in find_objects(labels, SMALLEST)]
    return np.where(np.isin(labels, kept), labels, 0)

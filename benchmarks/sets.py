"""Read labelled image sets from disk, as planes.

A set is a folder with ``images/`` and ``labels/``; an image and its labels have the same name. PNG, TIFF and NIfTI.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi

from napari_sam_lora.labels import find_objects

PLANE = 256
SMALLEST = 30
# Largest number of planes of a stack, evenly spaced, since neighbours are near duplicates.
PLANES_A_STACK = 5
# Smaller planes (MRI crops, small confocal stacks) are enlarged to about this longest side.
ENLARGE_BELOW = 128
# Sets with only some objects of a kind labelled: what has no label may be an object too.
INCOMPLETE = ("plantseg_nuclei3d",)
# Sets with the parts of one organ labelled, not the objects of a kind.
SEMANTIC = ("msd_hippocampus",)
Annotation = Literal["complete", "incomplete", "semantic"]


@dataclass(frozen=True, eq=False)
class LabelledPlane:
    """A plane of a set.

    Attributes
    ----------
    source : str
        File name, with the index of the plane in a stack.
    image : (y, x), or (y, x, 3) where colour was asked for; values as stored
    labels : int64 (y, x)
    stack : str, optional
        The stack that the plane belongs to.
    background : bool, or bool (y, x)
        Where pixels without a label are known to be background: everywhere, nowhere, or in a mask.
    """

    source: str
    image: NDArray[Any]
    labels: NDArray[np.int64]
    stack: str | None = None
    background: NDArray[np.bool_] | bool = True


def annotation_of(name: str, incomplete: Collection[str] = ()) -> Annotation:
    """Return what the labels of a set tell, by its name; more sets with incomplete labels can be named."""
    if name in INCOMPLETE or name in incomplete:
        return "incomplete"
    return "semantic" if name in SEMANTIC else "complete"


def load_set(folder: Path, plane: int = PLANE) -> list[LabelledPlane]:
    """Load all planes of a set, gray, each fitted to ``plane`` x ``plane`` pixels; see `fit`."""
    return fit_all(load_planes(folder), plane)


def load_planes(folder: Path, planes_a_stack: int = PLANES_A_STACK, colour: bool = False) -> list[LabelledPlane]:
    """Load all planes of a set at their own size, small ones enlarged; of a stack evenly spaced ones.

    Files of equal shape that are numbered without a gap are the planes of one stack.
    """
    paths = sorted((folder / "images").iterdir())
    planes = []
    for path in paths:
        image, labels = read(path, colour), read(folder / "labels" / path.name)
        planes += list(_planes(path.name, image, labels, planes_a_stack))
    if all(plane.stack is None for plane in planes) and _is_series([path.stem for path in paths], planes):
        return [replace(plane, stack=folder.name) for plane in _spread(planes, planes_a_stack)]
    return planes


def fit_all(planes: Sequence[LabelledPlane], side: int = PLANE) -> list[LabelledPlane]:
    """Fit planes, and drop those that then hold no object."""
    fitted = (fit(plane, side) for plane in planes)
    return [plane for plane in fitted if plane.labels.any()]


def fit(plane: LabelledPlane, side: int = PLANE) -> LabelledPlane:
    """Cut a plane to its middle ``side`` x ``side`` pixels, and leave out objects of less than `SMALLEST` pixels.

    Where the typical object would not fit in half of that, the plane is shrunk instead.
    """
    lengths = [max(y1 - y0, x1 - x0) for y0, x0, y1, x1 in (found.box for found in find_objects(plane.labels))]
    image, labels = plane.image, plane.labels
    if lengths and np.median(lengths) > side / 2 and max(labels.shape) > side:
        image, labels = _shrink(image, labels, side / max(labels.shape))
    cut = _middle((labels.shape[0], labels.shape[1]), side)
    return replace(plane, image=image[cut], labels=_without_small(labels[cut]))


def read(path: Path, colour: bool = False) -> NDArray[Any]:
    """Read an image as (y, x), (z, y, x) or, for NIfTI, (x, y, z) turned into (z, y, x).

    Colour PNG images become gray, or (y, x, 3) where ``colour`` is asked for.
    """
    if path.suffix == ".png":
        with Image.open(path) as file:
            if np.asarray(file).ndim < 3:
                return np.asarray(file)
            return np.asarray(file.convert("RGB" if colour else "L"))
    if path.suffix in (".tif", ".tiff"):
        return tifffile.imread(path)
    if path.name.endswith((".nii", ".nii.gz")):
        import nibabel  # noqa: PLC0415  only the sets in NIfTI need it

        return np.asarray(nibabel.nifti1.load(path).dataobj).T
    raise ValueError(f"{path.name} is neither PNG, TIFF nor NIfTI")


def _planes(name: str, image: NDArray[Any], labels: NDArray[Any], count: int) -> Iterator[LabelledPlane]:
    if labels.ndim == 2:
        yield LabelledPlane(name, image, labels.astype(np.int64))
        return
    filled = np.flatnonzero((labels > 0).any((1, 2)))
    for z in np.unique(filled[np.linspace(0, len(filled) - 1, min(count + 2, len(filled))).astype(int)][1:-1]):
        factor = max(1, round(ENLARGE_BELOW * 2 / max(image.shape[1:]))) if max(image.shape[1:]) < ENLARGE_BELOW else 1
        pixels = ndi.zoom(image[z].astype(np.float32), factor, order=1, grid_mode=True, mode="nearest")
        ids = np.kron(labels[z], np.ones((factor, factor), labels.dtype))
        yield LabelledPlane(f"{name}[{z}]", pixels, ids.astype(np.int64), name)


def _is_series(stems: Sequence[str], planes: Sequence[LabelledPlane]) -> bool:
    matches = [re.fullmatch(r"(.*?)(\d+)", stem) for stem in stems]
    numbers = sorted(int(match[2]) for match in matches if match)
    prefixes = {match[1] for match in matches if match}
    numbered = len(numbers) == len(stems) > 2 and len(prefixes) == 1
    return (
        numbered
        and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        and len({plane.labels.shape for plane in planes}) == 1
    )


def _spread(planes: list[LabelledPlane], count: int) -> list[LabelledPlane]:
    return [planes[i] for i in np.unique(np.linspace(0, len(planes) - 1, count).astype(int))]


def _shrink(image: NDArray[Any], labels: NDArray[np.int64], factor: float) -> tuple[NDArray[Any], NDArray[np.int64]]:
    shape = tuple(round(length * factor) for length in labels.shape)
    zoom = [new / old for new, old in zip(shape, labels.shape, strict=True)]
    blurred = ndi.gaussian_filter(image.astype(np.float32), 0.4 / factor, axes=(0, 1))
    pixels = ndi.zoom(blurred, zoom + [1] * (image.ndim - 2), order=1, grid_mode=True, mode="nearest")
    ids = ndi.zoom(labels, zoom, order=0, grid_mode=True, mode="nearest")
    return pixels.astype(image.dtype), ids


def _middle(shape: tuple[int, int], side: int) -> tuple[slice, slice]:
    top, left = (max(0, (length - side) // 2) for length in shape)
    return slice(top, top + side), slice(left, left + side)


def _without_small(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    kept = [found.label for found in find_objects(labels, SMALLEST)]
    return np.where(np.isin(labels, kept), labels, 0)

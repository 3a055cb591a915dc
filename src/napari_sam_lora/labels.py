"""Check label images, find their objects, and write masks into them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage as ndi
from skimage.measure import label as label_components

from napari_sam_lora.errors import InputError

LabelMeaning = Literal["instances", "classes", "mask"]
LABEL_MEANINGS: tuple[LabelMeaning, ...] = get_args(LabelMeaning)
# Up to this id, pixels are counted with a list indexed by id, which is faster than sorting them.
LARGEST_COUNTED = 2**20


@dataclass(frozen=True)
class LabelledObject:
    """One object of a label image.

    Attributes
    ----------
    label : int
        Its id.
    box : tuple of int
        Half-open y0, x0, y1, x1.
    area : int
        Number of pixels.
    """

    label: int
    box: tuple[int, int, int, int]
    area: int

    @property
    def centre(self) -> tuple[float, float]:
        """Centre (y, x) of the box."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


def check_labels(labels: ArrayLike, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return a label image of one plane as int64 (y, x).

    Raises
    ------
    InputError
        If it does not have this shape, or holds other than whole, non-negative numbers.
    """
    array = np.asarray(labels)
    if array.shape != shape:
        raise InputError(
            f"The labels have the shape {array.shape}, the image {shape}; they must be the same plane.",
            code="labels-do-not-fit",
        )
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.rint(array)).all():
        array = array.astype(np.int64)
    if array.dtype.kind not in "biu":
        raise InputError(
            f"Labels must be whole numbers, one for each object, not {array.dtype}.", code="labels-not-whole-numbers"
        )
    if array.size and array.min() < 0:
        raise InputError("Labels must not be negative; 0 is background.", code="labels-negative")
    return array.astype(np.int64)


def find_objects(labels: NDArray[np.integer[Any]], smallest: int = 1) -> list[LabelledObject]:
    """Find the objects of a label image (y, x) with at least ``smallest`` pixels, in the order of their ids."""
    areas = areas_in(labels)
    if min(areas, default=0) >= 0 and max(areas, default=0) <= LARGEST_COUNTED:
        by_id = ndi.find_objects(labels.astype(np.int64, copy=False), max(areas)) if areas else []
        slices = [by_id[number - 1] for number in areas]
    else:
        ids, compact = np.unique(labels, return_inverse=True)
        by_rank = ndi.find_objects(compact.reshape(labels.shape) + 1)
        slices = [box for number, box in zip(ids, by_rank, strict=True) if number]
    found = []
    for (number, area), (rows, columns) in zip(areas.items(), slices, strict=True):
        if area >= smallest:
            box = (rows.start, columns.start, rows.stop, columns.stop)
            found.append(LabelledObject(number, box, area))
    return found


def areas_in(labels: NDArray[np.integer[Any]]) -> dict[int, int]:
    """Count the pixels of each object of a label image, in the order of the ids."""
    lowest, largest = int(labels.min(initial=0)), int(labels.max(initial=0))
    if lowest == largest == 0:  # the usual case in a stack that is only partly labelled
        return {}
    if lowest >= 0 and largest <= LARGEST_COUNTED:
        counts = np.bincount(labels.ravel().astype(np.int64, copy=False))
        ids = np.flatnonzero(counts)
        counts = counts[ids]
    else:
        ids, counts = np.unique(labels, return_counts=True)
    return {int(label): int(area) for label, area in zip(ids, counts, strict=True) if label}


def separate_objects(
    labels: NDArray[np.int64], meaning: LabelMeaning = "instances"
) -> tuple[NDArray[np.int64], dict[int, int]]:
    """Turn labels of any meaning into one id per object.

    Parameters
    ----------
    labels : int64 (y, x)
        0 is background, or not labelled.
    meaning : str
        "instances": an id is an object; "classes": an id is a class, and each of its connected regions (diagonal
        neighbours included) is an object; "mask": all pixels that are not 0 are one object.

    Returns
    -------
    objects : int64 (y, x)
        For "classes" numbered from 1, row by row.
    classes : dict of int to int
        Class of each object; empty for other meanings.
    """
    if meaning == "instances":
        return labels, {}
    if meaning == "mask":
        return (labels != 0).astype(np.int64), {}
    components = np.asarray(label_components(labels, background=0, connectivity=2), np.int64)
    numbers, first = np.unique(components, return_index=True)
    classes = labels.ravel()[first]
    return components, {int(n): int(c) for n, c in zip(numbers, classes, strict=True) if n}


def click_at_centre(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the pixel (y, x) of a mask that is farthest from its outline; the first one if several are."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    depth = ndi.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(y) + top, int(x) + left


def next_free_label(labels: NDArray[np.integer[Any]]) -> int:
    """Return the smallest id above all ids in use."""
    return int(labels.max(initial=0)) + 1


def add_masks(
    labels: NDArray[np.integer[Any]], masks: NDArray[np.bool_], scores: NDArray[np.floating[Any]] | None = None
) -> NDArray[np.int64]:
    """Write masks with new ids into the background of a label image; nothing labelled is overwritten.

    Parameters
    ----------
    labels : int (y, x)
        Not changed.
    masks : bool (n, y, x)
    scores : float (n,), optional
        Where new masks overlap, the pixel goes to the one with the higher score; to the earlier one by default.

    Returns
    -------
    int64 (y, x)
        Mask i has the id ``next_free_label(labels) + i``, if any of its pixels were free.
    """
    out = np.array(labels, np.int64)
    first = next_free_label(out)
    order = np.arange(len(masks)) if scores is None else np.argsort(-np.asarray(scores), kind="stable")
    for row in order:
        out[masks[row] & (out == 0)] = first + row
    return out


def iter_masks(labels: NDArray[np.integer[Any]], smallest: int = 1) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield the id and the mask, bool (y, x), of each object with at least ``smallest`` pixels."""
    for found in find_objects(labels, smallest):
        yield found.label, labels == found.label

"""Make the targets of the dense head from label images, and the mask of known pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam_lora.labels import find_objects

# Pixels around a labelled object that are taken as background; thin, because its neighbour may not be labelled.
RING = 2
# Pixels around an object that is not learned from; they are not learned from either.
MARGIN = 4


def distance_map(labels: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """Return the distance of each pixel to the outline of its object, divided by the largest in the object.

    The edge of the plane is not an outline: an object that it cuts continues beyond it.

    Parameters
    ----------
    labels : int (y, x)

    Returns
    -------
    float32 (y, x)
        From 0 to 1; 0 outside objects.
    """
    out = np.zeros(labels.shape, np.float32)
    padded = np.pad(labels, 1, mode="edge")
    for found in find_objects(labels):
        y0, x0, y1, x1 = found.box
        depth = ndi.distance_transform_edt(padded[y0 : y1 + 2, x0 : x1 + 2] == found.label)
        if not np.isfinite(depth).all() or (deepest := float(depth[1:-1, 1:-1].max())) <= 0:
            continue
        mask = labels[y0:y1, x0:x1] == found.label
        out[y0:y1, x0:x1][mask] = (depth[1:-1, 1:-1] / deepest)[mask]
    return out


def dense_targets(labels: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """Return the targets float32 (2, y, x) in the order of `napari_sam_lora.model.dense.head.OUTPUTS`."""
    return np.stack([(labels > 0).astype(np.float32), distance_map(labels)])


def class_target(labels: NDArray[np.integer[Any]], numbers: Mapping[int, int]) -> NDArray[np.float32]:
    """Return the number of the class at each pixel of the objects that have one.

    Parameters
    ----------
    labels : int (y, x)
    numbers : mapping of int to int
        Number of the class, counted from 1, by object id. Objects that are not in it have no class.

    Returns
    -------
    float32 (y, x)
        0 where there is no class to learn.
    """
    ids, at = np.unique(labels, return_inverse=True)
    values = np.array([numbers.get(int(label), 0) if label else 0 for label in ids], np.float32)
    return values[at.reshape(labels.shape)]


def known_pixels(
    labels: NDArray[np.integer[Any]],
    learned: Iterable[int],
    background: NDArray[np.bool_] | bool = False,
    outside: NDArray[np.integer[Any]] | None = None,
) -> NDArray[np.bool_]:
    """Return the pixels whose target is known; all others must have no gradient.

    Known are the objects to learn from, a ring of `RING` pixels around them, and background that the user has marked.
    Objects that must not be learned from (held-out ones) are not known, and neither is a `MARGIN` around them.

    Parameters
    ----------
    labels : int (y, x)
    learned : iterable of int
        Ids of the objects to learn from.
    background : bool, or bool (y, x)
        Where pixels without a label are background: True for a plane that is labelled completely, or a mask of
        a part that is, or of scribbles.
    outside : int (n, 2), optional
        Pixels (y, x) that the user clicked as not belonging to an object; known where they have no label.

    Returns
    -------
    bool (y, x)
    """
    ids = np.unique(np.fromiter(learned, np.int64))
    inside = np.isin(labels, ids) & (labels != 0)
    free = labels == 0
    known = inside | (_within(inside, RING) & free) | (free & background)
    if outside is not None:
        for y, x in np.asarray(outside, np.intp).reshape(-1, 2):
            place = slice(max(0, y - 1), y + 2), slice(max(0, x - 1), x + 2)
            known[place] |= free[place]
    others = ~free & ~inside
    if others.any():
        known &= ~_within(others, MARGIN) | inside
    return known


def _within(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Return the pixels of a mask and those at most this far from it."""
    if not mask.any():
        return mask
    return ndi.distance_transform_edt(~mask) <= pixels

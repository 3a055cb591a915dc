"""Simulate a user who labels only some objects of an image and marks some of its background.

A random share of the objects keeps its labels. Background is marked by a few scribbles: straight lines three pixels
wide that begin in the open background and end before the first object. The user sees all objects, so that a scribble
never covers one, labelled or not. Known to training are the labelled objects, a thin ring around each, and the
scribbles; see `napari_sam_lora.training.dense.targets.known_pixels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.draw import line

from benchmarks.sets import LabelledPlane
from napari_sam_lora.training.data.samples import Labelled

SCRIBBLES = 3
SCRIBBLE_LENGTH = 60


def label_partly(plane: LabelledPlane, share: float, rng: np.random.Generator) -> LabelledPlane:
    """Return a plane with labels of a random share of its objects, at least one, and with scribbles as background."""
    ids = np.unique(plane.labels[plane.labels > 0])
    kept = rng.choice(ids, max(1, round(share * len(ids))), replace=False)
    labels = np.where(np.isin(plane.labels, kept), plane.labels, 0)
    return replace(plane, labels=labels, background=scribbles(plane.labels == 0, rng))


def scribbles(free: NDArray[np.bool_], rng: np.random.Generator, count: int = SCRIBBLES) -> NDArray[np.bool_]:
    """Draw scribbles in the background ``free`` (y, x); return their pixels."""
    drawn = np.zeros_like(free)
    if not free.any():
        return drawn
    depth = ndi.distance_transform_edt(free)
    open_background = np.argwhere(free & (depth >= np.median(depth[free])))
    for y, x in open_background[rng.integers(len(open_background), size=count)]:
        angle = rng.uniform(0, 2 * np.pi)
        end = (round(y + SCRIBBLE_LENGTH * np.sin(angle)), round(x + SCRIBBLE_LENGTH * np.cos(angle)))
        rows, columns = line(int(y), int(x), *end)
        inside = (rows >= 0) & (rows < free.shape[0]) & (columns >= 0) & (columns < free.shape[1])
        rows, columns = rows[inside], columns[inside]
        length = int(np.argmin(np.append(free[rows, columns], False)))  # up to the first object
        drawn[rows[:length], columns[:length]] = True
    return ndi.binary_dilation(drawn, np.ones((3, 3))) & free


def training_pairs(planes: Sequence[LabelledPlane]) -> list[Labelled]:
    """Return planes as pairs for training that tell where background is known."""
    return [(plane.image, plane.labels, {}, None, plane.background) for plane in planes]

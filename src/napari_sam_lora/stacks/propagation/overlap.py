"""Objects of one plane that never overlap: each pixel goes to the one with the higher logit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam_lora.labels import find_objects
from napari_sam_lora.regions import Region

_FULL = np.ones((3, 3), np.bool_)


class Contest:
    """Whose pixel is whose.

    Parameters
    ----------
    shape : tuple of int
        (y, x) of the plane.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._best = np.full(shape, -np.inf, np.float32)
        self._owner = np.zeros(shape, np.int64)

    def add(self, label: int, region: Region, logits: NDArray[np.float32]) -> None:
        """Let an object claim the pixels of a region, with logits (h, w) of its crop."""
        y0, x0, y1, x1 = region.box
        best, owner = self._best[y0:y1, x0:x1], self._owner[y0:y1, x0:x1]
        won = region.crop & (logits > best)
        best[won] = logits[won]
        owner[won] = label

    def regions(self) -> dict[int, Region]:
        """What each object has won; those that won nothing are left out."""
        return regions_of(self._owner)


def regions_of(labels: NDArray[np.integer[Any]]) -> dict[int, Region]:
    """The objects of a label plane (y, x) by id."""
    found = {}
    for one in find_objects(labels):
        y0, x0, y1, x1 = one.box
        found[one.label] = Region((y0, x0), labels[y0:y1, x0:x1] == one.label)
    return found


def without_strays(region: Region, before: Region) -> Region:
    """Fill the holes of a mask and leave out connected parts that do not touch the mask in the plane before."""
    crop = ndi.binary_fill_holes(region.crop) if region.area else region.crop
    parts, count = ndi.label(crop, _FULL)
    if count > 1:
        touched = np.unique(parts[before.within(region.box)])
        crop = np.isin(parts, touched[touched > 0])
    return Region.of(crop, region.origin)


def overlap(region: Region, other: Region) -> float:
    """Intersection over union; 0 if both are empty."""
    both = int(np.count_nonzero(region.crop & other.within(region.box)))
    union = region.area + other.area - both
    return both / union if union else 0.0

"""Resolve overlaps of objects in a plane: each pixel goes to the object with the higher logit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam_lora.labels import find_objects
from napari_sam_lora.regions import Region

_EIGHT_NEIGHBOURS = np.ones((3, 3), np.bool_)


class OverlapResolver:
    """Assigns each pixel to the object with the highest logit.

    Parameters
    ----------
    shape : tuple of int
        (y, x) of the plane.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._best = np.full(shape, -np.inf, np.float32)
        self._owner = np.zeros(shape, np.int64)

    def add(self, label: int, region: Region, logits: NDArray[np.float32]) -> None:
        """Add an object with its region, and logits (h, w) of the region's crop."""
        y0, x0, y1, x1 = region.box
        best, owner = self._best[y0:y1, x0:x1], self._owner[y0:y1, x0:x1]
        is_highest = region.crop & (logits > best)
        best[is_highest] = logits[is_highest]
        owner[is_highest] = label

    def regions(self) -> dict[int, Region]:
        """Return the pixels of each object; objects without any pixel are left out."""
        return regions_of(self._owner)


def regions_of(labels: NDArray[np.integer[Any]]) -> dict[int, Region]:
    """Return the objects of a label plane (y, x) by id."""
    regions = {}
    for one in find_objects(labels):
        y0, x0, y1, x1 = one.box
        regions[one.label] = Region((y0, x0), labels[y0:y1, x0:x1] == one.label)
    return regions


def without_strays(region: Region, before: Region) -> Region:
    """Fill the holes of a mask and leave out connected parts that do not touch the mask in the plane before."""
    crop = ndi.binary_fill_holes(region.crop) if region.area else region.crop
    components, count = ndi.label(crop, _EIGHT_NEIGHBOURS)
    if count > 1:
        touched = np.unique(components[before.within(region.box)])
        crop = np.isin(components, touched[touched > 0])
    return Region.of(crop, region.origin)

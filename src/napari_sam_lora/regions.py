"""Masks cropped to their bounding box, so that many of them fit in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Region:
    """A mask, cropped to its bounding box.

    Attributes
    ----------
    origin : tuple of int
        (y, x) of the first pixel of ``crop`` in the plane.
    crop : bool (h, w)
    """

    origin: tuple[int, int]
    crop: NDArray[np.bool_]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], corner: tuple[int, int] = (0, 0)) -> Region:
        """Crop a mask (y, x), whose first pixel lies at ``corner``; an empty mask gives an empty crop."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return cls(corner, np.zeros((0, 0), np.bool_))
        top, left = int(rows[0]), int(columns[0])
        return cls((corner[0] + top, corner[1] + left), mask[top : rows[-1] + 1, left : columns[-1] + 1].copy())

    @classmethod
    def empty(cls) -> Region:
        """Return a region without a pixel."""
        return cls((0, 0), np.zeros((0, 0), np.bool_))

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.crop))

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Bounding box in the plane: half-open y0, x0, y1, x1."""
        (top, left), (height, width) = self.origin, self.crop.shape
        return top, left, top + height, left + width

    def moved(self, dy: int, dx: int) -> Region:
        """Return the same pixels somewhere else in the plane, or in pixels of a part of it."""
        return Region((self.origin[0] + dy, self.origin[1] + dx), self.crop)

    def to_mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the full mask, bool (y, x) of this shape; what lies outside it is cut off."""
        return self.within((0, 0, *shape))

    def within(self, box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
        """Return the part of the mask in a box (y0, x0, y1, x1) of the plane, bool in the shape of the box."""
        (y0, x0, y1, x1), (v0, u0, v1, u1) = box, self.box
        part = np.zeros((y1 - y0, x1 - x0), np.bool_)
        top, left, bottom, right = max(y0, v0), max(x0, u0), min(y1, v1), min(x1, u1)
        if top < bottom and left < right:
            part[top - y0 : bottom - y0, left - x0 : right - x0] = self.crop[
                top - v0 : bottom - v0, left - u0 : right - u0
            ]
        return part

    def write(self, plane: NDArray[Any], value: int) -> None:
        """Set the mask's pixels in a plane (y, x) to a value, in place."""
        y0, x0, y1, x1 = self.box
        plane[y0:y1, x0:x1][self.crop] = value


def union_box(regions: Iterable[Region]) -> tuple[int, int, int, int]:
    """Return the bounding box (y0, x0, y1, x1) around regions, half-open; an empty box if none has a pixel."""
    boxes = np.array([region.box for region in regions if region.crop.size], np.int64).reshape(-1, 4)
    if not len(boxes):
        return 0, 0, 0, 0
    (y0, x0), (y1, x1) = boxes[:, :2].min(0).tolist(), boxes[:, 2:].max(0).tolist()
    return y0, x0, y1, x1


def unite(regions: Iterable[Region]) -> Region:
    """Return the pixels of all regions together."""
    parts = list(regions)
    y0, x0, y1, x1 = union_box(parts)
    crop = np.zeros((y1 - y0, x1 - x0), np.bool_)
    for part in parts:
        top, left, bottom, right = part.box
        crop[top - y0 : bottom - y0, left - x0 : right - x0] |= part.crop
    return Region((y0, x0), crop)

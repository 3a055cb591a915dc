"""Masks cut to their bounding box, so that many of them can be kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Region:
    """The pixels of a mask.

    Attributes
    ----------
    origin : tuple of int
        (y, x) of the first pixel of ``crop`` in the plane.
    crop : bool (h, w)
    """

    origin: tuple[int, int]
    crop: NDArray[np.bool_]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Region:
        """Cut a mask (y, x) to its bounding box; an empty mask gives an empty crop."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return cls((0, 0), np.zeros((0, 0), np.bool_))
        top, left = int(rows[0]), int(columns[0])
        return cls((top, left), mask[top : rows[-1] + 1, left : columns[-1] + 1].copy())

    @property
    def area(self) -> int:
        """Pixels."""
        return int(np.count_nonzero(self.crop))

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Half-open y0, x0, y1, x1."""
        (top, left), (height, width) = self.origin, self.crop.shape
        return top, left, top + height, left + width

    def to_mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask (y, x) again; what lies outside the shape is cut off."""
        mask = np.zeros(shape, np.bool_)
        top, left, bottom, right = self.box
        part = mask[top:bottom, left:right]
        part[...] = self.crop[: part.shape[0], : part.shape[1]]
        return mask

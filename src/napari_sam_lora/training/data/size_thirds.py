"""Divide objects into small, middle and large ones, and draw them so that none of these is rare."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

THIRDS = ("small", "middle", "large")


def size_thirds(areas: Sequence[int]) -> NDArray[np.intp]:
    """Return the third (n,) of each object by its area: 0 small, 1 middle, 2 large; equal areas are in the same one."""
    return np.searchsorted(np.quantile(areas, [1 / 3, 2 / 3]) if len(areas) else [], areas)

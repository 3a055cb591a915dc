"""Which planes a stroke of napari's brush has reached."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

Index = tuple[int, ...]


def planes_of_stroke(event: Any) -> set[Index]:
    """Positions of the planes of the last two axes that a brush of more than two dimensions has reached.

    Empty for any other change of a Labels layer, which is in the plane that is shown. The value of the ``paint`` event
    is another one in each version of napari; what is not understood counts as nothing.

    Parameters
    ----------
    event : napari event
        Of a Labels layer.
    """
    layer = event.source
    if event.type != "paint" or layer.ndim < 3 or layer.n_edit_dimensions < 3:
        return set()
    found: set[Index] = set()
    for part in event.value:
        found |= _of_slices(part.slice_key, layer.ndim) if hasattr(part, "slice_key") else _of_indices(part)
    return found


def _of_slices(slices: Any, ndim: int) -> set[Index]:
    if len(slices) != ndim or not all(isinstance(one, slice) for one in slices):
        return set()
    return set(product(*(range(one.start, one.stop) for one in slices[:-2])))


def _of_indices(part: Any) -> set[Index]:
    """Of (arrays with a position along each axis, values before, values after)."""
    indices = part[0] if isinstance(part, tuple) and len(part) == 3 else ()
    if not isinstance(indices, tuple) or len(indices) < 3:
        return set()
    return {tuple(place) for place in np.unique(np.stack(indices[:-2], axis=1), axis=0).tolist()}

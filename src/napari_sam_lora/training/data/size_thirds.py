"""Divide objects by size into thirds, and draw them so that usual ones do not crowd out the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.training.data.samples import ObjectRef, Plane

THIRDS = ("small", "middle", "large")


def size_thirds(areas: Sequence[float]) -> NDArray[np.intp]:
    """Return the third (n,) of each object by its area: 0 small, 1 middle, 2 large; equal areas are in the same one."""
    return np.searchsorted(np.quantile(areas, [1 / 3, 2 / 3]) if len(areas) else [], areas)


def balanced_shares(planes: Sequence[Plane], objects: Sequence[ObjectRef]) -> dict[int, NDArray[np.float64]]:
    """Return how often the objects of each plane are drawn, by plane and in their order; the sum of a plane is 1.

    Classes of a plane are drawn equally often, where objects have classes, and within each class small, middle and
    large objects are. What is small is decided over all these objects, at the resolution that the model sees.
    """
    thirds = size_thirds([_shown_area(planes[ref.plane], ref.label) for ref in objects])
    groups: dict[int, list[tuple[int | None, int]]] = {}
    for ref, third in zip(objects, thirds.tolist(), strict=True):
        groups.setdefault(ref.plane, []).append((planes[ref.plane].classes.get(ref.label), third))
    return {plane: _shares(own) for plane, own in groups.items()}


def _shares(groups: Sequence[tuple[Hashable, Hashable]]) -> NDArray[np.float64]:
    """Divide 1 equally among classes, that of a class among its thirds, and that of a third among its objects."""
    counts = Counter(groups)
    thirds_of = Counter(class_id for class_id, _ in counts)
    return np.array([1 / (len(thirds_of) * thirds_of[group[0]] * counts[group]) for group in groups])


def _shown_area(plane: Plane, label: int) -> float:
    area = next(found.area for found in plane.objects if found.label == label)
    (height, width), (shown_height, shown_width) = plane.prepared.shape, plane.prepared.resized_shape
    return area * shown_height * shown_width / (height * width)

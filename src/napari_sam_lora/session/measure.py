"""Which objects are where, measured plane by plane and only where something has changed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.labels import find_objects
from napari_sam_lora.session.planes import PlaneKey
from napari_sam_lora.session.records import ObjectStats
from napari_sam_lora.session.stores import LabelStore

# Label images with more pixels are measured in the planes that were shown or edited only.
LARGE = 2**26
Index = tuple[int, ...]


@dataclass(frozen=True)
class _Part:
    area: int
    centroid: tuple[float, float]
    box: tuple[int, int, int, int]


class Measure:
    """Area, centroid and box of all objects, from the planes of the last two axes.

    Parameters
    ----------
    store : LabelStore
    """

    def __init__(self, store: LabelStore) -> None:
        self._store = store
        self._parts: dict[Index, dict[int, _Part]] = {}
        self._where: dict[int, set[Index]] = {}
        leading = store.shape[:-2]
        self._large = math.prod(store.shape) > LARGE
        self._unseen_max = store.max_label() if self._large else 0
        self._dirty: set[Index] = set() if self._large else set(np.ndindex(*leading))

    def touch(self, plane: PlaneKey, where: NDArray[np.bool_] | None = None) -> None:
        """Measure again where this plane, or a part (y, x) of it, lies."""
        ndim = plane.ndim
        ranges: list[NDArray[np.intp]] = []
        rest = iter(plane.index)
        for axis in range(ndim):
            if axis not in plane.axes:
                ranges.append(np.array([next(rest)]))
            elif where is None:
                ranges.append(np.arange(self._store.shape[axis]))
            else:
                ranges.append(np.flatnonzero(where.any(1 - plane.axes.index(axis))))
        for index in np.ndindex(*(len(places) for places in ranges[:-2])):
            self._dirty.add(tuple(int(places[i]) for places, i in zip(ranges, index, strict=False)))

    def scan(self) -> None:
        """Measure all planes, of a large label image too."""
        if self._large:
            self._dirty |= set(np.ndindex(*self._store.shape[:-2])) - self._parts.keys()
            self._large, self._unseen_max = False, 0

    def ids(self) -> list[int]:
        """Objects that are in the pixels, in order."""
        self._refresh()
        return sorted(self._where)

    def largest_id(self) -> int:
        """The largest id in the pixels."""
        self._refresh()
        return max(max(self._where, default=0), self._unseen_max)

    def planes_of(self, label: int) -> list[PlaneKey]:
        """Planes of the last two axes in which an object is."""
        self._refresh()
        return [PlaneKey.of("", len(self._store.shape), index) for index in sorted(self._where.get(label, ()))]

    def labelled(self) -> list[Index]:
        """Positions of the planes that have objects."""
        self._refresh()
        return sorted(index for index, parts in self._parts.items() if parts)

    def stats(self, label: int) -> ObjectStats:
        """One object that is in the pixels."""
        self._refresh()
        parts = {index: self._parts[index][label] for index in sorted(self._where[label])}
        areas = np.array([part.area for part in parts.values()])
        centres = np.array([(*index, *part.centroid) for index, part in parts.items()])
        boxes = np.array([part.box for part in parts.values()])
        first, last = boxes[:, :2].min(0), boxes[:, 2:].max(0)
        indices = np.array(list(parts)).reshape(len(parts), -1)
        starts, stops = [*indices.min(0), *first], [*indices.max(0) + 1, *last]
        return ObjectStats(
            area=int(areas.sum()),
            centroid=tuple(float(value) for value in np.average(centres, axis=0, weights=areas)),
            box=tuple(slice(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)),
            plane_index=list(parts)[int(areas.argmax())],
        )

    def _refresh(self) -> None:
        for index in self._dirty:
            for label in self._parts.get(index, ()):
                self._where[label].discard(index)
                if not self._where[label]:
                    del self._where[label]
            parts = _measure(self._store.read(PlaneKey.of("", len(self._store.shape), index)))
            self._parts[index] = parts
            for label in parts:
                self._where.setdefault(label, set()).add(index)
        self._dirty.clear()


def _measure(plane: NDArray[np.int64]) -> dict[int, _Part]:
    parts = {}
    for found in find_objects(plane):
        y0, x0, y1, x1 = found.box
        ys, xs = np.nonzero(plane[y0:y1, x0:x1] == found.label)
        parts[found.label] = _Part(found.area, (y0 + float(ys.mean()), x0 + float(xs.mean())), found.box)
    return parts

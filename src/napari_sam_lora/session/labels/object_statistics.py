"""Which objects are where, measured plane by plane and only where something has changed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.labels import areas_in, find_objects
from napari_sam_lora.regions import Region
from napari_sam_lora.session.labels.records import ObjectStats
from napari_sam_lora.session.labels.stores import LabelStore
from napari_sam_lora.session.plane_key import Box, PlaneKey

# Label images with more pixels are measured in the planes that were shown or edited only.
LARGE = 2**26
Index = tuple[int, ...]


@dataclass(frozen=True)
class _Part:
    area: int
    centroid: tuple[float, float]
    box: Box


class ObjectStatistics:
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

    @property
    def is_partial(self) -> bool:
        """Whether there may be planes that were never measured, as in a large label image."""
        return self._large

    def touch(self, plane: PlaneKey, where: NDArray[np.bool_] | None = None, origin: tuple[int, int] = (0, 0)) -> None:
        """Measure again where this plane lies, or pixels (y, x) of it or of a part that begins at an origin."""
        ndim = plane.ndim
        ranges: list[NDArray[np.intp]] = []
        rest = iter(plane.index)
        for axis in range(ndim):
            if axis not in plane.axes:
                ranges.append(np.array([next(rest)]))
            elif where is None:
                ranges.append(np.arange(self._store.shape[axis]))
            else:
                side = plane.axes.index(axis)
                ranges.append(np.flatnonzero(where.any(1 - side)) + origin[side])
        for index in np.ndindex(*(len(places) for places in ranges[:-2])):
            self._dirty.add(tuple(int(places[i]) for places, i in zip(ranges, index, strict=False)))

    def see(self, plane: PlaneKey) -> None:
        """Measure where this plane lies, if that was never done."""
        if self._large:
            measured = self._parts.keys() - self._dirty
            self.touch(plane)
            self._dirty -= measured

    def update(
        self, plane: PlaneKey, labels: Iterable[int], where: NDArray[np.bool_], origin: tuple[int, int] = (0, 0)
    ) -> None:
        """Measure some objects of a plane again, after a change.

        Parameters
        ----------
        labels : iterable of int
            The objects that gained or lost pixels.
        where : bool (y, x)
            The pixels that changed, of the plane or of a part of it.
        origin : tuple of int
            (y, x) of that part in the plane.
        """
        parts = self._parts.get(plane.index)
        if parts is None or plane.index in self._dirty or plane.axes != (plane.ndim - 2, plane.ndim - 1):
            self.touch(plane, where, origin)
            return
        y0, x0, y1, x1 = Region.of(where).box
        labels = list(labels)
        if len(labels) * (y1 - y0) * (x1 - x0) > math.prod(plane.shape(self._store.shape)):
            self._dirty.add(plane.index)  # looking at the whole plane once is quicker than for each of them
            return
        changed = (y0 + origin[0], x0 + origin[1], y1 + origin[0], x1 + origin[1])
        for label in labels:
            known = parts.pop(label, None)
            box = changed if known is None else _around(changed, known.box)
            places = self._where.setdefault(label, set())
            mask = self._store.read(plane, box) == label
            if mask.any():
                parts[label] = _part(mask, box[0], box[1])
                places.add(plane.index)
            else:
                places.discard(plane.index)
                if not places:
                    del self._where[label]

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

    def areas(self) -> dict[int, int]:
        """Pixels of each object in all planes, in the order of the ids."""
        self._refresh()
        areas = dict.fromkeys(sorted(self._where), 0)
        for parts in self._parts.values():
            for label, part in parts.items():
                areas[label] += part.area
        return areas

    def ids_in(self, plane: PlaneKey) -> list[int]:
        """Objects in a plane, in order; a plane of the last two axes is read only if it was not measured yet."""
        if sorted(plane.axes) != [plane.ndim - 2, plane.ndim - 1]:
            return list(areas_in(self._store.read(plane)))
        self.see(plane)
        self._refresh()
        return sorted(self._parts[plane.index])

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
            parts = _statistics(self._store.read(PlaneKey.of("", len(self._store.shape), index)))
            self._parts[index] = parts
            for label in parts:
                self._where.setdefault(label, set()).add(index)
        self._dirty.clear()


def _around(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _statistics(plane: NDArray[np.int64]) -> dict[int, _Part]:
    found = {}
    for one in find_objects(plane):
        y0, x0, y1, x1 = one.box
        found[one.label] = _part(plane[y0:y1, x0:x1] == one.label, y0, x0)
    return found


def _part(mask: NDArray[np.bool_], y0: int, x0: int) -> _Part:
    """One object, whose mask (h, w) of a part of a plane that begins here has at least one pixel."""
    ys, xs = np.nonzero(mask)
    box = (y0 + int(ys[0]), x0 + int(xs.min()), y0 + int(ys[-1]) + 1, x0 + int(xs.max()) + 1)
    return _Part(len(ys), (y0 + float(ys.mean()), x0 + float(xs.mean())), box)

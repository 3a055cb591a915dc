"""Area, centroid and box of objects, measured plane by plane and only where pixels have changed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.labels import areas_in, find_objects
from napari_sam_lora.regions import Region
from napari_sam_lora.session.labels.records import ObjectStats
from napari_sam_lora.session.labels.stores import LabelStore, Pixels
from napari_sam_lora.session.plane_key import Box, PlaneKey

# Label images with more pixels are measured only in planes that were shown or edited.
LARGE = 2**26
Index = tuple[int, ...]


@dataclass(frozen=True)
class _PlaneStats:
    """Measurements of one object in one plane."""

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
        self._by_plane: dict[Index, dict[int, _PlaneStats]] = {}
        self._where: dict[int, set[Index]] = {}
        leading = store.shape[:-2]
        self._large = math.prod(store.shape) > LARGE
        self._unseen_max = store.max_label() if self._large else 0
        self._dirty: set[Index] = set() if self._large else set(np.ndindex(*leading))

    @property
    def is_partial(self) -> bool:
        """Return whether some planes may never have been measured, as in a large label image."""
        return self._large

    def touch(self, plane: PlaneKey, where: NDArray[np.bool_] | None = None, origin: tuple[int, int] = (0, 0)) -> None:
        """Mark the planes that this plane crosses for measuring, or those of some of its pixels.

        Parameters
        ----------
        plane : PlaneKey
            Plane of any view.
        where : bool (y, x), optional
            Pixels that changed, of the plane or of a box of it; by default all.
        origin : tuple of int
            (y, x) of the box in the plane.
        """
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
        """Mark the planes that this plane crosses for measuring, if they were never measured."""
        if self._large:
            measured = self._by_plane.keys() - self._dirty
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
            The pixels that changed, of the plane or of a box of it.
        origin : tuple of int
            (y, x) of the box in the plane.
        """
        measured = self._by_plane.get(plane.index)
        if measured is None or plane.index in self._dirty or plane.axes != (plane.ndim - 2, plane.ndim - 1):
            self.touch(plane, where, origin)
            return
        y0, x0, y1, x1 = Region.of(where).box
        labels = list(labels)
        if len(labels) * (y1 - y0) * (x1 - x0) > math.prod(plane.shape(self._store.shape)):
            self._dirty.add(plane.index)  # measuring the whole plane once is faster
            return
        changed = (y0 + origin[0], x0 + origin[1], y1 + origin[0], x1 + origin[1])
        for label in labels:
            before = measured.pop(label, None)
            box = changed if before is None else _enclosing_box(changed, before.box)
            places = self._where.setdefault(label, set())
            mask = self._store.read(plane, box) == label
            if mask.any():
                measured[label] = _measure(mask, box[0], box[1])
                places.add(plane.index)
            else:
                places.discard(plane.index)
                if not places:
                    del self._where[label]

    def scan(self) -> None:
        """Mark all planes for measuring that were not measured yet, also in a large label image."""
        if self._large:
            self._dirty |= set(np.ndindex(*self._store.shape[:-2])) - self._by_plane.keys()
            self._large, self._unseen_max = False, 0

    def ids(self) -> list[int]:
        """List the ids of all objects that have pixels, in order."""
        self._refresh()
        return sorted(self._where)

    def largest_id(self) -> int:
        """Return the largest id in use."""
        self._refresh()
        return max(max(self._where, default=0), self._unseen_max)

    def areas(self) -> dict[int, int]:
        """Count the pixels of each object in all planes, by id in order."""
        self._refresh()
        areas = dict.fromkeys(sorted(self._where), 0)
        for measured in self._by_plane.values():
            for label, stats in measured.items():
                areas[label] += stats.area
        return areas

    def ids_in(self, plane: PlaneKey) -> list[int]:
        """List the ids of a plane in order; a plane of the last two axes is read only if it was not measured yet."""
        if sorted(plane.axes) != [plane.ndim - 2, plane.ndim - 1]:
            return list(areas_in(self._store.read(plane)))
        self.see(plane)
        self._refresh()
        return sorted(self._by_plane[plane.index])

    def planes_of(self, label: int) -> list[PlaneKey]:
        """List the planes of the last two axes that an object is in."""
        self._refresh()
        return [PlaneKey.of("", len(self._store.shape), index) for index in sorted(self._where.get(label, ()))]

    def labelled(self) -> list[Index]:
        """List the positions of the planes that have objects."""
        self._refresh()
        return sorted(index for index, measured in self._by_plane.items() if measured)

    def stats(self, label: int) -> ObjectStats:
        """Measure one object that has pixels, over all its planes."""
        self._refresh()
        planes = {index: self._by_plane[index][label] for index in sorted(self._where[label])}
        areas = np.array([one.area for one in planes.values()])
        centres = np.array([(*index, *one.centroid) for index, one in planes.items()])
        boxes = np.array([one.box for one in planes.values()])
        first, last = boxes[:, :2].min(0), boxes[:, 2:].max(0)
        indices = np.array(list(planes)).reshape(len(planes), -1)
        starts, stops = [*indices.min(0), *first], [*indices.max(0) + 1, *last]
        return ObjectStats(
            area=int(areas.sum()),
            centroid=tuple(float(value) for value in np.average(centres, axis=0, weights=areas)),
            box=tuple(slice(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)),
            plane_index=list(planes)[int(areas.argmax())],
        )

    def _refresh(self) -> None:
        """Measure all marked planes."""
        for index in self._dirty:
            for label in self._by_plane.get(index, ()):
                self._where[label].discard(index)
                if not self._where[label]:
                    del self._where[label]
            measured = _measure_plane(self._store.read(PlaneKey.of("", len(self._store.shape), index)))
            self._by_plane[index] = measured
            for label in measured:
                self._where.setdefault(label, set()).add(index)
        self._dirty.clear()


def _enclosing_box(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _measure_plane(plane: Pixels) -> dict[int, _PlaneStats]:
    """Measure all objects of a plane (y, x)."""
    measured = {}
    for one in find_objects(plane):
        y0, x0, y1, x1 = one.box
        measured[one.label] = _measure(plane[y0:y1, x0:x1] == one.label, y0, x0)
    return measured


def _measure(mask: NDArray[np.bool_], y0: int, x0: int) -> _PlaneStats:
    """Measure an object from its non-empty mask (h, w), which begins at (y0, x0) in the plane."""
    ys, xs = np.nonzero(mask)
    box = (y0 + int(ys[0]), x0 + int(xs.min()), y0 + int(ys[-1]) + 1, x0 + int(xs.max()) + 1)
    return _PlaneStats(len(ys), (y0 + float(ys.mean()), x0 + float(xs.mean())), box)

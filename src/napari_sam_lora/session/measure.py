"""Which objects are where, measured plane by plane and only where something has changed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam_lora.labels import find_objects
from napari_sam_lora.session.planes import PlaneKey
from napari_sam_lora.session.records import ObjectStats
from napari_sam_lora.session.regions import Region
from napari_sam_lora.session.stores import LabelStore

# Label images with more pixels are measured in the planes that were shown or edited only.
LARGE = 2**26
# Up to this id, places of objects are kept in a list by id.
LARGEST_DENSE = 2**20
Index = tuple[int, ...]
_Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Part:
    area: int
    centroid: tuple[float, float]
    box: _Box


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

    def see(self, plane: PlaneKey) -> None:
        """Measure where this plane lies, if that was never done."""
        if self._large:
            measured = self._parts.keys() - self._dirty
            self.touch(plane)
            self._dirty -= measured

    def update(
        self, plane: PlaneKey, labels: Iterable[int], where: NDArray[np.bool_], pixels: NDArray[np.int64]
    ) -> None:
        """Measure some objects of a plane again, after a change.

        Parameters
        ----------
        labels : iterable of int
            The objects that gained or lost pixels.
        where : bool (y, x)
            The pixels that changed.
        pixels : int64 (y, x)
            The plane as it is now.
        """
        parts = self._parts.get(plane.index)
        if parts is None or plane.index in self._dirty or plane.axes != (plane.ndim - 2, plane.ndim - 1):
            self.touch(plane, where)
            return
        y0, x0, y1, x1 = Region.of(where).box
        for label in labels:
            known = parts.pop(label, None)
            box = (y0, x0, y1, x1) if known is None else _around((y0, x0, y1, x1), known.box)
            rows, columns = slice(box[0], box[2]), slice(box[1], box[3])
            places = self._where.setdefault(label, set())
            if (pixels[rows, columns] == label).any():
                parts[label] = _part(pixels, label, rows, columns)
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


def _around(a: _Box, b: _Box) -> _Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _measure(plane: NDArray[np.int64]) -> dict[int, _Part]:
    if int(plane.max(initial=0)) <= LARGEST_DENSE:
        boxes = {label: place for label, place in enumerate(ndi.find_objects(plane), start=1) if place is not None}
    else:
        boxes = {
            found.label: (slice(found.box[0], found.box[2]), slice(found.box[1], found.box[3]))
            for found in find_objects(plane)
        }
    return {label: _part(plane, label, *boxes[label]) for label in boxes}


def _part(plane: NDArray[np.int64], label: int, rows: slice, columns: slice) -> _Part:
    """One object that is somewhere in this part of a plane."""
    ys, xs = np.nonzero(plane[rows, columns] == label)
    y0, x0 = int(rows.start), int(columns.start)
    box = (y0 + int(ys[0]), x0 + int(xs.min()), y0 + int(ys[-1]) + 1, x0 + int(xs.max()) + 1)
    return _Part(len(ys), (y0 + float(ys.mean()), x0 + float(xs.mean())), box)

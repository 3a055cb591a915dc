"""Planes of a stack along one axis, and what their labels were when some work began."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.session.labelset import LabelSet
from napari_sam_lora.session.planes import ImageSource, PlaneKey
from napari_sam_lora.session.regions import Region


@dataclass(frozen=True, eq=False)
class StackPlanes:
    """The planes of an image along one axis, and what its labels were when the work began.

    Attributes
    ----------
    plane : PlaneKey
        One of the planes.
    axis : int
        Position in ``plane.index`` of the axis to go along.
    source : ImageSource
    kept : mapping of int to bytes
        Labels that stay, by plane, compressed; planes without labels are left out.
    redone : mapping of (int, int) to Region
        Masks by plane and object that are made anew.
    closed : frozenset of int
        Planes marked as complete.
    """

    plane: PlaneKey
    axis: int
    source: ImageSource
    kept: Mapping[int, bytes]
    redone: Mapping[tuple[int, int], Region]
    closed: frozenset[int]

    def __len__(self) -> int:
        return self.source.shape[self.plane.other_axes[self.axis]]

    def __getitem__(self, index: int) -> NDArray[Any]:
        return self.source.read(self.at(index))

    def at(self, index: int) -> PlaneKey:
        """The plane at a position along the axis."""
        return self.plane.neighbour(index - self.plane.index[self.axis], self.axis)

    def labels(self, index: int) -> NDArray[np.int64]:
        """Labels (y, x) that stay."""
        shape = self.plane.shape(self.source.shape)
        if index not in self.kept:
            return np.zeros(shape, np.int64)
        return np.frombuffer(zlib.decompress(self.kept[index]), np.int64).reshape(shape)

    def with_objects(self, ids: Sequence[int]) -> KeptLabels:
        """Labels that stay, as a mapping of the planes that have any of these objects."""
        found = (index for index in sorted(self.kept) if np.isin(self.labels(index), ids).any())
        return KeptLabels(self, tuple(found))


@dataclass(frozen=True, eq=False)
class KeptLabels(Mapping[int, NDArray[np.int64]]):
    """Labels that stay: of the planes with objects to follow as a mapping, of any plane by its index."""

    planes: StackPlanes
    indices: tuple[int, ...]

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        return self.planes.labels(index)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __contains__(self, index: object) -> bool:
        return index in self.indices


def snapshot_planes(
    labels: LabelSet, source: ImageSource, plane: PlaneKey, axis: int, ids: Sequence[int], redo: bool
) -> StackPlanes:
    """Copy what a propagation needs of the labels; only planes with labels are kept."""
    made = StackPlanes(plane, axis, source, {}, {}, frozenset())
    count = len(made)
    wanted = range(count)
    if plane.axes == (plane.ndim - 2, plane.ndim - 1):
        known = {one.index for one in labels.labelled_planes()}
        wanted = [index for index in range(count) if made.at(index).index in known]  # type: ignore[assignment]
    records = {record.id: record for record in labels.records()}
    kept, redone = dict[int, bytes](), dict[tuple[int, int], Region]()
    for index in wanted:
        key, pixels = made.at(index), labels.store.read(made.at(index))
        for label in np.intersect1d(pixels, list(ids)) if redo else ():
            if label in records and records[label].origin_in(key) == "propagated" and not records[label].approved:
                redone[index, int(label)] = Region.of(pixels == label)
                pixels[pixels == label] = 0
        if pixels.any():
            kept[index] = zlib.compress(pixels.tobytes(), 1)
    closed = frozenset(index for index in range(count) if made.at(index).on("") in labels.complete_planes)
    for index, label in [place for place in redone if place[0] in closed]:
        del redone[index, label]
    return replace(made, kept=kept, redone=redone, closed=closed)

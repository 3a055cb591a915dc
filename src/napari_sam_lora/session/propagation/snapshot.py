"""Planes of a stack along one axis, and what their labels were when some work began."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.labels import areas_in, find_objects
from napari_sam_lora.regions import Region
from napari_sam_lora.session.labels.label_set import LabelSet
from napari_sam_lora.session.labels.records import ObjectRecord, StoredPrompts
from napari_sam_lora.session.plane_key import ImageSource, PlaneKey

if TYPE_CHECKING:
    from napari_sam_lora.stacks.propagation.config import Direction, PropagationConfig


@dataclass(frozen=True)
class Packed:
    """Labels of a plane in little memory.

    Attributes
    ----------
    dtype : str
    data : bytes
    """

    dtype: str
    data: bytes

    def pixels(self, shape: tuple[int, int]) -> NDArray[np.int64]:
        """Labels (y, x)."""
        return np.frombuffer(zlib.decompress(self.data), self.dtype).reshape(shape).astype(np.int64)


def pack(pixels: NDArray[np.int64]) -> Packed:
    """Labels (y, x) of a plane in little memory."""
    small = pixels.astype(np.min_scalar_type(int(pixels.max(initial=0))))
    return Packed(small.dtype.str, zlib.compress(small.tobytes(), 1))


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
    kept : mapping of int to Packed
        Labels that stay, by plane; planes without labels are left out.
    redone : mapping of (int, int) to Region
        Masks by plane and object that are made anew.
    closed : frozenset of int
        Planes marked as complete, within the bounds.
    replayed : mapping of int to dict
        Stored prompts to replay before objects are followed, by plane and object.
    """

    plane: PlaneKey
    axis: int
    source: ImageSource
    kept: Mapping[int, Packed]
    redone: Mapping[tuple[int, int], Region]
    closed: frozenset[int]
    replayed: Mapping[int, dict[int, tuple[StoredPrompts, ...]]]
    _unpacked: dict[int, NDArray[np.int64]] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return self.source.shape[self.plane.other_axes[self.axis]]

    def __getitem__(self, index: int) -> NDArray[Any]:
        return self.source.read(self.at(index))

    def at(self, index: int) -> PlaneKey:
        """The plane at a position along the axis."""
        return self.plane.neighbour(index - self.plane.index[self.axis], self.axis)

    def labels(self, index: int) -> NDArray[np.int64]:
        """Labels (y, x) that stay; not to be written to. Those of the last plane that was asked for are at hand."""
        pixels = self._unpacked.get(index)
        if pixels is None:
            shape = self.plane.shape(self.source.shape)
            pixels = self.kept[index].pixels(shape) if index in self.kept else np.zeros(shape, np.int64)
            pixels.setflags(write=False)
            self._unpacked.clear()
            self._unpacked[index] = pixels
        return pixels

    def with_labels(self, index: int, pixels: NDArray[np.int64]) -> StackPlanes:
        """The same with other labels (y, x) in a plane."""
        return replace(self, kept={**self.kept, index: pack(pixels)})

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
    labels: LabelSet,
    source: ImageSource,
    plane: PlaneKey,
    axis: int,
    ids: Sequence[int],
    config: PropagationConfig | None,
    redo: bool,
    replay: bool,
) -> StackPlanes:
    """Copy what a propagation needs of the labels; only planes with labels are kept."""
    made = StackPlanes(plane, axis, source, {}, {}, frozenset(), {})
    wanted = _labelled(labels, made)
    direction, first, last = _limits(config, len(made))
    closed = frozenset(index for index in labels.complete_along(plane, axis) if first <= index <= last)
    seen = _Seen({}, {}, {})
    if redo or replay:
        records = {label: record for record in labels.records() if (label := record.id) in set(ids)}
        open_planes = [index for index in wanted if index not in closed]
        seen = _look(labels, made, wanted, open_planes, records, redo, replay)
        seen = seen.reached(direction, first, last)
    kept, redone = dict[int, Packed](), dict[tuple[int, int], Region]()
    for index in wanted:
        pixels = labels.store.read(made.at(index))
        for label, region in _regions(pixels, seen.redone.get(index, ())):
            redone[index, label] = region
            region.write(pixels, 0)
        if pixels.any():
            kept[index] = pack(pixels)
    return replace(made, kept=kept, redone=redone, closed=closed, replayed=seen.replayed)


def _regions(pixels: NDArray[np.int64], wanted: Collection[int]) -> Iterator[tuple[int, Region]]:
    """Some objects of a plane (y, x)."""
    for one in find_objects(pixels) if wanted else ():
        if one.label in wanted:
            y0, x0, y1, x1 = one.box
            yield one.label, Region((y0, x0), pixels[y0:y1, x0:x1] == one.label)


@dataclass(frozen=True)
class _Seen:
    """By plane: objects that are known there, those to make anew, and prompts to replay."""

    keys: Mapping[int, Collection[int]]
    redone: Mapping[int, Collection[int]]
    replayed: Mapping[int, dict[int, tuple[StoredPrompts, ...]]]

    def reached(self, direction: Direction, first: int, last: int) -> _Seen:
        """Only what the propagation comes to: nothing else may be taken away."""
        spans: dict[int, tuple[int, int]] = {}
        for index in sorted(self.keys):
            if first <= index <= last:
                for label in self.keys[index]:
                    spans[label] = (spans.get(label, (index, index))[0], index)

        def comes_to(index: int, label: int) -> bool:
            if label not in spans or not first <= index <= last:
                return False
            return (direction != "down" and index > spans[label][0]) or (direction != "up" and index < spans[label][1])

        redone = {index: {one for one in here if comes_to(index, one)} for index, here in self.redone.items()}
        replayed = {index: here for index, here in self.replayed.items() if first <= index <= last}
        return _Seen(self.keys, redone, replayed)


def _look(
    labels: LabelSet,
    made: StackPlanes,
    wanted: Iterable[int],
    open_planes: Collection[int],
    records: Mapping[int, ObjectRecord],
    redo: bool,
    replay: bool,
) -> _Seen:
    keys, redone = dict[int, list[int]](), dict[int, list[int]]()
    replayed: dict[int, dict[int, tuple[StoredPrompts, ...]]] = {}
    for index in wanted:
        key = made.at(index)
        for label in areas_in(labels.store.read(key)):
            record = records.get(label)
            if record is None:
                continue
            is_propagated = record.origin_in(key) == "propagated" and not record.approved
            if redo and is_propagated and index in open_planes:
                redone.setdefault(index, []).append(label)
                continue
            keys.setdefault(index, []).append(label)
            stored = record.prompts.get(key, ())
            if replay and stored and index in open_planes and not record.is_checked_in(key):
                replayed.setdefault(index, {})[label] = stored
    return _Seen(keys, redone, replayed)


def _labelled(labels: LabelSet, made: StackPlanes) -> Sequence[int]:
    """Planes that may have labels."""
    plane = made.plane
    if plane.axes != (plane.ndim - 2, plane.ndim - 1):
        return range(len(made))
    known = {one.index for one in labels.labelled_planes()}
    return [index for index in range(len(made)) if made.at(index).index in known]


def _limits(config: PropagationConfig | None, count: int) -> tuple[Direction, int, int]:
    if config is None:
        return "both", 0, count - 1
    return config.direction, *config.bounds(count)

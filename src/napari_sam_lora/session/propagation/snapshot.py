"""Snapshot of the labels of a stack along one axis, taken when a propagation begins."""

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
from napari_sam_lora.session.labels.stores import Pixels
from napari_sam_lora.session.plane_key import ImageSource, PlaneKey

if TYPE_CHECKING:
    from napari_sam_lora.parameters.propagation import Direction, PropagationConfig


@dataclass(frozen=True)
class Packed:
    """Compressed labels of a plane.

    Attributes
    ----------
    dtype : str
    data : bytes
    """

    dtype: str
    data: bytes

    def pixels(self, shape: tuple[int, int]) -> Pixels:
        """Unpack the labels (y, x)."""
        return np.frombuffer(zlib.decompress(self.data), self.dtype).reshape(shape)


def pack(pixels: Pixels) -> Packed:
    """Compress the labels (y, x) of a plane."""
    small = pixels.astype(np.min_scalar_type(int(pixels.max(initial=0))))
    return Packed(small.dtype.str, zlib.compress(small.tobytes(), 1))


@dataclass(frozen=True, eq=False)
class StackPlanes:
    """Planes of an image along one axis, with the labels that they had when the propagation began.

    Attributes
    ----------
    plane : PlaneKey
        Any of the planes.
    axis : int
        Position in ``plane.index`` of the axis to propagate along.
    source : ImageSource
    kept : mapping of int to Packed
        Labels that stay, by plane; planes without labels are left out.
    redone : mapping of (int, int) to Region
        Masks that are replaced, by plane and object.
    closed : frozenset of int
        Planes within the bounds that are marked as complete.
    replayed : mapping of int to dict
        Stored prompts to replay before the propagation, by plane and object.
    """

    plane: PlaneKey
    axis: int
    source: ImageSource
    kept: Mapping[int, Packed]
    redone: Mapping[tuple[int, int], Region]
    closed: frozenset[int]
    replayed: Mapping[int, dict[int, tuple[StoredPrompts, ...]]]
    _unpacked: dict[int, Pixels] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return self.source.shape[self.plane.other_axes[self.axis]]

    def __getitem__(self, index: int) -> NDArray[Any]:
        return self.source.read(self.at(index))

    def at(self, index: int) -> PlaneKey:
        """Return the plane at a position along the axis."""
        return self.plane.neighbour(index - self.plane.index[self.axis], self.axis)

    def labels(self, index: int) -> Pixels:
        """Return the read-only labels (y, x) that stay in a plane; the last plane is cached unpacked."""
        pixels = self._unpacked.get(index)
        if pixels is None:
            shape = self.plane.shape(self.source.shape)
            pixels = self.kept[index].pixels(shape) if index in self.kept else np.zeros(shape, np.uint8)
            pixels.setflags(write=False)
            self._unpacked.clear()
            self._unpacked[index] = pixels
        return pixels

    def with_labels(self, index: int, pixels: Pixels) -> StackPlanes:
        """Return a copy with other labels (y, x) in a plane."""
        return replace(self, kept={**self.kept, index: pack(pixels)})

    def with_objects(self, ids: Sequence[int]) -> KeptLabels:
        """Return the labels that stay in the planes that have any of these objects."""
        indices = (index for index in sorted(self.kept) if np.isin(self.labels(index), ids).any())
        return KeptLabels(self, tuple(indices))


@dataclass(frozen=True, eq=False)
class KeptLabels(Mapping[int, Pixels]):
    """Labels that stay, as a mapping over the planes with objects to follow; other planes too can be indexed."""

    planes: StackPlanes
    indices: tuple[int, ...]

    def __getitem__(self, index: int) -> Pixels:
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
    """Copy the labels that a propagation needs; see `Propagation.start` for the parameters."""
    stack = StackPlanes(plane, axis, source, {}, {}, frozenset(), {})
    indices = _labelled_planes(labels, stack)
    direction, first, last = _direction_and_bounds(config, len(stack))
    closed = frozenset(index for index in labels.complete_along(plane, axis) if first <= index <= last)
    masks = _MasksByPlane({}, {}, {})
    if redo or replay:
        records = {label: record for record in labels.records() if (label := record.id) in set(ids)}
        open_planes = [index for index in indices if index not in closed]
        masks = _sort_masks(labels, stack, indices, open_planes, records, redo, replay)
        masks = masks.within(direction, first, last)
    kept, redone = dict[int, Packed](), dict[tuple[int, int], Region]()
    for index in indices:
        pixels = labels.store.read(stack.at(index))
        for label, region in _regions(pixels, masks.redone.get(index, ())):
            redone[index, label] = region
            region.write(pixels, 0)
        if pixels.any():
            kept[index] = pack(pixels)
    return replace(stack, kept=kept, redone=redone, closed=closed, replayed=masks.replayed)


def _regions(pixels: Pixels, wanted: Collection[int]) -> Iterator[tuple[int, Region]]:
    """Yield the id and mask of some objects of a plane (y, x)."""
    for one in find_objects(pixels) if wanted else ():
        if one.label in wanted:
            y0, x0, y1, x1 = one.box
            yield one.label, Region((y0, x0), pixels[y0:y1, x0:x1] == one.label)


@dataclass(frozen=True)
class _MasksByPlane:
    """Objects of each plane: those with key masks, those whose mask is replaced, and those with prompts to replay."""

    keys: Mapping[int, Collection[int]]
    redone: Mapping[int, Collection[int]]
    replayed: Mapping[int, dict[int, tuple[StoredPrompts, ...]]]

    def within(self, direction: Direction, first: int, last: int) -> _MasksByPlane:
        """Keep only masks that the propagation reaches, because no other mask may be replaced."""
        spans: dict[int, tuple[int, int]] = {}
        for index in sorted(self.keys):
            if first <= index <= last:
                for label in self.keys[index]:
                    spans[label] = (spans.get(label, (index, index))[0], index)

        def reaches(index: int, label: int) -> bool:
            if label not in spans or not first <= index <= last:
                return False
            return (direction != "down" and index > spans[label][0]) or (direction != "up" and index < spans[label][1])

        redone = {index: {one for one in here if reaches(index, one)} for index, here in self.redone.items()}
        replayed = {index: here for index, here in self.replayed.items() if first <= index <= last}
        return _MasksByPlane(self.keys, redone, replayed)


def _sort_masks(
    labels: LabelSet,
    stack: StackPlanes,
    indices: Iterable[int],
    open_planes: Collection[int],
    records: Mapping[int, ObjectRecord],
    redo: bool,
    replay: bool,
) -> _MasksByPlane:
    """Decide for each mask whether it is a key mask, is replaced, or is replayed from its prompts."""
    keys, redone = dict[int, list[int]](), dict[int, list[int]]()
    replayed: dict[int, dict[int, tuple[StoredPrompts, ...]]] = {}
    for index in indices:
        key = stack.at(index)
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
    return _MasksByPlane(keys, redone, replayed)


def _labelled_planes(labels: LabelSet, stack: StackPlanes) -> Sequence[int]:
    """List the positions of the planes that may have labels."""
    plane = stack.plane
    if plane.axes != (plane.ndim - 2, plane.ndim - 1):
        return range(len(stack))
    labelled = {one.index for one in labels.labelled_planes()}
    return [index for index in range(len(stack)) if stack.at(index).index in labelled]


def _direction_and_bounds(config: PropagationConfig | None, count: int) -> tuple[Direction, int, int]:
    if config is None:
        return "both", 0, count - 1
    return config.direction, *config.bounds(count)

"""Frozen snapshots of labelled planes, their objects, and which of them are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from napari_sam_lora.errors import InputError, TrainingError
from napari_sam_lora.images import Prepared, Preprocessing, prepare
from napari_sam_lora.labels import LabelledObject, check_labels, find_objects

BLOCKS = 4  # a lone image is split by space in BLOCKS x BLOCKS parts
FOLDS = 3
FEWEST_HELD_OUT = 5
FEWEST_OBJECTS = 3


@dataclass(frozen=True, eq=False)
class Plane:
    """A snapshot of one labelled plane.

    Attributes
    ----------
    prepared : Prepared
    labels : int64 (y, x)
        As given.
    resized_labels : int32 (h, w)
        In the frame of ``prepared.pixels``; nearest neighbour.
    objects : tuple of LabelledObject
        Those that are large enough to be seen by the model.
    """

    prepared: Prepared
    labels: NDArray[np.int64]
    resized_labels: NDArray[np.int32]
    objects: tuple[LabelledObject, ...]


@dataclass(frozen=True)
class ObjectRef:
    """An object of a training set.

    Attributes
    ----------
    plane : int
        Index of its plane.
    label : int
        Its id there.
    unit : str
        The image, or part of an image, that is trained on or held out as a whole.
    """

    plane: int
    label: int
    unit: str


@dataclass(frozen=True)
class Split:
    """Which objects a run trains on and which it tests on.

    Attributes
    ----------
    train, test : tuple of ObjectRef
    held_out : tuple of str
        Units of the test objects; given to a later split, they stay held out.
    """

    train: tuple[ObjectRef, ...]
    test: tuple[ObjectRef, ...]
    held_out: tuple[str, ...]


def snapshot(
    pairs: Iterable[tuple[ArrayLike, ArrayLike]], input_size: int, mask_stride: int, preprocessing: Preprocessing
) -> tuple[Plane, ...]:
    """Copy pairs of an image plane and its labels into planes.

    Parameters
    ----------
    pairs : iterable of (image, labels)
        Image (y, x) or (y, x, c), labels (y, x) with 0 for background; what is not labelled is not used.
    input_size : int
        Side of the model input in pixels.
    mask_stride : int
        Input pixels to one pixel of the low-resolution mask; objects of less than two such pixels are left out.
    preprocessing : Preprocessing

    Raises
    ------
    InputError
        If an image and its labels do not fit together.
    TrainingError
        If no object is left.
    """
    planes = []
    for number, (image, labels) in enumerate(pairs):
        prepared = prepare(image, input_size, preprocessing)
        try:
            checked = check_labels(labels, prepared.shape)
        except InputError as error:
            raise InputError(f"Image {number}: {error}") from error
        resized = _resize_labels(checked, prepared.resized_shape)
        visible = {found.label for found in find_objects(resized, smallest=2 * mask_stride**2)}
        objects = tuple(found for found in find_objects(checked) if found.label in visible)
        planes.append(Plane(prepared, checked, resized, objects))
    if not planes:
        raise TrainingError("There is nothing to learn from: no image was given.")
    if not any(plane.objects for plane in planes):
        raise TrainingError(
            "There is nothing to learn from: the label images hold no object that is large enough. "
            "Paint or segment a few objects first."
        )
    return tuple(planes)


def list_objects(planes: Sequence[Plane]) -> tuple[ObjectRef, ...]:
    """All objects; several images are split as wholes, a lone one by space."""
    several = sum(bool(plane.objects) for plane in planes) > 1
    refs = []
    for index, plane in enumerate(planes):
        key = plane.prepared.key
        for found in plane.objects:
            unit = key if several else f"{key}:{_block(found, plane.prepared.shape)}"
            refs.append(ObjectRef(index, found.label, unit))
    return tuple(refs)


def split_objects(objects: Sequence[ObjectRef], share: float, held_out: Sequence[str] = ()) -> Split:
    """Hold out whole units with about a share of the objects.

    The order in which units are held out depends on their content alone, and units in ``held_out`` come first, so
    an object that was held out stays so when labels are added.

    Parameters
    ----------
    share : float
        0 holds nothing out.
    held_out : sequence of str
        Units of an earlier split.

    Returns
    -------
    Split
        At least one unit is left to train on.
    """
    earlier = set(held_out)
    units = sorted({ref.unit for ref in objects}, key=lambda unit: (not _was_held_out(unit, earlier), _order(unit)))
    chosen: set[str] = set()
    count = 0
    for unit in units[:-1]:
        if share <= 0 or (count >= share * len(objects) and not _was_held_out(unit, earlier)):
            break
        chosen.add(unit)
        count += sum(ref.unit == unit for ref in objects)
    return Split(
        train=tuple(ref for ref in objects if ref.unit not in chosen),
        test=tuple(ref for ref in objects if ref.unit in chosen),
        held_out=tuple(sorted(chosen)),
    )


def cross_validation(objects: Sequence[ObjectRef], folds: int = FOLDS) -> list[Split]:
    """Splits in which each object is held out once.

    Units are kept whole where there are enough of them; otherwise single objects are held out.
    """
    units = {ref.unit for ref in objects}
    by_object = len(units) < folds

    def unit_of(ref: ObjectRef) -> str:
        return f"{ref.unit}/{ref.label}" if by_object else ref.unit

    members: dict[str, list[ObjectRef]] = {}
    for ref in objects:
        members.setdefault(unit_of(ref), []).append(ref)
    parts: list[list[ObjectRef]] = [[] for _ in range(min(folds, len(members)))]
    for unit in sorted(members, key=lambda unit: (-len(members[unit]), _order(unit))):
        min(parts, key=len).extend(members[unit])
    return [Split(tuple(ref for ref in objects if ref not in part), tuple(part), ()) for part in map(set, parts)]


def _was_held_out(unit: str, earlier: set[str]) -> bool:
    """Whether a unit, or a part of it, was held out: an image once split by space counts as a whole later."""
    return unit in earlier or any(other.startswith(f"{unit}:") for other in earlier)


def _order(unit: str) -> str:
    return hashlib.blake2b(unit.encode(), digest_size=8).hexdigest()


def _block(found: LabelledObject, shape: tuple[int, int]) -> str:
    y, x = (int(centre / side * BLOCKS) for centre, side in zip(found.centre, shape, strict=True))
    return f"{y},{x}"


def _resize_labels(labels: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int32]:
    # Pillow's 32-bit integer images resize exactly with the nearest neighbour.
    compact: NDArray[Any] = labels.astype(np.int32)
    if labels.shape == shape:
        return compact
    return np.asarray(Image.fromarray(compact).resize((shape[1], shape[0]), Image.Resampling.NEAREST))

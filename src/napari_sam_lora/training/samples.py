"""Frozen snapshots of labelled planes, their objects, and which of them are held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam_lora.errors import InputError, TrainingError
from napari_sam_lora.images import Prepared, Preprocessing, prepare
from napari_sam_lora.labels import LabelledObject, LabelMeaning, check_labels, find_objects, separate_objects
from napari_sam_lora.prompts import Prompts

BLOCKS = 4  # a lone image is split by space in BLOCKS x BLOCKS parts
FOLDS = 3
FEWEST_HELD_OUT = 5
FEWEST_OBJECTS = 3

# An image, its labels, and if known the prompts that the user gave, by object id.
Labelled = tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, Mapping[int, Prompts]]


@dataclass(frozen=True, eq=False)
class Plane:
    """A snapshot of one labelled plane.

    Attributes
    ----------
    prepared : Prepared
    labels : int64 (y, x)
        One id an object.
    resized_labels : int64 (h, w)
        In the frame of ``prepared.pixels``; nearest neighbour.
    objects : tuple of LabelledObject
        Those that are large enough to be seen by the model.
    too_small : int
        Number of those that are not.
    key : str
        Content key of the image as it was given, whatever its preprocessing.
    classes : dict of int to int
        Class of each object, where labels are classes.
    prompts : dict of int to Prompts
        What the user gave for an object, in pixels of the plane; one row each.
    """

    prepared: Prepared
    labels: NDArray[np.int64]
    resized_labels: NDArray[np.int64]
    objects: tuple[LabelledObject, ...]
    too_small: int
    key: str
    classes: Mapping[int, int] = field(default_factory=dict)
    prompts: Mapping[int, Prompts] = field(default_factory=dict)


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
        Units of the test objects, and those held out earlier; given to a later split, they stay held out.
    """

    train: tuple[ObjectRef, ...]
    test: tuple[ObjectRef, ...]
    held_out: tuple[str, ...]


def snapshot(
    pairs: Iterable[Labelled],
    input_size: int,
    mask_stride: int,
    preprocessing: Preprocessing,
    meaning: LabelMeaning = "instances",
) -> tuple[Plane, ...]:
    """Copy pairs of an image plane and its labels into planes.

    Parameters
    ----------
    pairs : iterable of (image, labels) or (image, labels, prompts)
        Image (y, x) or (y, x, c), labels (y, x) with 0 for background; what is not labelled is not used. Prompts
        are those that the user gave: of each id one row, in pixels of the image.
    input_size : int
        Side of the model input in pixels.
    mask_stride : int
        Input pixels to one pixel of the low-resolution mask; objects of less than two such pixels are left out.
    preprocessing : Preprocessing
    meaning : str
        What labels mean, see `separate_objects`.

    Raises
    ------
    InputError
        If an image and its labels do not fit together.
    TrainingError
        If no object is left.
    """
    planes = []
    for number, (image, labels, *prompts) in enumerate(pairs):
        try:
            prepared = prepare(image, input_size, preprocessing)
            objects, classes = separate_objects(check_labels(labels, prepared.shape), meaning)
            given = _check_prompts(prompts[0] if prompts else {}, prepared.shape, meaning)
        except InputError as error:
            raise InputError(f"Image {number}: {error}") from error
        resized = nearest(objects, prepared.resized_shape)
        visible = {found.label for found in find_objects(resized, smallest=2 * mask_stride**2)}
        everyone = find_objects(objects)
        kept = tuple(found for found in everyone if found.label in visible)
        key = _image_key(image)
        planes.append(Plane(prepared, objects, resized, kept, len(everyone) - len(kept), key, classes, given))
    if not planes:
        raise TrainingError("There is nothing to learn from: no image was given.")
    if not any(plane.objects for plane in planes):
        raise TrainingError(
            "There is nothing to learn from: the label images hold no object that is large enough. "
            "Paint or segment a few objects first."
        )
    return tuple(planes)


def remarks(planes: Sequence[Plane]) -> tuple[str, ...]:
    """What a user should know of labels that are not used."""
    found = [
        f"Image {number} has no labelled object that is large enough to be seen; it is left out."
        for number, plane in enumerate(planes)
        if not plane.objects
    ]
    small = sum(plane.too_small for plane in planes)
    if small:
        found.append(f"{small} object{'s are' if small > 1 else ' is'} too small to be seen by the model and left out.")
    return tuple(found)


def list_objects(planes: Sequence[Plane], held_out: Sequence[str] = ()) -> tuple[ObjectRef, ...]:
    """All objects; several images are split as wholes, a lone one by space.

    An image of which parts were held out earlier goes on being split by space.
    """
    several = sum(bool(plane.objects) for plane in planes) > 1
    by_space = {unit.partition(":")[0] for unit in held_out if ":" in unit}
    refs = []
    for index, plane in enumerate(planes):
        whole = several and plane.key not in by_space
        for found in plane.objects:
            unit = plane.key if whole else f"{plane.key}:{_block(found, plane.prepared.shape)}"
            refs.append(ObjectRef(index, found.label, unit))
    return tuple(refs)


def split_objects(objects: Sequence[ObjectRef], share: float, held_out: Sequence[str] = ()) -> Split:
    """Hold out whole units with about a share of the objects.

    The order in which units are held out depends on their content alone, and units in ``held_out`` come first, so
    an object that was held out stays so when labels are added. A unit with so many objects that more than twice the
    share would be held out is left to train on; and no more than the share of the units is held out if they have
    `FEWEST_HELD_OUT` objects, because an adapter needs to see different images.

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
    sizes = Counter(ref.unit for ref in objects)
    units = sorted(sizes, key=lambda unit: (unit not in earlier, _order(unit)))
    chosen: set[str] = set()
    count = 0
    for unit in units if share > 0 else ():
        too_many = count + sizes[unit] > 2 * share * len(objects)
        enough = count >= share * len(objects) or (
            len(chosen) >= max(1, round(share * len(units))) and count >= FEWEST_HELD_OUT
        )
        if len(chosen) < len(units) - 1 and (unit in earlier or not (enough or too_many)):
            chosen.add(unit)
            count += sizes[unit]
    if share > 0 and not chosen and len(units) > 1:
        chosen.add(min(units, key=lambda unit: sizes[unit]))
    return Split(
        train=tuple(ref for ref in objects if ref.unit not in chosen),
        test=tuple(ref for ref in objects if ref.unit in chosen),
        held_out=tuple(sorted(chosen | earlier)),
    )


def plan_folds(objects: Sequence[ObjectRef], split: Split, share: float) -> list[Split]:
    """The splits of a cross-validation where too few objects are held out but there are enough; otherwise none."""
    if share == 0 or len(split.test) >= FEWEST_HELD_OUT or len(objects) < FEWEST_OBJECTS:
        return []
    return cross_validation(objects)


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


def _order(unit: str) -> str:
    return hashlib.blake2b(unit.encode(), digest_size=8).hexdigest()


def _block(found: LabelledObject, shape: tuple[int, int]) -> str:
    y, x = (int(centre / side * BLOCKS) for centre, side in zip(found.centre, shape, strict=True))
    return f"{y},{x}"


def nearest(array: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Resize (y, x) with the nearest neighbour, exact for any whole numbers."""
    if array.shape == shape:
        return array
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for old, new in zip(array.shape, shape, strict=True)
    )
    return np.ascontiguousarray(array[np.ix_(rows, columns)])


def _image_key(image: ArrayLike) -> str:
    array = np.ascontiguousarray(image)
    digest = hashlib.blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=16)
    digest.update(array.tobytes())
    return digest.hexdigest()


def _check_prompts(prompts: Mapping[int, Prompts], shape: tuple[int, int], meaning: LabelMeaning) -> dict[int, Prompts]:
    """Prompts that can be replayed; logits of an earlier mask are not among them."""
    if prompts and meaning != "instances":
        raise InputError("Prompts can be given by object only where labels are instances.")
    kept = {}
    for label, given in prompts.items():
        if len(given) != 1:
            raise InputError(f"The prompts of object {label} must be one row, not {len(given)}.")
        masks = given.masks if given.masks is not None and given.masks.dtype == bool else None
        if masks is not None and masks.shape[1:] != shape:
            raise InputError(f"The mask prompt of object {label} is {masks.shape[1:]}, the image {shape}.")
        if masks is not None or given.has_box(0) or given.point_count(0):
            kept[int(label)] = Prompts(
                given.boxes if given.has_box(0) else None, given.points, given.point_labels, masks
            )
    return kept

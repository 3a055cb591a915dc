"""Copy labelled planes and their objects into frozen snapshots."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam_lora.errors import InputError, TrainingError
from napari_sam_lora.images import Prepared, Preprocessing, StackPosition, prepare, to_rgb8
from napari_sam_lora.labels import LabelledObject, LabelMeaning, check_labels, find_objects, separate_objects
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.text import Caution

# Where pixels without a label are background: everywhere in a plane that is labelled completely, or in a mask (y, x).
Background = bool | NDArray[np.bool_] | None


class TrainingPair(NamedTuple):
    """An image plane and its labels, to train on.

    Attributes
    ----------
    image : array_like (y, x) or (y, x, c)
    labels : array_like of int (y, x)
        0 for pixels without a label.
    prompts : mapping of int to Prompts
        Prompts of the user for an object: one row for its id, in pixels of the image.
    position : StackPosition, optional
        Its position, if it is a plane of a stack.
    background : bool, or bool (y, x), optional
        Where pixels without a label are background: True for a plane that is labelled completely.
    classes : mapping of int to int
        Class (from 1) by object id, where labels are instances; the class of other objects is not known.
    """

    image: ArrayLike
    labels: ArrayLike
    prompts: Mapping[int, Prompts] = MappingProxyType({})
    position: StackPosition | None = None
    background: Background = None
    classes: Mapping[int, int] = MappingProxyType({})


# A `TrainingPair`, or a tuple of its first fields.
Labelled = (
    tuple[ArrayLike, ArrayLike]
    | tuple[ArrayLike, ArrayLike, Mapping[int, Prompts]]
    | tuple[ArrayLike, ArrayLike, Mapping[int, Prompts], StackPosition | None]
    | tuple[ArrayLike, ArrayLike, Mapping[int, Prompts], StackPosition | None, Background]
    | tuple[ArrayLike, ArrayLike, Mapping[int, Prompts], StackPosition | None, Background, Mapping[int, int]]
)


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
        Objects that are large enough for the model.
    too_small : int
        Number of objects that are too small.
    key : str
        Content key of the original image, independent of preprocessing.
    classes : dict of int to int
        Class of each object for which it is known.
    prompts : dict of int to Prompts
        Prompts of the user for an object, in pixels of the plane; one row each.
    position : StackPosition, optional
        Its position, if it is a plane of a stack or a crop of a plane.
    image : int
        Number of its training pair; crops of one plane share it.
    background : bool (y, x), optional
        Pixels without a label that are known to belong to no object.
    native : uint8 (y, x, 3), optional
        Pixels at the resolution of the plane, if they are shrunk in ``prepared`` and background is known.
    outside_crops : int
        Number of objects of a large plane that none of its crops holds; counted in the first of them.
    """

    prepared: Prepared
    labels: NDArray[np.int64]
    resized_labels: NDArray[np.int64]
    objects: tuple[LabelledObject, ...]
    too_small: int
    key: str
    classes: Mapping[int, int] = field(default_factory=dict)
    prompts: Mapping[int, Prompts] = field(default_factory=dict)
    position: StackPosition | None = None
    image: int = 0
    background: NDArray[np.bool_] | None = None
    native: NDArray[np.uint8] | None = None
    outside_crops: int = 0


@dataclass(frozen=True)
class ObjectRef:
    """An object of a training set.

    Attributes
    ----------
    plane : int
        Index of its plane.
    label : int
        Its id in that plane.
    unit : str
        Key of the image or stack, or of the region of one, that is trained on or held out as a whole.
    """

    plane: int
    label: int
    unit: str


def snapshot(
    pairs: Iterable[Labelled],
    input_size: int,
    mask_stride: int,
    preprocessing: Preprocessing,
    meaning: LabelMeaning = "instances",
    cut: Callable[[Labelled], Iterable[tuple[Labelled, Preprocessing]]] | None = None,
) -> tuple[Plane, ...]:
    """Copy pairs of an image plane and its labels into planes.

    Parameters
    ----------
    pairs : iterable of TrainingPair, or of tuples of its first fields
        What is not labelled is not used, except where it is known as background.
    input_size : int
        Side of the model input in pixels.
    mask_stride : int
        Input pixels to one pixel of the low-resolution mask; objects of less than two such pixels are left out.
    preprocessing : Preprocessing
    meaning : str
        What labels mean, see `separate_objects`.
    cut : callable, optional
        Replaces a pair by several, such as crops, each with its own preprocessing.

    Raises
    ------
    InputError
        If an image and its labels do not fit together.
    TrainingError
        If there is no object to train on.
    """
    planes = []
    for number, whole in enumerate(pairs):
        try:
            own = [
                _snapshot_pair(pair, number, input_size, mask_stride, shown, meaning)
                for pair, shown in (cut(whole) if cut else ((whole, preprocessing),))
            ]
            planes += _with_objects_outside(own, whole) if meaning == "instances" else own
        except InputError as error:
            raise InputError(f"Image {number}: {error}", code=error.code) from error
    if not planes:
        raise TrainingError("There is nothing to learn from: add at least one image with labels.", code="no-images")
    if not any(plane.objects for plane in planes):
        raise TrainingError(
            "There is nothing to learn from: no labelled object is large enough for the model. "
            "Paint or segment a few objects first.",
            code="no-objects",
        )
    return tuple(planes)


def _with_objects_outside(crops: list[Plane], whole: Labelled) -> list[Plane]:
    """Return the crops of a plane, the first of which counts the objects that are in none."""
    labels = np.asarray(as_pair(whole).labels)
    outside = np.unique(labels[labels != 0]).size - sum(len(crop.objects) + crop.too_small for crop in crops)
    return [replace(crops[0], outside_crops=outside), *crops[1:]] if outside and crops else crops


def _snapshot_pair(
    pair: Labelled, number: int, input_size: int, mask_stride: int, preprocessing: Preprocessing, meaning: LabelMeaning
) -> Plane:
    image, labels, prompts, position, given_background, given_classes = as_pair(pair)
    prepared = prepare(image, input_size, preprocessing)
    objects, classes = separate_objects(check_labels(labels, prepared.shape), meaning)
    if meaning == "instances":
        classes = _known_classes(given_classes)
    replayed = _replayable_prompts(prompts, prepared.shape, meaning)
    resized = nearest(objects, prepared.resized_shape)
    visible = {found.label for found in find_objects(resized, smallest=2 * mask_stride**2)}
    found = find_objects(objects)
    large = tuple(one for one in found if one.label in visible)
    background = _known_background(given_background, objects)
    is_shrunk = background is not None and max(prepared.shape) > input_size
    return Plane(
        prepared,
        objects,
        resized,
        large,
        len(found) - len(large),
        image_key(image),
        classes,
        replayed,
        position,
        number,
        background,
        to_rgb8(image, preprocessing) if is_shrunk else None,
    )


def as_pair(pair: Labelled) -> TrainingPair:
    """Return a pair with all fields.

    Raises
    ------
    InputError
        If it holds something else.
    """
    if not 2 <= len(pair) <= len(TrainingPair._fields):
        raise _not_a_pair()
    image, labels, prompts, position, background, classes = TrainingPair(*pair)
    prompts, classes = prompts or {}, classes or {}
    if not (isinstance(prompts, Mapping) and isinstance(classes, Mapping)):
        raise _not_a_pair()
    if position is not None and not isinstance(position, StackPosition):
        raise InputError(
            f"The position of a plane must be a StackPosition, not {position!r}.", code="not-a-stack-position"
        )
    return TrainingPair(image, labels, prompts, position, background, classes)


def _not_a_pair() -> InputError:
    return InputError(
        "A training pair is (image, labels), optionally with a dict of prompts, a StackPosition, its background and a "
        "dict of classes.",
        code="not-a-training-pair",
    )


def mark_complete(pair: Labelled) -> Labelled:
    """Return the pair as one that is labelled completely, unless it says itself where background is."""
    whole = as_pair(pair)
    return whole._replace(background=True) if whole.background is None else whole


def _known_classes(given: Mapping[int, int]) -> dict[int, int]:
    """Return the classes of objects as plain whole numbers; 0 stands for no class.

    Raises
    ------
    InputError
        If a class is another value.
    """
    for number in given.values():
        if number != int(number) or number < 0:
            raise InputError(f"The class of an object is a whole number from 1, not {number!r}.", code="bad-class")
    return {int(label): int(number) for label, number in given.items() if number}


def _known_background(given: Background, labels: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """Return the known background of a plane, or None if there is none.

    Raises
    ------
    InputError
        If it is neither a bool nor a bool mask of the plane.
    """
    if given is None or given is False:
        return None
    unlabelled = labels == 0
    if given is True:
        found = unlabelled
    else:
        mask = np.asarray(given)
        if mask.dtype != bool or mask.shape != labels.shape:
            raise InputError(
                f"The background must be True, or a bool mask {labels.shape}, not {mask.dtype} {mask.shape}.",
                code="bad-background",
            )
        found = mask & unlabelled
    return found if found.any() else None


def unused_labels(planes: Sequence[Plane]) -> tuple[Caution, ...]:
    """Say which images and how many objects are not used for training, and why."""
    used = {plane.image for plane in planes if plane.objects}
    cautions = [
        Caution(f"Image {number} is left out: it has no labelled object that is large enough.", "image-without-objects")
        for number in dict.fromkeys(plane.image for plane in planes)
        if number not in used
    ]
    small = sum(plane.too_small for plane in planes)
    if small:
        are = "objects are" if small > 1 else "object is"
        cautions.append(Caution(f"{small} {are} left out, being too small for the model.", "objects-too-small"))
    outside = sum(plane.outside_crops for plane in planes)
    if outside:
        are = "objects are" if outside > 1 else "object is"
        message = f"{outside} {are} left out, since no crop of their large plane holds them completely."
        cautions.append(Caution(message, "objects-outside-crops"))
    return tuple(cautions)


def nearest(array: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Resize (y, x) by nearest neighbour, which is exact for labels of any size."""
    if array.shape == shape:
        return array
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for old, new in zip(array.shape, shape, strict=True)
    )
    return np.ascontiguousarray(array[np.ix_(rows, columns)])


def image_key(image: ArrayLike) -> str:
    """Return a hash of an array's content, type and shape."""
    array = np.ascontiguousarray(image)
    digest = hashlib.blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=16)
    digest.update(array.tobytes())
    return digest.hexdigest()


def _replayable_prompts(
    prompts: Mapping[int, Prompts], shape: tuple[int, int], meaning: LabelMeaning
) -> dict[int, Prompts]:
    """Check the user's prompts, and return them without logits of earlier masks, which cannot be replayed."""
    if prompts and meaning != "instances":
        raise InputError(
            "Prompts of objects can be used only where labels are instances.", code="prompts-need-instances"
        )
    replayed = {}
    for label, own in prompts.items():
        if len(own) != 1:
            raise InputError(
                f"The prompts of object {label} must be one row, not {len(own)}.", code="prompts-not-one-row"
            )
        masks = own.masks if own.masks is not None and own.masks.dtype == bool else None
        if masks is not None and masks.shape[1:] != shape:
            raise InputError(
                f"The mask prompt of object {label} has the shape {masks.shape[1:]}, the image {shape}.",
                code="mask-prompt-does-not-fit",
            )
        if masks is not None or own.has_box(0) or own.point_count(0):
            replayed[int(label)] = Prompts(own.boxes if own.has_box(0) else None, own.points, own.point_labels, masks)
    return replayed

"""Frozen snapshots of labelled planes and their objects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam_lora.errors import InputError, TrainingError
from napari_sam_lora.images import Prepared, Preprocessing, StackPosition, prepare, to_rgb8
from napari_sam_lora.labels import LabelledObject, LabelMeaning, check_labels, find_objects, separate_objects
from napari_sam_lora.prompts import Prompts

# Where pixels without a label are background: everywhere in a plane that is labelled completely, or in a mask (y, x).
Background = bool | NDArray[np.bool_] | None
# An image, its labels, if known the prompts that the user gave, by object id, where it lies in a stack, and where its
# unlabelled pixels are background.
Labelled = (
    tuple[ArrayLike, ArrayLike]
    | tuple[ArrayLike, ArrayLike, Mapping[int, Prompts]]
    | tuple[ArrayLike, ArrayLike, Mapping[int, Prompts], StackPosition | None]
    | tuple[ArrayLike, ArrayLike, Mapping[int, Prompts], StackPosition | None, Background]
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
        Those that are large enough to be seen by the model.
    too_small : int
        Number of those that are not.
    key : str
        Content key of the image as it was given, whatever its preprocessing.
    classes : dict of int to int
        Class of each object, where labels are classes.
    prompts : dict of int to Prompts
        What the user gave for an object, in pixels of the plane; one row each.
    position : StackPosition, optional
        Where it lies, if it is a plane of a stack or a crop of a plane.
    image : int
        Number of the pair that it is from; crops of one plane share it.
    background : bool (y, x), optional
        Pixels without a label that are known to belong to no object.
    native : uint8 (y, x, 3), optional
        Pixels at the resolution of the plane, where they are shrunk in ``prepared`` and background is known.
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
        The image or stack, or the part of one, that is trained on or held out as a whole.
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
    pairs : iterable of (image, labels), (image, labels, prompts) or (image, labels, prompts, position)
        Image (y, x) or (y, x, c), labels (y, x) with 0 for background; what is not labelled is not used. Prompts
        are those that the user gave: of each id one row, in pixels of the image. The position is the `StackPosition`
        of a plane of a stack.
    input_size : int
        Side of the model input in pixels.
    mask_stride : int
        Input pixels to one pixel of the low-resolution mask; objects of less than two such pixels are left out.
    preprocessing : Preprocessing
    meaning : str
        What labels mean, see `separate_objects`.
    cut : callable, optional
        What is taken instead of a pair, such as crops, each with the preprocessing that it is shown in.

    Raises
    ------
    InputError
        If an image and its labels do not fit together.
    TrainingError
        If no object is left.
    """
    planes = []
    for number, whole in enumerate(pairs):
        try:
            for pair, shown in cut(whole) if cut else ((whole, preprocessing),):
                planes.append(_take(pair, number, input_size, mask_stride, shown, meaning))
        except InputError as error:
            raise InputError(f"Image {number}: {error}") from error
    if not planes:
        raise TrainingError("There is nothing to learn from: no image was given.")
    if not any(plane.objects for plane in planes):
        raise TrainingError(
            "There is nothing to learn from: the label images hold no object that is large enough. "
            "Paint or segment a few objects first."
        )
    return tuple(planes)


def _take(
    pair: Labelled, number: int, input_size: int, mask_stride: int, preprocessing: Preprocessing, meaning: LabelMeaning
) -> Plane:
    prompts, position = known(pair)
    image, labels = pair[0], pair[1]
    prepared = prepare(image, input_size, preprocessing)
    objects, classes = separate_objects(check_labels(labels, prepared.shape), meaning)
    given = _check_prompts(prompts, prepared.shape, meaning)
    resized = nearest(objects, prepared.resized_shape)
    visible = {found.label for found in find_objects(resized, smallest=2 * mask_stride**2)}
    everyone = find_objects(objects)
    kept = tuple(found for found in everyone if found.label in visible)
    small = len(everyone) - len(kept)
    background = _background(pair, objects)
    shrunk = background is not None and max(prepared.shape) > input_size
    return Plane(
        prepared,
        objects,
        resized,
        kept,
        small,
        image_key(image),
        classes,
        given,
        position,
        number,
        background,
        to_rgb8(image, preprocessing) if shrunk else None,
    )


def background_of(pair: Labelled) -> Background:
    """Where unlabelled pixels of a pair are background, as it was given."""
    return pair[4] if len(pair) == 5 else None


def mark_complete(pair: Labelled) -> Labelled:
    """The pair as one that is labelled completely, unless it says itself where background is."""
    prompts, position = known(pair)
    background = background_of(pair)
    return (pair[0], pair[1], prompts, position, True if background is None else background)


def _background(pair: Labelled, labels: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """Known background of a plane, or None if there is none.

    Raises
    ------
    InputError
        If it is given as something else than a bool or a mask of the plane.
    """
    given = background_of(pair)
    if given is None or given is False:
        return None
    if given is True:
        found = labels == 0
    else:
        mask = np.asarray(given)
        if mask.dtype != bool or mask.shape != labels.shape:
            raise InputError(
                f"Background is True, or a bool mask {labels.shape}, not {mask.dtype} {mask.shape}.",
                code="bad-background",
            )
        found = mask & (labels == 0)
    return found if found.any() else None


def remarks(planes: Sequence[Plane]) -> tuple[str, ...]:
    """What a user should know of labels that are not used."""
    used = {plane.image for plane in planes if plane.objects}
    found = [
        f"Image {number} has no labelled object that is large enough to be seen; it is left out."
        for number in dict.fromkeys(plane.image for plane in planes)
        if number not in used
    ]
    small = sum(plane.too_small for plane in planes)
    if small:
        found.append(f"{small} object{'s are' if small > 1 else ' is'} too small to be seen by the model and left out.")
    return tuple(found)


def nearest(array: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Resize (y, x) with the nearest neighbour, exact for any whole numbers."""
    if array.shape == shape:
        return array
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for old, new in zip(array.shape, shape, strict=True)
    )
    return np.ascontiguousarray(array[np.ix_(rows, columns)])


def known(pair: Labelled) -> tuple[Mapping[int, Prompts], StackPosition | None]:
    """Prompts and position of a pair, where they are given.

    Raises
    ------
    InputError
        If it holds something else.
    """
    image_and_labels, more = pair[:2], (*pair[2:], None, None)
    prompts, position = more[0] or {}, more[1]
    if len(image_and_labels) < 2 or len(pair) > 5 or not isinstance(prompts, Mapping):
        raise InputError(
            "A training pair is (image, labels), and may hold a dict of prompts, a StackPosition and its background."
        )
    if position is not None and not isinstance(position, StackPosition):
        raise InputError(f"The position of a plane is a StackPosition, not {position!r}.")
    return prompts, position


def image_key(image: ArrayLike) -> str:
    """Key of the content of an image as it was given."""
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

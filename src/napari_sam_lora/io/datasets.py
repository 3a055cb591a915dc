"""Read labelled image sets: folders, CSV tables and COCO files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.images import StackPosition
from napari_sam_lora.io.coco.reading import CocoImage, rasterise, read_coco
from napari_sam_lora.io.images import ImageFile, list_images, read_image, read_labels, stem
from napari_sam_lora.io.tables.classes import ObjectClasses, read_object_classes
from napari_sam_lora.io.tables.rows import read_table, stack_position
from napari_sam_lora.io.tables.user_prompts import read_user_prompts
from napari_sam_lora.prompts import Prompts

LABEL_FOLDERS = ("labels", "masks")
_LABEL_COLUMNS = ("labels", "label", "masks", "mask")
_LISTED = 5  # so many files are named in a message

Progress = Callable[[int, int], None]
_Pair = tuple[NDArray[Any], NDArray[np.int64], dict[int, Prompts], StackPosition | None, bool | None, Mapping[int, int]]


@dataclass(frozen=True, eq=False)
class Sample:
    """A labelled plane.

    Attributes
    ----------
    name : str
        File name of the image, with the number of the plane in a stack.
    image : array (y, x) or (y, x, channel)
    labels : int64 (y, x)
    position : StackPosition, optional
        Its position, if it is a plane of a stack.
    user_prompts : dict of int to Prompts
        The user's prompts, one row each, by the object's id.
    complete : bool
        Whether every object is labelled, so that unlabelled pixels are background.
    classes : mapping of int to int
        Class of each object that has one, by the object's id.
    """

    name: str
    image: NDArray[Any]
    labels: NDArray[np.int64]
    position: StackPosition | None = None
    user_prompts: dict[int, Prompts] = field(default_factory=dict)
    complete: bool = False
    classes: Mapping[int, int] = field(default_factory=dict)

    @property
    def pair(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Image and labels, for evaluation."""
        return self.image, self.labels


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled image set.

    Attributes
    ----------
    samples : tuple of Sample
        Planes of a stack without labels are left out.
    warnings : tuple of str
        Messages to the user about images and annotations that were left out.
    class_names : mapping of int to str
        Names of classes by id.
    """

    samples: tuple[Sample, ...]
    warnings: tuple[str, ...]
    class_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def pairs(self) -> list[_Pair]:
        """Images, labels, the user's prompts, positions in stacks, completeness and classes, as for `TrainingPair`."""
        return [
            (one.image, one.labels, one.user_prompts, one.position, one.complete or None, one.classes)
            for one in self.samples
        ]


@dataclass(frozen=True)
class _Entry:
    """An image file, and a function that reads its labels when the image has been read."""

    image: Path
    labels: Callable[[ImageFile], NDArray[np.int64]]
    position: StackPosition | None = None
    user_prompts: Path | None = None
    complete: bool = False
    classes: Callable[[], ObjectClasses] = ObjectClasses


def read_dataset(
    path: Path,
    *,
    image_folder: Path | None = None,
    label_folder: Path | None = None,
    axes: str | None = None,
    classes: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Read a labelled image set.

    Parameters
    ----------
    path : Path
        One of

        - a folder with ``images/`` and ``labels/`` or ``masks/``; an image and its labels have the same name up to
          the ending,
        - a CSV table with the columns ``image`` and ``labels``, which hold paths relative to it. Files that are planes
          of one stack have ``stack`` (its name) and ``plane`` (its number; or one number for each axis that the plane
          does not have, with ``axes``, the two that it has). ``prompts`` names files of `write_user_prompts`,
          ``classes`` files of `write_object_classes` or tables of objects, and ``complete`` is "yes" where every
          object of the plane is labelled,
        - a COCO JSON file, whose categories are the classes of its objects.
    image_folder, label_folder : Path, optional
        Other folders of images and labels. The images of a COCO file are otherwise looked for in ``images/`` beside it
        and beside it.
    axes : str, optional
        See `read_image`.
    classes : bool
        Label ids of a COCO file are its categories.
    progress : callable, optional
        Called with the number of images read and of all images.

    Raises
    ------
    InputError
        If the set cannot be found or is empty, or if files cannot be read or do not fit together; the message names
        them.
    """
    if path.is_dir():
        entries, warnings = _folder(path, image_folder, label_folder, axes)
    elif not path.is_file():
        raise InputError(f"There is no data set {path}: it is neither a folder nor a file.", code="dataset-not-found")
    elif path.suffix.lower() == ".csv":
        entries, warnings = _table(path, axes), []
    elif path.suffix.lower() == ".json":
        entries, warnings = _coco(path, image_folder, classes)
    else:
        raise InputError(
            f"A data set is a folder, a .csv table or a COCO .json file, not {path.name}.", code="wrong-file-ending"
        )
    samples, class_names = _read(entries, axes, progress)
    return Dataset(samples, tuple(warnings), class_names)


def _folder(
    folder: Path, image_folder: Path | None, label_folder: Path | None, axes: str | None
) -> tuple[list[_Entry], list[str]]:
    image_folder = image_folder or folder / "images"
    images = _by_stem(image_folder)
    label_folder = label_folder or _label_folder(folder)
    labels = _by_stem(label_folder)
    common = [name for name in images if name in labels]
    if not common:
        raise InputError(
            f"No image in {image_folder} ({len(images)} images) has labels of the same name in {label_folder} "
            f"({len(labels)} label images).",
            code="no-common-names",
        )
    warnings = [
        f"{len(unpaired)} {kind} left out: {name_some(unpaired)}."
        for kind, unpaired in (
            ("images without labels are", [images[name].name for name in images if name not in labels]),
            ("label images without an image are", [labels[name].name for name in labels if name not in images]),
        )
        if unpaired
    ]
    return [_Entry(images[name], partial(_labels_of_file, labels[name], axes)) for name in common], warnings


def _label_folder(folder: Path) -> Path:
    existing = [folder / name for name in LABEL_FOLDERS if (folder / name).is_dir()]
    if len(existing) == 1:
        return existing[0]
    if existing:
        raise InputError(
            f"{folder} has both labels/ and masks/: choose one with --label-folder.", code="several-label-folders"
        )
    raise InputError(
        f"{folder} has neither labels/ nor masks/ beside images/; name the folder with --label-folder.",
        code="no-label-folder",
    )


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", code="folder-not-found")
    found: dict[str, Path] = {}
    for path in list_images(folder):
        if stem(path) in found:
            raise InputError(
                f"{folder} holds {found[stem(path)].name} and {path.name}: keep one of them.", code="same-name-twice"
            )
        found[stem(path)] = path
    return found


def _table(path: Path, axes: str | None) -> list[_Entry]:
    entries = []
    for line, row in read_table(path):
        labels = next((row[name] for name in _LABEL_COLUMNS if row.get(name)), "")
        if not row.get("image") or not labels:
            raise InputError(
                f"{path.name}, line {line}: a row needs a path in the columns image and labels.", code="row-incomplete"
            )
        read = partial(_labels_of_file, path.parent / labels, axes)
        position = stack_position(row, f"{path.name}, line {line}")
        user_prompts = path.parent / row["prompts"] if row.get("prompts") else None
        complete = row.get("complete", "").strip().lower() in ("1", "true", "yes")
        classes = partial(read_object_classes, path.parent / row["classes"]) if row.get("classes") else ObjectClasses
        entries.append(_Entry(path.parent / row["image"], read, position, user_prompts, complete, classes))
    if not entries:
        raise InputError(f"{path.name} holds no rows; its columns are image and labels.", code="table-empty")
    return entries


def _coco(path: Path, image_folder: Path | None, classes: bool) -> tuple[list[_Entry], list[str]]:
    images = read_coco(path)
    folders = [image_folder] if image_folder else [path.parent / "images", path.parent]
    entries, unlabelled, crowds = [], [], 0
    for image in images:
        crowds += image.crowds
        if not image.annotations:
            unlabelled.append(image.file_name)
            continue
        candidates = [folder / image.file_name for folder in folders]
        file = next((candidate for candidate in candidates if candidate.is_file()), candidates[0])
        known = partial(ObjectClasses, {} if classes else image.categories, image.category_names)
        entries.append(_Entry(file, partial(_labels_of_coco, image, classes), classes=known))
    if not entries:
        raise InputError(f"{path.name} holds no image with annotations.", code="no-annotations")
    warnings = []
    if unlabelled:
        warnings.append(f"{len(unlabelled)} images without annotations are left out: {name_some(unlabelled)}.")
    if crowds:
        warnings.append(f"{crowds} annotations of crowds are left out: they are not single objects.")
    return entries, warnings


def _labels_of_file(path: Path, axes: str | None, image: ImageFile) -> NDArray[np.int64]:
    # Labels have no channels: axes with channels belong to the images only.
    label_axes = axes if axes is None or not set("CS") & set(axes.upper()) else None
    labels = read_labels(path, label_axes)
    if labels.shape != (*image.stack_shape, *image.plane_shape):
        raise InputError(
            f"{image.path.name} is {(*image.stack_shape, *image.plane_shape)}, its labels {path.name} are "
            f"{labels.shape}; they must have the same size.",
            code="labels-do-not-fit",
        )
    return labels


def _labels_of_coco(coco: CocoImage, classes: bool, image: ImageFile) -> NDArray[np.int64]:
    if image.stack_shape:
        message = f"{image.path.name} is a stack; COCO annotations belong to single planes."
        raise InputError(message, code="coco-of-stack")
    return rasterise(coco, image.plane_shape, classes)


def _read(
    entries: Sequence[_Entry], axes: str | None, progress: Progress | None
) -> tuple[tuple[Sample, ...], dict[int, str]]:
    """Read all files and the names of classes, and raise one error that names all that cannot be used.

    The code of the error is that of the problems if they agree, otherwise "several-problems".
    """
    samples: list[Sample] = []
    problems: list[InputError] = []
    class_names: dict[int, str] = {}
    names = _stack_names([entry.image for entry in entries])
    for number, entry in enumerate(entries, start=1):
        try:
            image = read_image(entry.image, axes)
            user_prompts = {} if entry.user_prompts is None else read_user_prompts(entry.user_prompts)
            classes = entry.classes()
            _add_names(class_names, classes.names, entry.image.name)
            whole = Sample(
                image.path.name,
                image.data,
                entry.labels(image),
                entry.position,
                user_prompts,
                entry.complete,
                classes.by_object,
            )
            samples += _planes(whole, image, names[entry.image])
        except InputError as error:
            problems.append(error)
        if progress is not None:
            progress(number, len(entries))
    if problems:
        more = f" And {len(problems) - _LISTED} more." if len(problems) > _LISTED else ""
        head = f"{len(problems)} of {len(entries)} images cannot be used. " if len(entries) > 1 else ""
        codes = {problem.code for problem in problems}
        raise InputError(
            head + " ".join(map(str, problems[:_LISTED])) + more,
            code=codes.pop() if len(codes) == 1 else "several-problems",
        )
    return tuple(samples), class_names


def _add_names(names: dict[int, str], more: Mapping[int, str], image: str) -> None:
    """Add names of classes, in place.

    Raises
    ------
    InputError
        If a class has another name already.
    """
    for class_id, name in more.items():
        if names.setdefault(class_id, name) != name:
            raise InputError(
                f"{image}: class {class_id} is called {name!r}, and {names[class_id]!r} for other images.",
                code="class-names-differ",
            )


def _stack_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Return a name for each file: its stem, as in the viewer, so that a split does not depend on the set's folder."""
    count = Counter(map(stem, paths))
    return {path: stem(path) if count[stem(path)] == 1 else f"{path.parent.name}/{path.name}" for path in paths}


def _planes(whole: Sample, image: ImageFile, stack: str) -> list[Sample]:
    """Return the labelled planes of an image file, which may be a stack with this name."""
    if not image.stack_shape:
        return [whole]
    if whole.user_prompts:
        message = f"{whole.name} is a stack; prompt files belong to single planes."
        raise InputError(message, code="prompts-of-stack")
    label_planes = whole.labels.reshape(-1, *image.plane_shape)
    indices = np.ndindex(*image.stack_shape)
    return [
        replace(whole, name=f"{whole.name}[{number}]", image=plane, labels=ids, position=StackPosition(stack, index))
        for number, (plane, ids, index) in enumerate(zip(image.planes(), label_planes, indices, strict=True))
        if ids.any()
    ]


def name_some(names: Iterable[str]) -> str:
    """Return the first few names as text, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return ", ".join(listed[:_LISTED]) + more

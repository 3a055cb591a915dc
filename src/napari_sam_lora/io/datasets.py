"""Labelled image sets on disk: folders, CSV tables and COCO files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.images import StackPosition
from napari_sam_lora.io.coco.reading import CocoImage, rasterise, read_coco
from napari_sam_lora.io.images import ImageFile, list_images, read_image, read_labels, stem
from napari_sam_lora.io.tables.rows import read_table, stack_position
from napari_sam_lora.io.tables.user_prompts import read_user_prompts
from napari_sam_lora.prompts import Prompts

LABEL_FOLDERS = ("labels", "masks")
_LABEL_COLUMNS = ("labels", "label", "masks", "mask")
_NAMED = 5  # so many files are named in a message

Progress = Callable[[int, int], None]


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
        Where it lies, if it is a plane of a stack.
    given : dict of int to Prompts
        Prompts of one row that a user gave for objects.
    """

    name: str
    image: NDArray[Any]
    labels: NDArray[np.int64]
    position: StackPosition | None = None
    given: dict[int, Prompts] = field(default_factory=dict)

    @property
    def pair(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Image and labels, as evaluation takes them."""
        return self.image, self.labels


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled image set.

    Attributes
    ----------
    samples : tuple of Sample
        Planes of a stack on which nothing is labelled are left out.
    warnings : tuple of str
        What was left out, for a person.
    """

    samples: tuple[Sample, ...]
    warnings: tuple[str, ...]

    @property
    def pairs(self) -> list[tuple[NDArray[Any], NDArray[np.int64], dict[int, Prompts], StackPosition | None]]:
        """Images, labels, prompts that were given, and positions in stacks, as training takes them."""
        return [(sample.image, sample.labels, sample.given, sample.position) for sample in self.samples]


@dataclass(frozen=True)
class _Entry:
    """An image file, and how its labels are read once the image is."""

    image: Path
    labels: Callable[[ImageFile], NDArray[np.int64]]
    position: StackPosition | None = None
    given: Path | None = None


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
        A folder with ``images/`` and ``labels/`` or ``masks/``, where an image and its labels have the same name up
        to the ending; or a CSV table with the columns ``image`` and ``labels``, paths relative to it, and for files
        that are planes of one stack ``stack`` (its name) and ``plane`` (its number, or one for each axis that the
        plane does not have, then also ``axes``, the two that it has), and ``prompts`` for files of
        `write_user_prompts`; or a COCO JSON file.
    image_folder, label_folder : Path, optional
        Where images and labels of a folder are instead; for a COCO file, where its images are, which otherwise are
        looked for beside it and in ``images/`` beside it.
    axes : str, optional
        See `read_image`.
    classes : bool
        Label ids of a COCO file are its categories.
    progress : callable, optional
        Called with the images read and all images.

    Raises
    ------
    InputError
        If the set cannot be found or is empty, or some of its files cannot be read or do not fit together; the
        message names them.
    """
    if path.is_dir():
        entries, warnings = _folder(path, image_folder, label_folder, axes)
    elif not path.is_file():
        raise InputError(f"There is no data set {path}: it is neither a folder nor a file.")
    elif path.suffix.lower() == ".csv":
        entries, warnings = _table(path, axes), []
    elif path.suffix.lower() == ".json":
        entries, warnings = _coco(path, image_folder, classes)
    else:
        raise InputError(f"A data set is a folder, a .csv table or a COCO .json file, unlike {path.name}.")
    return Dataset(_read(entries, axes, progress), tuple(warnings))


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
            f"({len(labels)} label images)."
        )
    warnings = [
        f"{len(lone)} {kind} left out: {name_some(lone)}."
        for kind, lone in (
            ("images without labels are", [images[name].name for name in images if name not in labels]),
            ("label images without an image are", [labels[name].name for name in labels if name not in images]),
        )
        if lone
    ]
    return [_Entry(images[name], partial(_labels_of_file, labels[name], axes)) for name in common], warnings


def _label_folder(folder: Path) -> Path:
    there = [folder / name for name in LABEL_FOLDERS if (folder / name).is_dir()]
    if len(there) == 1:
        return there[0]
    if there:
        raise InputError(f"{folder} has both labels/ and masks/: choose with --label-folder.")
    raise InputError(f"{folder} has neither labels/ nor masks/ beside images/; name the folder with --label-folder.")


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    found: dict[str, Path] = {}
    for path in list_images(folder):
        if stem(path) in found:
            raise InputError(f"{folder} holds {found[stem(path)].name} and {path.name}: keep one of that name.")
        found[stem(path)] = path
    return found


def _table(path: Path, axes: str | None) -> list[_Entry]:
    entries = []
    for line, row in read_table(path):
        labels = next((row[name] for name in _LABEL_COLUMNS if row.get(name)), "")
        if not row.get("image") or not labels:
            raise InputError(f"{path.name}, line {line}: a row needs a path in the columns image and labels.")
        reader = partial(_labels_of_file, path.parent / labels, axes)
        place = stack_position(row, f"{path.name}, line {line}")
        given = path.parent / row["prompts"] if row.get("prompts") else None
        entries.append(_Entry(path.parent / row["image"], reader, place, given))
    if not entries:
        raise InputError(f"{path.name} holds no rows; its columns are image and labels.")
    return entries


def _coco(path: Path, image_folder: Path | None, classes: bool) -> tuple[list[_Entry], list[str]]:
    images = read_coco(path)
    folders = [image_folder] if image_folder else [path.parent / "images", path.parent]
    entries, lone, crowds = [], [], 0
    for image in images:
        crowds += image.crowds
        if not image.annotations:
            lone.append(image.file_name)
            continue
        places = [folder / image.file_name for folder in folders]
        place = next((place for place in places if place.is_file()), places[0])
        entries.append(_Entry(place, partial(_labels_of_coco, image, classes)))
    if not entries:
        raise InputError(f"{path.name} holds no image with annotations.")
    warnings = [f"{len(lone)} images without annotations are left out: {name_some(lone)}."] if lone else []
    if crowds:
        warnings.append(f"{crowds} annotations of crowds are left out: they are not single objects.")
    return entries, warnings


def _labels_of_file(path: Path, axes: str | None, image: ImageFile) -> NDArray[np.int64]:
    # Labels have no channels: an order of axes that names channels is that of the images.
    named = axes if axes is None or not set("CS") & set(axes.upper()) else None
    labels = read_labels(path, named)
    if labels.shape != (*image.stack_shape, *image.plane_shape):
        raise InputError(
            f"{image.path.name} is {(*image.stack_shape, *image.plane_shape)}, its labels {path.name} are "
            f"{labels.shape}; they must be of one size."
        )
    return labels


def _labels_of_coco(coco: CocoImage, classes: bool, image: ImageFile) -> NDArray[np.int64]:
    if image.stack_shape:
        raise InputError(f"{image.path.name} is a stack; COCO annotations are those of single planes.")
    return rasterise(coco, image.plane_shape, classes)


def _read(entries: Sequence[_Entry], axes: str | None, progress: Progress | None) -> tuple[Sample, ...]:
    """Read everything; what is wrong with any file is told in one message."""
    samples: list[Sample] = []
    problems: list[str] = []
    names = _stack_names([entry.image for entry in entries])
    for number, entry in enumerate(entries, start=1):
        try:
            image = read_image(entry.image, axes)
            given = {} if entry.given is None else read_user_prompts(entry.given)
            samples += _samples(image, entry.labels(image), entry.position, names[entry.image], given)
        except InputError as error:
            problems.append(str(error))
        if progress is not None:
            progress(number, len(entries))
    if problems:
        more = f" And {len(problems) - _NAMED} more." if len(problems) > _NAMED else ""
        head = f"{len(problems)} of {len(entries)} images cannot be used. " if len(entries) > 1 else ""
        raise InputError(head + " ".join(problems[:_NAMED]) + more)
    return tuple(samples)


def _stack_names(paths: Sequence[Path]) -> dict[Path, str]:
    """A name for each file: its stem, as in the viewer, so that a split does not depend on where a set is."""
    count = Counter(map(stem, paths))
    return {path: stem(path) if count[stem(path)] == 1 else f"{path.parent.name}/{path.name}" for path in paths}


def _samples(
    image: ImageFile, labels: NDArray[np.int64], position: StackPosition | None, stack: str, given: dict[int, Prompts]
) -> list[Sample]:
    if not image.stack_shape:
        return [Sample(image.path.name, image.data, labels, position, given)]
    if given:
        raise InputError(f"{image.path.name} is a stack; files of prompts are those of single planes.")
    planes = labels.reshape(-1, *image.plane_shape)
    places = np.ndindex(*image.stack_shape)
    return [
        Sample(f"{image.path.name}[{number}]", plane, ids, StackPosition(stack, place))
        for number, (plane, ids, place) in enumerate(zip(image.planes(), planes, places, strict=True))
        if ids.any()
    ]


def name_some(names: Iterable[str]) -> str:
    """The first few names, and how many there are beyond them."""
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more

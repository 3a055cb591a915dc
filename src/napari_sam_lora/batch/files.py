"""Segment the image files of a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.images import list_images, read_image, stem
from napari_sam_lora.io.tiff.writing import write_labels

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.lora.adapter import Adapter

PARTS = 1000  # progress of an image is counted in so many parts


@dataclass(frozen=True)
class FolderResult:
    """What was done.

    Attributes
    ----------
    written : tuple of Path
        Label files.
    objects : int
        In all of them.
    skipped : int
        Images that had a label file already.
    problems : tuple of str
        What could not be segmented, and why.
    """

    written: tuple[Path, ...]
    objects: int
    skipped: int
    problems: tuple[str, ...]


def plan_folder(images: Path, output: Path) -> dict[Path, Path]:
    """The label file of each image of a folder.

    Labels beside the images are called ``NAME_labels.tif``, elsewhere ``NAME.tif``.

    Raises
    ------
    InputError
        If there is nothing to segment, or two images would have one label file.
    """
    if not images.is_dir():
        raise InputError(f"There is no folder {images}: choose the folder of the images.")
    beside = output.resolve() == images.resolve()
    ending = "_labels.tif" if beside else ".tif"
    found = [path for path in list_images(images) if not (beside and path.name.endswith(ending))]
    if not found:
        raise InputError(f"The folder {images} holds no image.")
    targets: dict[Path, Path] = {}
    for image in found:
        target = output / f"{stem(image)}{ending}"
        if target in targets.values():
            raise InputError(f"Several images would be written to {target.name}: give them different names.")
        targets[image] = target
    return targets


def segment_folder(
    progress: Callable[[int, int], None],
    *,
    model: Model,
    adapter: Adapter | None,
    targets: dict[Path, Path],
    overwrite: bool,
) -> FolderResult:
    """Segment everything in each image, plane by plane, and write label TIFFs.

    Images that fail are left out and reported in `FolderResult.problems`.

    Parameters
    ----------
    progress : callable
        Called with what is done and what there is to do; an exception that it raises ends the work.
    """
    from napari_sam_lora.api import Model  # noqa: PLC0415  torch is imported when it is needed

    own = Model(model.loaded, model.preprocessing)  # the session's may be in use meanwhile
    written: list[Path] = []
    problems: list[str] = []
    objects = skipped = 0
    with own.adapted(adapter):
        for number, (image, target) in enumerate(targets.items()):
            progress(number * PARTS, len(targets) * PARTS)
            if target.exists() and not overwrite:
                skipped += 1
                continue
            try:
                found = _segment_file(progress, own, image, target, number, len(targets))
            except (InputError, OSError) as error:
                problems.append(f"{image.name}: {error}")
                continue
            written.append(target)
            objects += found
    progress(len(targets) * PARTS, len(targets) * PARTS)
    return FolderResult(tuple(written), objects, skipped, tuple(problems))


def _segment_file(
    progress: Callable[[int, int], None], model: Model, image: Path, target: Path, number: int, total: int
) -> int:
    file = read_image(image)
    labels = np.zeros((file.plane_count, *file.plane_shape), np.int64)
    for place, plane in enumerate(file.planes()):

        def report(done: int, all_: int, place: int = place) -> None:
            share = (place + done / all_) / file.plane_count
            progress(int((number + share) * PARTS), total * PARTS)

        found = model.segment_everything(plane, progress=report)
        labels[place] = np.where(found > 0, found + labels.max(initial=0), 0)
    write_labels(target, labels.reshape(*file.stack_shape, *file.plane_shape))
    return len(np.unique(labels[labels > 0]))

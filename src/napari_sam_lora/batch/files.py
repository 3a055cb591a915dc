"""Segment the image files of a folder and write label TIFFs."""

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
    from napari_sam_lora.api import Method, Model
    from napari_sam_lora.lora.adapter import Adapter

STEPS_PER_IMAGE = 1000  # of the progress bar


@dataclass(frozen=True)
class FolderResult:
    """Result of segmenting a folder.

    Attributes
    ----------
    written : tuple of Path
        Label files.
    objects : int
        Number of objects in all of them.
    skipped : int
        Number of images that had a label file already.
    problems : tuple of str
        Images that could not be segmented, each with the reason.
    """

    written: tuple[Path, ...]
    objects: int
    skipped: int
    problems: tuple[str, ...]


def plan_folder(images: Path, output: Path) -> dict[Path, Path]:
    """Return the label file for each image of a folder.

    Label files beside the images are called ``NAME_labels.tif``, elsewhere ``NAME.tif``.

    Raises
    ------
    InputError
        If there is nothing to segment, or two images would have the same label file.
    """
    if not images.is_dir():
        raise InputError(f"There is no folder {images}: choose the folder of the images.", code="folder-not-found")
    is_beside = output.resolve() == images.resolve()
    ending = "_labels.tif" if is_beside else ".tif"
    found = [path for path in list_images(images) if not (is_beside and path.name.endswith(ending))]
    if not found:
        raise InputError(f"The folder {images} holds no image.", code="no-image-in-folder")
    targets: dict[Path, Path] = {}
    for image in found:
        target = output / f"{stem(image)}{ending}"
        if target in targets.values():
            raise InputError(
                f"Several images would be written to {target.name}: give them different names.",
                code="outputs-of-one-name",
            )
        targets[image] = target
    return targets


def segment_folder(
    model: Model,
    targets: dict[Path, Path],
    *,
    adapter: Adapter | None,
    overwrite: bool,
    progress: Callable[[int, int], None],
    method: Method | None = None,
) -> FolderResult:
    """Segment everything in each image, plane by plane, and write label TIFFs.

    Images that fail are left out and reported in `FolderResult.problems`.

    Parameters
    ----------
    model : Model
        May be in use at the same time; it is not changed.
    targets : dict of Path to Path
        Label file for each image; see `plan_folder`.
    adapter : Adapter, optional
        None stands for the base model.
    overwrite : bool
        Replace label files that exist; otherwise their images are skipped.
    progress : callable
        Called with the steps done and all steps; an exception that it raises ends the work.
    method : str, optional
        "head" or "clicks", see `Model.segment_everything`. By default the dense head if the model or the adapter has
        one, with the thresholds that were chosen for it.

    Raises
    ------
    InputError
        If the model has no dense head although it is asked for.
    """
    from napari_sam_lora.api import Model  # noqa: PLC0415  torch is imported when it is needed
    from napari_sam_lora.stacks.dense import dense_model  # noqa: PLC0415

    own_model = Model(model.loaded, model.preprocessing)
    all_steps = len(targets) * STEPS_PER_IMAGE
    written: list[Path] = []
    problems: list[str] = []
    objects = skipped = 0
    with own_model.adapted(adapter):
        if method == "head":
            dense_model(own_model.predictor)  # or else each image would fail
        for number, (image, target) in enumerate(targets.items()):

            def report(fraction: float, number: int = number) -> None:
                progress(int((number + fraction) * STEPS_PER_IMAGE), all_steps)

            report(0)
            if target.exists() and not overwrite:
                skipped += 1
                continue
            try:
                objects += _segment_file(own_model, image, target, method, report)
            except (InputError, OSError) as error:
                problems.append(f"{image.name}: {error}")
            else:
                written.append(target)
    progress(all_steps, all_steps)
    return FolderResult(tuple(written), objects, skipped, tuple(problems))


def _segment_file(
    model: Model, image: Path, target: Path, method: Method | None, progress: Callable[[float], None]
) -> int:
    """Segment all planes of an image file, write its label file, and return the number of objects.

    ``progress`` is called with the fraction of the image that is done.
    """
    file = read_image(image)
    labels = np.zeros((file.plane_count, *file.plane_shape), np.int64)
    for number, plane in enumerate(file.planes()):

        def report(batches: int, all_batches: int, number: int = number) -> None:
            progress((number + batches / all_batches) / file.plane_count)

        ids = model.segment_everything(plane, progress=report, method=method)
        labels[number] = np.where(ids > 0, ids + labels.max(initial=0), 0)
    write_labels(target, labels.reshape(*file.stack_shape, *file.plane_shape))
    return len(np.unique(labels[labels > 0]))

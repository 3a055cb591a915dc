"""Write labels in all formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.coco.writing import CocoPlane, Outline, write_coco
from napari_sam_lora.io.dicom.series import ENDINGS as DICOM_ENDINGS
from napari_sam_lora.io.images import stem
from napari_sam_lora.io.label_dtype import label_dtype
from napari_sam_lora.io.nifti import write_nifti
from napari_sam_lora.io.pixel_size import PixelSize
from napari_sam_lora.io.png import plane_paths, write_png
from napari_sam_lora.io.shared.endings import with_ending
from napari_sam_lora.io.shared.existing_files import check_replaceable, keep_previous
from napari_sam_lora.io.tables.objects import ObjectInfo, write_object_table
from napari_sam_lora.io.tiff.writing import write_labels

FORMATS = (".tif", ".tiff", ".ome.tif", ".ome.tiff", ".nii", ".nii.gz", ".png", ".json", ".csv")


def save_labels(
    path: str | Path,
    labels: NDArray[np.integer[Any]],
    attributes: Mapping[str, Any] | None = None,
    *,
    infos: Mapping[int, ObjectInfo] | None = None,
    image: str = "",
    outline: Outline = "auto",
    overwrite: bool = False,
) -> list[Path]:
    """Write labels in the format of the file's ending.

    Parameters
    ----------
    path : path-like
        .tif (an ImageJ hyperstack for Fiji), .ome.tif, .nii, .nii.gz, .png (one file per plane of a stack), .json
        (COCO) or .csv (the table of objects).
    labels : int (..., y, x)
    attributes : mapping, optional
        ``scale``, ``units``, ``translate``, ``affine``, … and ``metadata`` of a napari layer, as `read_layers`
        returns them.
    infos : mapping of int to ObjectInfo, optional
        Class, score and so on by the object's id, for COCO and the table.
    image : str
        Name of the image file, for COCO; by default the name of the labels with the ending .png.
    outline : str
        See `write_coco`.
    overwrite : bool
        Whether a file that exists may be replaced.

    Returns
    -------
    list of Path
        The files that were written, each atomically.

    Raises
    ------
    InputError
        If the format is unknown, a file exists, or the format cannot hold the labels.
    """
    target, layer = Path(path), attributes or {}
    name = target.name.lower()
    if not name.endswith(FORMATS):
        raise InputError(
            f"{target.name} has an unknown file type; labels are written to {', '.join(FORMATS)}.",
            code="wrong-file-ending",
        )
    label_dtype(labels)  # refuses ids that cannot be stored before anything is written
    check_replaceable(_files(target, labels.shape), overwrite)
    if name.endswith((".tif", ".tiff")):
        return [write_labels(target, labels, PixelSize.of_layer(layer))]
    if name.endswith((".nii", ".nii.gz")):
        return [write_nifti(target, np.asarray(labels), layer)]
    if name.endswith(".png"):
        return write_png(target, labels, overwrite)
    if name.endswith(".json"):
        return [_write_coco(target, labels, infos or {}, image, outline)]
    return [write_object_table(target, np.asarray(labels), PixelSize.of_layer(layer), infos)]


def _files(target: Path, shape: tuple[int, ...]) -> list[Path]:
    return plane_paths(target, shape) if target.suffix.lower() == ".png" else [target]


def _write_coco(
    target: Path, labels: NDArray[np.integer[Any]], infos: Mapping[int, ObjectInfo], image: str, outline: Outline
) -> Path:
    image_path = Path(image or f"{stem(target)}.png")
    names = [image_path] if labels.ndim == 2 else plane_paths(image_path, labels.shape)
    classes = {label: info.class_id for label, info in infos.items() if info.class_id}
    scores = {label: info.score for label, info in infos.items()}
    planes = (
        CocoPlane(name.name, np.asarray(labels[index]), classes, scores)
        for name, index in zip(names, np.ndindex(*labels.shape[:-2]), strict=True)
    )
    class_names = {info.class_id: info.class_name for info in infos.values() if info.class_id and info.class_name}
    return write_coco(target, planes, class_names, outline)


def default_ending(image: Path | None, endings: Sequence[str] = FORMATS) -> str:
    """Return the ending for the labels of an image: its own if it is possible, .nii.gz for DICOM, or else .tif."""
    if image is None:
        return ".tif"
    if image.is_dir() or image.suffix.lower() in DICOM_ENDINGS:
        return ".nii.gz"
    return max((one for one in endings if image.name.lower().endswith(one)), key=len, default=".tif")


def write_layer(
    path: str | Path,
    data: Any,
    attributes: Mapping[str, Any],
    default: str,
    infos: Mapping[int, ObjectInfo] | None = None,
) -> list[str]:
    """Write a Labels layer in the format of the file's ending; an existing file is renamed, with a warning.

    Parameters
    ----------
    path : path-like
    data : int array (..., y, x), or the arrays of a multiscale layer
    attributes : mapping
        Of the layer.
    default : str
        Ending that a path without one gets.
    infos : mapping of int to ObjectInfo, optional
        See `save_labels`.

    Returns
    -------
    list of str
        The files that were written.

    Raises
    ------
    InputError
        If the format is unknown or cannot hold the labels.
    """
    target = with_ending(path, FORMATS, default)
    labels = data[0] if isinstance(data, (list, tuple)) or attributes.get("multiscale") else data
    image = f"{attributes.get('name') or stem(target)}.png"
    with keep_previous(_files(target, labels.shape)):
        written = save_labels(target, labels, attributes, infos=infos, image=image)
    return [str(file) for file in written]

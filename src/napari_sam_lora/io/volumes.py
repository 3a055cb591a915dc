"""Read volumes and images as napari layers, with pixel size, position, units and axis labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.dicom.series import ENDINGS as DICOM_ENDINGS
from napari_sam_lora.io.dicom.series import holds_dicom, read_dicom
from napari_sam_lora.io.images import ending, stem
from napari_sam_lora.io.nifti import ENDINGS as NIFTI_ENDINGS
from napari_sam_lora.io.nifti import read_nifti
from napari_sam_lora.io.placement import METADATA, Placement
from napari_sam_lora.io.shared.decoding_errors import unreadable
from napari_sam_lora.io.tiff.damage import raise_on_damage
from napari_sam_lora.io.tiff.pixel_size import pixel_sizes

LayerData = tuple[Any, dict[str, Any], str]
_LABEL_NAME = re.compile(r"(^|[^a-z])(labels?|labelstr|labelsts|seg|segmentations?|masks?|instances)([^a-z]|$)")
# Images have more distinct values than this, label images often fewer.
_MOST_LABEL_VALUES = 32


def read_layers(path: str | Path) -> list[LayerData]:
    """Read a file, or a folder of DICOM slices, as napari layer data tuples.

    Parameters
    ----------
    path : path-like
        NIfTI (.nii, .nii.gz), DICOM (a folder or a file), or TIFF.

    Returns
    -------
    list of (array, dict, str)
        Arrays are (..., z, y, x), channels last if they are colours. Medical volumes are in mm, oriented as
        radiologists view them; `write_nifti` needs ``metadata["napari-sam-lora"]["placement"]`` to write labels in the
        voxel order of the file. The type is "labels" if the file, its name or its folder says so, or it holds few
        different whole numbers.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    source = Path(path)
    if source.is_dir() or not ending(source):
        return _dicom_layers(source)
    return _nifti_layers(source) if source.name.lower().endswith(NIFTI_ENDINGS) else _tiff_layers(source)


def attributes_of(path: Path) -> dict[str, Any]:
    """Return pixel size, units and position of an image file as layer attributes; empty if the file has none."""
    if ending(path) in (".tif", ".tiff"):
        try:
            with tifffile.TiffFile(path) as file:
                series, sizes = file.series[0], pixel_sizes(file)
                lengths = dict(zip(_axes_of(file), series.shape, strict=True))
        except Exception:  # reading the pixels gives the error message
            return {}
        return _axis_attributes([axis for axis in lengths if axis not in "CSYX" and lengths[axis] > 1], sizes)
    if not path.is_dir() and not path.name.lower().endswith((*NIFTI_ENDINGS, *DICOM_ENDINGS)):
        return {}
    names = ("scale", "translate", "affine", "units", "axis_labels", "metadata")
    return {name: value for name, value in read_layers(path)[0][1].items() if name in names}


def _axis_attributes(leading: Sequence[str], sizes: dict[str, tuple[float, str]]) -> dict[str, Any]:
    """Return scale, units and axis labels of a layer with these axes before Y and X."""
    axes = (*leading, "Y", "X")
    sizes_and_units = [sizes.get(axis, (1.0, "pixel")) for axis in axes]
    return {
        "scale": [size for size, _ in sizes_and_units],
        "units": tuple(unit for _, unit in sizes_and_units),
        "axis_labels": _unique([axis.lower() if axis in "TZYX" else f"axis {axis}" for axis in axes]),
    }


def _axes_of(file: tifffile.TiffFile) -> str:
    axes = str(file.series[0].axes)
    return axes.replace("I", "Z") if file.is_imagej and "Z" not in axes else axes


def _nifti_layers(path: Path) -> list[LayerData]:
    volume = read_nifti(path)
    data = volume.data
    names = ("c",) * max(0, data.ndim - 4) + ("t",) * (data.ndim > 3)
    is_labels = volume.is_labels or looks_like_labels(path, data)
    layer = _volume_layer(stem(path), data, volume.placement, volume.steps, volume.units, names)
    return [_as_kind(layer, is_labels)]


def _dicom_layers(path: Path) -> list[LayerData]:
    layers: list[LayerData] = []
    for series in read_dicom(path):
        leading = len(series.axes) - 3
        attributes: dict[str, Any] = {
            "name": series.name,
            "scale": np.array(series.steps),
            "units": series.units,
            "axis_labels": series.axes,
        }
        data = series.data
        if series.placement is not None:
            steps, names = series.steps[:leading], series.axes[:leading]
            data, attributes = _volume_layer(series.name, data, series.placement, steps, series.units, names)
        if series.has_channels:
            layers.append((data, attributes | {"rgb": True}, "image"))
        else:
            layers.append(_as_kind((data, attributes), series.is_segmentation))
    return layers


def _volume_layer(
    name: str,
    data: NDArray[Any],
    placement: Placement,
    steps: Sequence[float],
    units: Sequence[str],
    names: Sequence[str],
) -> tuple[NDArray[Any], dict[str, Any]]:
    """Return data and attributes of a medical volume; ``steps`` and ``names`` belong to the axes before z."""
    transform = placement.transform()
    leading = len(steps)
    transform["scale"] = np.array([*steps, *transform["scale"]])
    if "translate" in transform:
        transform["translate"] = np.array([*(0.0,) * leading, *transform["translate"]])
    if "affine" in transform:
        affine = np.eye(leading + 4)
        affine[leading:, leading:] = transform["affine"]
        transform["affine"] = affine
    attributes = {
        "name": name,
        **transform,
        "units": tuple(unit or "pixel" for unit in units),
        "axis_labels": _unique((*names, "z", "y", "x")),
        "metadata": {METADATA: {"placement": placement.as_dict()}},
    }
    return data, attributes


def _tiff_layers(path: Path) -> list[LayerData]:
    data, axes, sizes = _read_tiff(path)
    channels = [axis for axis in axes if axis in "CS"]
    others = [axis for axis in axes if axis not in ("Y", "X", *channels)]
    kept = [axis for axis in others if data.shape[axes.index(axis)] > 1]
    order = [axes.index(axis) for axis in (*others, "Y", "X", *channels)]
    ordered = data.transpose(order)
    lengths = [data.shape[axes.index(axis)] for axis in (*kept, "Y", "X", *channels)]
    ordered = ordered.reshape(lengths)
    attributes = {"name": stem(path)} | _axis_attributes(kept, sizes)
    if not channels:
        return [_as_kind((ordered, attributes), looks_like_labels(path, ordered, wide=True))]
    if len(channels) > 1:
        ordered = ordered.reshape(*lengths[: len(kept) + 2], -1)
    if channels == ["S"] and ordered.shape[-1] in (3, 4) and ordered.dtype == np.uint8:
        return [(ordered, attributes | {"rgb": True}, "image")]
    count = ordered.shape[-1]
    if count == 1:
        return [(ordered[..., 0], attributes, "image")]
    return [
        (ordered[..., number], attributes | {"name": f"{attributes['name']} [{number}]"}, "image")
        for number in range(count)
    ]


def _read_tiff(path: Path) -> tuple[NDArray[Any], str, dict[str, tuple[float, str]]]:
    if not path.is_file():
        raise InputError(f"There is no file {path}.", code="file-not-found")
    try:
        with raise_on_damage(), tifffile.TiffFile(path) as file:
            series = file.series[0]
            sizes = pixel_sizes(file)
            axes = _axes_of(file)
            data = series.asarray()
    except Exception as error:  # tifffile raises any exception on a damaged file
        raise unreadable(path, error) from error
    if not {"Y", "X"} <= set(axes) or len(set(axes)) != len(axes):
        raise InputError(f"{path.name} has the axes {axes}; they must include Y and X once.", code="invalid-axes")
    return data.astype(data.dtype.newbyteorder("="), copy=False), axes, sizes


def is_tiff(path: str | Path) -> bool:
    """Return whether a file has the signature of a TIFF or BigTIFF."""
    try:
        with Path(path).open("rb") as stream:
            return stream.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    except OSError:
        return False


def looks_like_labels(path: Path, data: NDArray[Any], wide: bool = False) -> bool:
    """Return whether a volume holds labels: whole numbers from 0 on, and its name or folder says so, or they are few.

    With ``wide``, integers of 32 bits and more are labels too, as microscopes do not make such images.
    """
    if data.size == 0 or data.dtype.kind not in "biuf":
        return False
    has_label_name = any(_LABEL_NAME.search(text.lower()) for text in (stem(path), path.resolve().parent.name))
    if data.dtype.kind == "f" and not _is_whole(data):
        return False
    if data.dtype.kind != "b" and data.min() < 0:
        return False
    return has_label_name or (wide and data.dtype.itemsize >= 4 and data.dtype.kind in "iu") or _has_few_values(data)


def _is_whole(data: NDArray[Any]) -> bool:
    return bool(np.isfinite(data).all() and (data == np.rint(data)).all())


def _has_few_values(data: NDArray[Any]) -> bool:
    """Return whether a large array has at most 32 different values, background among them."""
    if data.size < 100 * _MOST_LABEL_VALUES or data.min() != 0 or data.max() > 65535:
        return False
    return int(np.count_nonzero(np.bincount(data.astype(np.int64).ravel()))) <= _MOST_LABEL_VALUES


def _as_kind(layer: tuple[NDArray[Any], dict[str, Any]], is_labels: bool) -> LayerData:
    data, attributes = layer
    if not is_labels:
        return data, attributes, "image"
    if data.dtype.kind in "bf":
        data = data.astype(np.int32)
    return np.ascontiguousarray(data), attributes, "labels"


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name if name not in names[:index] else f"{name}{index}" for index, name in enumerate(names))


def get_reader(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """Return the reader of NIfTI, DICOM and TIFF files for napari; None if one of the paths is something else.

    TIFF files and DICOM folders are recognised by content. Several files become one stack if they have the same shape.
    """
    paths = [path] if isinstance(path, str) else list(path)
    return _read_all if paths and all(_is_supported(Path(one)) for one in paths) else None


def _is_supported(path: Path) -> bool:
    if path.is_dir():
        return holds_dicom(path)
    return path.name.lower().endswith((*NIFTI_ENDINGS, *DICOM_ENDINGS)) or is_tiff(path)


def _read_all(path: Any) -> list[LayerData]:
    paths = [path] if isinstance(path, str) else list(path)
    layers = [layer for one in paths for layer in read_layers(one)]
    data, attributes, kind = layers[0]
    if len(paths) < 2 or len(layers) != len(paths) or any(one[0].shape != data.shape for one in layers):
        return layers
    stacked: dict[str, Any] = {
        "axis_labels": ("file", *attributes["axis_labels"]),
        "units": ("pixel", *attributes["units"]),
        "scale": [1.0, *attributes["scale"]],
    }
    if "translate" in attributes:
        stacked["translate"] = [0.0, *attributes["translate"]]
    if "affine" in attributes:
        stacked["affine"] = np.eye(data.ndim + 2)
        stacked["affine"][1:, 1:] = attributes["affine"]
    kept = {key: value for key, value in attributes.items() if key != "metadata"}
    return [(np.stack([one[0] for one in layers]), kept | stacked, kind)]

"""Volumes and images as napari layers: with pixel size, place, units and names of axes."""

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
from napari_sam_lora.io.tiff.damage import damage_raises
from napari_sam_lora.io.tiff.pixel_size import pixel_sizes

LayerData = tuple[Any, dict[str, Any], str]
_LABEL_WORDS = re.compile(r"(^|[^a-z])(labels?|labelstr|labelsts|seg|segmentations?|masks?|instances)([^a-z]|$)")
# Images of the usual kinds have more distinct values than this.
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
        Arrays are (..., z, y, x), channels last if they are colours. Medical volumes lie as radiologists see them, in
        mm; ``metadata["napari-sam-lora"]["placement"]`` is what `write_nifti` needs to write labels in the order of
        the file. The kind is "labels" if the file, its name or its folder says so, or it holds few whole numbers.

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
    """Pixel size, units and place of an image file, as attributes of a layer; empty if it says nothing of them."""
    if ending(path) in (".tif", ".tiff"):
        try:
            with tifffile.TiffFile(path) as file:
                series, sizes = file.series[0], pixel_sizes(file)
                lengths = dict(zip(_axes_of(file), series.shape, strict=True))
        except Exception:  # whoever reads its pixels will say what is wrong
            return {}
        return _of_axes([axis for axis in lengths if axis not in "CSYX" and lengths[axis] > 1], sizes)
    if not path.is_dir() and not path.name.lower().endswith((*NIFTI_ENDINGS, *DICOM_ENDINGS)):
        return {}
    names = ("scale", "translate", "affine", "units", "axis_labels", "metadata")
    return {name: value for name, value in read_layers(path)[0][1].items() if name in names}


def _of_axes(before: Sequence[str], sizes: dict[str, tuple[float, str]]) -> dict[str, Any]:
    """Attributes of a layer with these axes before Y and X."""
    axes = (*before, "Y", "X")
    known = [sizes.get(axis, (1.0, "pixel")) for axis in axes]
    return {
        "scale": [size for size, _ in known],
        "units": tuple(unit for _, unit in known),
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
    layer = _placed(stem(path), data, volume.placement, volume.steps, volume.units, names)
    return [_as_kind(layer, is_labels)]


def _dicom_layers(path: Path) -> list[LayerData]:
    layers: list[LayerData] = []
    for series in read_dicom(path):
        more = len(series.axes) - 3
        attributes: dict[str, Any] = {
            "name": series.name,
            "scale": np.array(series.steps),
            "units": series.units,
            "axis_labels": series.axes,
        }
        data = series.data
        if series.placement is not None:
            placed = (series.name, data, series.placement, series.steps[:more], series.units, series.axes[:more])
            data, attributes = _placed(*placed)
        if series.has_channels:
            layers.append((data, attributes | {"rgb": True}, "image"))
        else:
            layers.append(_as_kind((data, attributes), series.is_segmentation))
    return layers


def _placed(
    name: str,
    data: NDArray[Any],
    placement: Placement,
    steps: Sequence[float],
    units: Sequence[str],
    names: Sequence[str],
) -> tuple[NDArray[Any], dict[str, Any]]:
    """A layer of a medical volume; ``steps`` and ``names`` are those of the axes before z."""
    transform = placement.transform()
    more = len(steps)
    transform["scale"] = np.array([*steps, *transform["scale"]])
    if "translate" in transform:
        transform["translate"] = np.array([*(0.0,) * more, *transform["translate"]])
    if "affine" in transform:
        grown = np.eye(more + 4)
        grown[more:, more:] = transform["affine"]
        transform["affine"] = grown
    labels = (*names, "z", "y", "x")
    attributes = {
        "name": name,
        **transform,
        "units": tuple(unit or "pixel" for unit in units),
        "axis_labels": _unique(labels),
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
    attributes = {"name": stem(path)} | _of_axes(kept, sizes)
    if not channels:
        return [_as_kind((ordered, attributes), looks_like_labels(path, ordered, wide=True))]
    if len(channels) > 1:
        ordered = ordered.reshape(*lengths[: len(kept) + 2], -1)
    if channels == ["S"] and ordered.shape[-1] in (3, 4) and ordered.dtype == np.uint8:
        return [(ordered, attributes | {"rgb": True}, "image")]
    count = ordered.shape[-1]
    several = [attributes | {"name": f"{attributes['name']} [{number}]"} for number in range(count)]
    return [(ordered[..., number], several[number] if count > 1 else attributes, "image") for number in range(count)]


def _read_tiff(path: Path) -> tuple[NDArray[Any], str, dict[str, tuple[float, str]]]:
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        with damage_raises(), tifffile.TiffFile(path) as file:
            series = file.series[0]
            sizes = pixel_sizes(file)
            axes = _axes_of(file)
            data = series.asarray()
    except Exception as error:  # tifffile raises whatever it likes on a damaged file
        text = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        more = "Its compression needs another package: pip install imagecodecs." if "imagecodecs" in text else text
        raise InputError(f"{path.name} cannot be read: {more}. It may be damaged.") from error
    if not {"Y", "X"} <= set(axes) or len(set(axes)) != len(axes):
        raise InputError(f"{path.name} has the axes {axes}, which are not those of planes (y, x).")
    return data.astype(data.dtype.newbyteorder("="), copy=False), axes, sizes


def is_tiff(path: str | Path) -> bool:
    """Whether a file begins as TIFF files do, BigTIFF included."""
    try:
        with Path(path).open("rb") as stream:
            return stream.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    except OSError:
        return False


def looks_like_labels(path: Path, data: NDArray[Any], wide: bool = False) -> bool:
    """Whether a volume holds labels: whole numbers from 0 on that its name or folder calls labels, or few of them.

    With ``wide`` whole numbers of 32 bits and more are labels too, as microscopes do not make them.
    """
    if data.size == 0 or data.dtype.kind not in "biuf":
        return False
    named = any(_LABEL_WORDS.search(text.lower()) for text in (stem(path), path.resolve().parent.name))
    if data.dtype.kind == "f" and not _is_whole(data):
        return False
    if data.dtype.kind != "b" and data.min() < 0:
        return False
    return named or (wide and data.dtype.itemsize >= 4 and data.dtype.kind in "iu") or _has_few_values(data)


def _is_whole(data: NDArray[Any]) -> bool:
    return bool(np.isfinite(data).all() and (data == np.rint(data)).all())


def _has_few_values(data: NDArray[Any]) -> bool:
    """Whether there are at most 32 values, background among them, in an array that has room for many more."""
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
    return tuple(name if name not in names[:place] else f"{name}{place}" for place, name in enumerate(names))


def get_reader(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """The reader for napari, of NIfTI, DICOM and TIFF; None for what is neither, by content where it can be told.

    Several files, which napari wants as a stack, become one layer if they are of the same shape.
    """
    paths = [path] if isinstance(path, str) else list(path)
    return _read_all if paths and all(_is_ours(Path(one)) for one in paths) else None


def _is_ours(path: Path) -> bool:
    if path.is_dir():
        return holds_dicom(path)
    return path.name.lower().endswith((*NIFTI_ENDINGS, *DICOM_ENDINGS)) or is_tiff(path)


def _read_all(path: Any) -> list[LayerData]:
    paths = [path] if isinstance(path, str) else list(path)
    layers = [layer for one in paths for layer in read_layers(one)]
    data, attributes, kind = layers[0]
    if len(paths) < 2 or len(layers) != len(paths) or any(one[0].shape != data.shape for one in layers):
        return layers
    more: dict[str, Any] = {"axis_labels": ("file", *attributes["axis_labels"])}
    more["units"] = ("pixel", *attributes["units"])
    more["scale"] = [1.0, *attributes["scale"]]
    if "translate" in attributes:
        more["translate"] = [0.0, *attributes["translate"]]
    if "affine" in attributes:
        more["affine"] = np.eye(data.ndim + 2)
        more["affine"][1:, 1:] = attributes["affine"]
    kept = {key: value for key, value in attributes.items() if key != "metadata"}
    return [(np.stack([one[0] for one in layers]), kept | more, kind)]

"""Read images and label images of common file types, as planes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.dicom.series import ENDINGS as DICOM_ENDINGS
from napari_sam_lora.io.dicom.series import holds_dicom, read_dicom
from napari_sam_lora.io.nifti import ENDINGS as NIFTI_ENDINGS
from napari_sam_lora.io.nifti import read_nifti
from napari_sam_lora.io.shared.decoding_errors import unreadable
from napari_sam_lora.io.tiff.damage import raise_on_damage
from napari_sam_lora.labels import check_labels

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
_TIFFS = (".tif", ".tiff")
ENDINGS = (*_PICTURES, *_TIFFS, *NIFTI_ENDINGS, ".npy")
# A last axis without a name holds channels if it is not longer than this.
_MOST_CHANNELS = 4
_CHANNEL_AXES = "CS"


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An image file and its pixels.

    Attributes
    ----------
    path : Path
    data : array (..., y, x) or (..., y, x, channel)
        As stored; axes of length one are left out, except y, x and channel.
    has_channels : bool
        The last axis holds channels.
    """

    path: Path
    data: NDArray[Any]
    has_channels: bool

    @property
    def stack_shape(self) -> tuple[int, ...]:
        """Lengths of the axes before y; empty for a single plane."""
        return self.data.shape[: -3 if self.has_channels else -2]

    @property
    def plane_count(self) -> int:
        """Number of planes."""
        return int(np.prod(self.stack_shape))

    @property
    def plane_shape(self) -> tuple[int, int]:
        """(y, x) of each plane."""
        return self.data.shape[-3:-1] if self.has_channels else self.data.shape[-2:]

    def planes(self) -> Iterator[NDArray[Any]]:
        """Yield each plane (y, x) or (y, x, channel), in the order of the file."""
        flat = self.data.reshape(-1, *self.data.shape[len(self.stack_shape) :])
        yield from flat


def ending(path: Path) -> str:
    """Return the one of `ENDINGS` that a file name has, in lower case; empty if none."""
    name = path.name.lower()
    return max((one for one in ENDINGS if name.endswith(one) and name != one), key=len, default="")


def stem(path: Path) -> str:
    """Return a file name without its ending; ``cell.nii.gz`` and ``cell.ome.tif`` are both ``cell``."""
    if path.is_dir():
        return path.name
    bare = path.name[: len(path.name) - len(ending(path) or path.suffix)]
    return bare[:-4] if bare.lower().endswith(".ome") else bare


def list_images(folder: Path) -> list[Path]:
    """Return the images of a folder, sorted by name; subfolders and hidden files are left out.

    A folder that holds only DICOM slices is itself the image.

    Raises
    ------
    InputError
        If the folder cannot be read.
    """
    try:
        found = sorted(path for path in folder.iterdir() if ending(path) and path.name[0] != "." and path.is_file())
        return found or ([folder] if holds_dicom(folder) else [])
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be read: {error.strerror or error}.", code="folder-not-readable"
        ) from error


def read_image(path: Path, axes: str | None = None) -> ImageFile:
    """Read an image: PNG, JPEG, BMP, TIFF, NIfTI, a NumPy array, or a DICOM series (a folder of slices, or one file).

    Planes of medical volumes are axial, as in the viewer, whatever the voxel order of the file.

    Parameters
    ----------
    path : Path
    axes : str, optional
        One letter per axis, such as "ZYX", "CYX" or "YXC", for TIFF, NIfTI and .npy files that do not name their
        axes. Y and X are the plane, C (or S) channels, all others planes of a stack. By default the file names the
        axes; if it does not, a last axis of at most 4 holds channels.

    Returns
    -------
    ImageFile

    Raises
    ------
    InputError
        If the file does not exist or cannot be read, or the axes do not fit.
    """
    if path.is_dir() or path.suffix.lower() in DICOM_ENDINGS:
        return _read_dicom(path)
    return _arrange(path, *_read(path, _picture_as_image, axes))


def read_labels(path: Path, axes: str | None = None) -> NDArray[np.int64]:
    """Read a label image with its ids as stored, also from palettes, 1-bit images and images with few ids.

    Parameters
    ----------
    path : Path
    axes : str, optional
        See `read_image`.

    Returns
    -------
    int64 (..., y, x)

    Raises
    ------
    InputError
        If the file cannot be read, holds colours or fractions, or is a JPEG, which changes ids.
    """
    if ending(path) in (".jpg", ".jpeg"):
        raise InputError(f"{path.name}: JPEG changes label ids; save the labels as PNG or TIFF.", code="labels-in-jpeg")
    file = _arrange(path, *_read(path, _picture_as_labels, axes))
    data = file.data
    if file.has_channels:
        if (data[..., :3] != data[..., :1]).any():
            raise InputError(
                f"{path.name} holds colours, not label ids; save one channel with one number per object. If its planes "
                "were read as colours, name the axes, such as --axes ZYX.",
                code="labels-are-colours",
            )
        data = data[..., 0]
    try:
        return check_labels(data.reshape(-1, data.shape[-1]), (data[..., 0].size, data.shape[-1])).reshape(data.shape)
    except InputError as error:
        raise InputError(f"{path.name}: {error}", code=error.code) from error


def _read(path: Path, read_picture: Callable[[Path], NDArray[Any]], axes: str | None) -> tuple[NDArray[Any], str]:
    """Return the array of a file and a letter for each axis; ``read_picture`` reads PNG, JPEG and BMP."""
    kind = ending(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}.", code="file-not-found")
    if not kind:
        raise InputError(
            f"{path.name} has an unknown file type; images are read from {', '.join(ENDINGS)}.",
            code="wrong-file-ending",
        )
    try:
        if kind in _PICTURES:
            data = read_picture(path)
            return data, "YXS"[: data.ndim]
        data, found = {
            ".npy": _read_npy,
            **dict.fromkeys(_TIFFS, _read_tiff),
            **dict.fromkeys(NIFTI_ENDINGS, _read_nifti),
        }[kind](path)
    except (InputError, KeyboardInterrupt):
        raise
    except Exception as error:  # decoders raise any exception on a damaged file
        raise unreadable(path, error) from error
    return data, (axes.upper() if axes else found or _guess_axes(data.shape, path))


def _picture_as_image(path: Path) -> NDArray[Any]:
    with Image.open(path) as file:
        if file.mode in ("LA", "La"):
            return np.asarray(file.convert("L"))
        plain = file.mode in ("1", "L", "RGB", "RGBA", "F") or file.mode.startswith("I")
        return np.asarray(file if plain else file.convert("RGB"))


def _picture_as_labels(path: Path) -> NDArray[Any]:
    with Image.open(path) as file:
        data = np.asarray(file)  # in a palette image, the indices are the ids
        return data[..., 0] if file.mode in ("LA", "La", "PA") else data


def _read_tiff(path: Path) -> tuple[NDArray[Any], str]:
    with raise_on_damage(), tifffile.TiffFile(path) as file:
        series = file.series[0]
        return series.asarray(), "" if "Q" in series.axes else series.axes


def _read_npy(path: Path) -> tuple[NDArray[Any], str]:
    return np.load(path, allow_pickle=False), ""


def _read_nifti(path: Path) -> tuple[NDArray[Any], str]:
    data = read_nifti(path).data
    return data, "TZYX"[-data.ndim :] if data.ndim <= 4 else ""


def _read_dicom(path: Path) -> ImageFile:
    series = read_dicom(path)
    if len(series) > 1:
        names = ", ".join(f"{one.name!r} {'x'.join(map(str, one.data.shape))}" for one in series)
        advice = (
            "open it in napari, and save the one that you need" if path.is_file() else "put each into its own folder"
        )
        raise InputError(f"{path} holds {len(series)} series of images ({names}): {advice}.", code="several-series")
    axes = "".join({"frame": "T"}.get(axis, axis.upper()) for axis in series[0].axes)
    return _arrange(path, series[0].data, axes + "C" * series[0].has_channels)


def _guess_axes(shape: tuple[int, ...], path: Path) -> str:
    with_channels = len(shape) > 2 and shape[-1] <= _MOST_CHANNELS < min(shape[-3:-1])
    for axes in ("YXC", "ZYXC", "TZYXC") if with_channels else ("YX", "ZYX", "TZYX"):
        if len(axes) == len(shape):
            return axes
    raise InputError(f"{path.name} has {len(shape)} axes; name them, such as --axes TZYX.", code="axes-not-named")


def _arrange(path: Path, data: NDArray[Any], axes: str) -> ImageFile:
    """Move the axes into the order of `ImageFile`, and drop axes of length one."""
    if len(axes) != data.ndim:
        raise InputError(
            f"{path.name} has {data.ndim} axes {data.shape}, but {axes!r} names {len(axes)}.", code="axes-do-not-fit"
        )
    if len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
        raise InputError(
            f"Axes must be different letters, Y and X among them, such as ZYX or CYX, not {axes!r}.",
            code="invalid-axes",
        )
    if 0 in data.shape:
        raise InputError(f"{path.name} is empty: its shape is {data.shape}.", code="image-empty")
    channels = [axis for axis in axes if axis in _CHANNEL_AXES]
    others = [axis for axis in axes if axis not in ("Y", "X", *channels)]
    ordered = data.transpose([axes.index(axis) for axis in (*others, "Y", "X", *channels)])
    kept = [length for length in ordered.shape[: len(others)] if length > 1]
    plane = ordered.shape[len(others) : len(others) + 2]
    return ImageFile(path, ordered.reshape(*kept, *plane, *([-1] if channels else [])), bool(channels))

"""Read images and label images of the usual kinds, as planes."""

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
from napari_sam_lora.io.tiff.damage import damage_raises
from napari_sam_lora.labels import check_labels

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
_TIFFS = (".tif", ".tiff")
ENDINGS = (*_PICTURES, *_TIFFS, *NIFTI_ENDINGS, ".npy")
# A last axis of unknown meaning that is not longer than this holds channels.
_MOST_CHANNELS = 4
_CHANNEL_AXES = "CS"


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An image as it was read.

    Attributes
    ----------
    path : Path
    data : array (..., y, x) or (..., y, x, channel)
        As stored; axes of length one are left out, except y, x and channel.
    has_channels : bool
        Whether the last axis is that of channels.
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
        """Each plane (y, x) or (y, x, channel), in the order of the file."""
        flat = self.data.reshape(-1, *self.data.shape[len(self.stack_shape) :])
        yield from flat


def ending(path: Path) -> str:
    """Which of `ENDINGS` a file name has, in small letters; empty if none."""
    name = path.name.lower()
    return max((known for known in ENDINGS if name.endswith(known) and name != known), key=len, default="")


def stem(path: Path) -> str:
    """File name without its ending; ``cell.nii.gz`` and ``cell.ome.tif`` are both ``cell``."""
    if path.is_dir():
        return path.name
    bare = path.name[: len(path.name) - len(ending(path) or path.suffix)]
    return bare[:-4] if bare.lower().endswith(".ome") else bare


def list_images(folder: Path) -> list[Path]:
    """Images of a folder (not of those in it), sorted by name; hidden files are left out.

    A folder of DICOM slices and nothing else is itself the image.
    """
    try:
        found = sorted(path for path in folder.iterdir() if ending(path) and path.name[0] != "." and path.is_file())
        return found or ([folder] if holds_dicom(folder) else [])
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read: {error.strerror or error}.") from error


def read_image(path: Path, axes: str | None = None) -> ImageFile:
    """Read PNG, JPEG, BMP, TIFF, NIfTI, a NumPy array, or a DICOM series (a folder of slices, or one file).

    Planes of medical volumes are axial, as in the viewer, whatever the order of voxels in the file.

    Parameters
    ----------
    path : Path
    axes : str, optional
        One letter an axis, such as "ZYX", "CYX" or "YXC", for TIFF, NIfTI and .npy files that do not say it
        themselves; Y and X make the plane, C (or S) are channels, all others are planes of a stack. By default it is
        what the file says, and otherwise a last axis of at most 4 holds channels.

    Returns
    -------
    ImageFile

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read, or the axes do not fit.
    """
    if path.is_dir() or path.suffix.lower() in DICOM_ENDINGS:
        return _read_dicom(path)
    return _arrange(path, *_read(path, _picture_as_image, axes))


def read_labels(path: Path, axes: str | None = None) -> NDArray[np.int64]:
    """Read a label image, every id as it is stored: palettes, 1-bit images and ids 1 to 3 included.

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
        If the file cannot be read, holds colours, or other than whole numbers, or is a JPEG, which changes ids.
    """
    if ending(path) in (".jpg", ".jpeg"):
        raise InputError(f"{path.name}: JPEG changes label ids; save the labels as PNG or TIFF.")
    file = _arrange(path, *_read(path, _picture_as_labels, axes))
    data = file.data
    if file.has_channels:
        if (data[..., :3] != data[..., :1]).any():
            raise InputError(
                f"{path.name} holds colours, not label ids; save one channel with one number an object. If its planes "
                "were taken for colours, name the axes, such as --axes ZYX."
            )
        data = data[..., 0]
    try:
        return check_labels(data.reshape(-1, data.shape[-1]), (data[..., 0].size, data.shape[-1])).reshape(data.shape)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error


def _read(path: Path, picture: Callable[[Path], NDArray[Any]], axes: str | None) -> tuple[NDArray[Any], str]:
    """The array of a file, and a letter for each axis."""
    kind = ending(path)
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    if not kind:
        raise InputError(f"{path.name} is of no known kind; there are {', '.join(ENDINGS)}.")
    try:
        if kind in _PICTURES:
            data = picture(path)
            return data, "YXS"[: data.ndim]
        data, found = {
            ".npy": _read_npy,
            **dict.fromkeys(_TIFFS, _read_tiff),
            **dict.fromkeys(NIFTI_ENDINGS, _read_nifti),
        }[kind](path)
    except (InputError, KeyboardInterrupt):
        raise
    except Exception as error:  # decoders raise whatever they like on a damaged file
        raise InputError(f"{path.name} cannot be read: {_one_line(error)}") from error
    return data, (axes.upper() if axes else found or _guess_axes(data.shape, path))


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if "imagecodecs" in text:
        return "its compression needs another package: pip install imagecodecs."
    return f"{text[:200].rstrip('.')}. It may be damaged."


def _picture_as_image(path: Path) -> NDArray[Any]:
    with Image.open(path) as file:
        if file.mode in ("LA", "La"):
            return np.asarray(file.convert("L"))
        plain = file.mode in ("1", "L", "RGB", "RGBA", "F") or file.mode.startswith("I")
        return np.asarray(file if plain else file.convert("RGB"))


def _picture_as_labels(path: Path) -> NDArray[Any]:
    with Image.open(path) as file:
        data = np.asarray(file)  # of a palette: the indices, which are the ids
        return data[..., 0] if file.mode in ("LA", "La", "PA") else data


def _read_tiff(path: Path) -> tuple[NDArray[Any], str]:
    with damage_raises(), tifffile.TiffFile(path) as file:
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
            "open it in napari, and save the one that you want" if path.is_file() else "put each into its own folder"
        )
        raise InputError(f"{path} holds {len(series)} series of images ({names}): {advice}.")
    axes = "".join({"frame": "T"}.get(axis, axis.upper()) for axis in series[0].axes)
    return _arrange(path, series[0].data, axes + "C" * series[0].has_channels)


def _guess_axes(shape: tuple[int, ...], path: Path) -> str:
    with_channels = len(shape) > 2 and shape[-1] <= _MOST_CHANNELS < min(shape[-3:-1])
    axes = ("YXC", "ZYXC", "TZYXC") if with_channels else ("YX", "ZYX", "TZYX")
    for guess in axes:
        if len(guess) == len(shape):
            return guess
    raise InputError(f"{path.name} has {len(shape)} axes; name them, such as --axes TZYX.")


def _arrange(path: Path, data: NDArray[Any], axes: str) -> ImageFile:
    """Move the axes into the order of `ImageFile`."""
    if len(axes) != data.ndim:
        raise InputError(f"{path.name} has {data.ndim} axes {data.shape}, which {axes!r} does not name.")
    if len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
        raise InputError(f"Axes are letters such as ZYX or CYX, each once, with Y and X among them, not {axes!r}.")
    if 0 in data.shape:
        raise InputError(f"{path.name} is empty: its shape is {data.shape}.")
    channels = [axis for axis in axes if axis in _CHANNEL_AXES]
    others = [axis for axis in axes if axis not in ("Y", "X", *channels)]
    ordered = data.transpose([axes.index(axis) for axis in (*others, "Y", "X", *channels)])
    kept = [length for length in ordered.shape[: len(others)] if length > 1]
    plane = ordered.shape[len(others) : len(others) + 2]
    return ImageFile(path, ordered.reshape(*kept, *plane, *([-1] if channels else [])), bool(channels))

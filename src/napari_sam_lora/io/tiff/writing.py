"""Label images as TIFF and OME-TIFF, with their pixel size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.files import atomic_path
from napari_sam_lora.io.output import PixelSize, id_type

_ENDINGS = (".tif", ".tiff")
# Above this offsets of a classic TIFF may not suffice, compressed or not.
CLASSIC_BYTES = 2**32 - 2**25
_AXES = "TZYX"
_ORIENTATION = 274  # a tag
_LARGEST_RESOLUTION = 2**31  # the tag holds a fraction of 32-bit numbers
_IMAGEJ_UNITS = {"µm": "um", "Å": "A", "in": "inch", "": "pixel"}


def write_labels(path: str | Path, labels: NDArray[np.integer[Any]], size: PixelSize | None = None) -> Path:
    """Write a label image as compressed TIFF, atomically, in the smallest type that holds its ids.

    Up to 65,535 and 4 GiB it is an ImageJ hyperstack, which Fiji opens with pixel size and planes; what does not fit
    is an OME-TIFF, a BigTIFF if need be, which Fiji opens through Bio-Formats. A file called .ome.tif always is.

    Parameters
    ----------
    path : path-like
        Ends in .tif or .tiff.
    labels : int (..., y, x)
        Not negative. Up to four axes are t, z, y, x. Planes are read one by one: it may be a dask or zarr array.
    size : PixelSize, optional

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the ending is another, or an id is negative or does not fit into 32 bits.
    """
    target = Path(path)
    if target.suffix.lower() not in _ENDINGS:
        raise InputError(f"A label TIFF ends in .tif or .tiff, unlike {target.name}.")
    dtype = np.promote_types(id_type(labels), np.uint16)
    wants_ome = target.name.lower().endswith((".ome.tif", ".ome.tiff"))
    nbytes = int(np.prod(labels.shape, dtype=np.float64)) * dtype.itemsize
    known = size or PixelSize((1, 1, 1))
    options = _options(labels.shape, dtype, nbytes, known, wants_ome, int(labels.max(initial=0)))
    with atomic_path(target) as temporary:
        tifffile.imwrite(
            temporary,
            _planes(labels, dtype) if labels.size else labels.astype(dtype),
            shape=labels.shape,
            dtype=dtype,
            compression="zlib",
            photometric="minisblack",
            **options,
        )
    return target


def _options(
    shape: tuple[int, ...], dtype: np.dtype[Any], nbytes: int, size: PixelSize, wants_ome: bool, largest: int
) -> dict[str, Any]:
    """What tifffile is told: the kind of TIFF, and the pixel size in its own terms."""
    axes = _AXES[-len(shape) :] if len(shape) <= len(_AXES) else None
    if len(shape) == 3 and not size.has_depth:
        axes = "TYX"
    is_big = nbytes > CLASSIC_BYTES
    # ImageJ forgets axes of length one.
    suits_imagej = dtype.itemsize == 2 and not is_big and axes is not None and 1 not in shape[:-2]
    if suits_imagej and not wants_ome:
        return _imagej(axes or "", size, largest)
    if wants_ome or size.is_known or is_big:
        if axes is None:
            raise InputError(f"OME-TIFF holds up to four axes of labels (t, z, y, x), not {len(shape)}.")
        return {"ome": True, "bigtiff": is_big, "metadata": _ome(axes, size), **_per_centimetre(size)}
    return {"bigtiff": is_big, "metadata": {"axes": axes} if axes else None}


def _imagej(axes: str, size: PixelSize, largest: int) -> dict[str, Any]:
    # Without a range ImageJ shows a stack by the values of its first plane, which often has no objects.
    described: dict[str, Any] = {"axes": axes, "min": 0.0, "max": float(max(largest, 1))}
    if "T" in axes and size.interval:
        described |= {"finterval": size.interval, "tunit": "s"}
    # ImageJ before 1.52p takes its own stacks for uncompressed, and shows nothing, unless they have an orientation.
    options = {"imagej": True, "metadata": described, "extratags": [(_ORIENTATION, "H", 1, 1, True)]}
    if not size.is_known and size.sides == (1, 1, 1):
        return options
    z, y, x = size.sides
    described["unit"] = _IMAGEJ_UNITS.get(size.unit, size.unit)
    if "Z" in axes:
        described["spacing"] = z
    return options | {"resolution": (1 / x, 1 / y)}


def _ome(axes: str, size: PixelSize) -> dict[str, Any]:
    described: dict[str, Any] = {"axes": axes}
    if size.is_known:
        for axis, side in zip("ZYX", size.sides, strict=True):
            if axis in axes:
                described |= {f"PhysicalSize{axis}": side, f"PhysicalSize{axis}Unit": size.unit}
    if "T" in axes and size.interval:
        described |= {"TimeIncrement": size.interval, "TimeIncrementUnit": "s"}
    return described


def _per_centimetre(size: PixelSize) -> dict[str, Any]:
    """The size along y and x in the tags of the TIFF, for programs that do not read OME-XML, as ImageJ itself."""
    _, y, x = size.micrometres
    resolution = (1e4 / x, 1e4 / y)
    if not size.is_known or max(resolution) > _LARGEST_RESOLUTION or min(resolution) < 1 / _LARGEST_RESOLUTION:
        return {}
    return {"resolution": resolution, "resolutionunit": "CENTIMETER"}


def _planes(labels: NDArray[np.integer[Any]], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    for index in np.ndindex(*labels.shape[:-2]):
        yield np.asarray(labels[index]).astype(dtype)

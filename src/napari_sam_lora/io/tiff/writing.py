"""Write label images as TIFF and OME-TIFF, with their pixel size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.files import atomic_path
from napari_sam_lora.io.label_dtype import label_dtype
from napari_sam_lora.io.pixel_size import PixelSize

_ENDINGS = (".tif", ".tiff")
# Larger images may not fit into the offsets of a classic TIFF, compressed or not.
CLASSIC_BYTES = 2**32 - 2**25
_AXES = "TZYX"
_ORIENTATION = 274  # tag
_LARGEST_RESOLUTION = 2**31  # the tag holds a fraction of 32-bit numbers
_IMAGEJ_UNITS = {"µm": "um", "Å": "A", "in": "inch", "": "pixel"}


def write_labels(path: str | Path, labels: NDArray[np.integer[Any]], size: PixelSize | None = None) -> Path:
    """Write a label image as compressed TIFF, atomically, in the smallest type that holds its ids (uint16 or uint32).

    With ids up to 65,535 and up to 4 GiB it is an ImageJ hyperstack, which Fiji opens with pixel size and planes.
    Otherwise, and if the name ends in .ome.tif, it is an OME-TIFF, if necessary a BigTIFF, which Fiji opens with
    Bio-Formats.

    Parameters
    ----------
    path : path-like
        Ends in .tif or .tiff.
    labels : int (..., y, x)
        Not negative. Up to four axes are t, z, y, x. Planes are read one by one, so it may be a dask or zarr array.
    size : PixelSize, optional

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the ending is another, an id is negative or does not fit into 32 bits, or there are too many axes.
    """
    target = Path(path)
    if target.suffix.lower() not in _ENDINGS:
        raise InputError(f"The name of a TIFF must end in .tif or .tiff, not {target.name}.", code="wrong-file-ending")
    dtype = np.promote_types(label_dtype(labels), np.uint16)
    wants_ome = target.name.lower().endswith((".ome.tif", ".ome.tiff"))
    nbytes = int(np.prod(labels.shape, dtype=np.float64)) * dtype.itemsize
    pixel_size = size or PixelSize((1, 1, 1))
    options = _options(labels.shape, dtype, nbytes, pixel_size, wants_ome, int(labels.max(initial=0)))
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
    """Return the options of `tifffile.imwrite` for the kind of TIFF and the pixel size."""
    axes = _AXES[-len(shape) :] if len(shape) <= len(_AXES) else None
    if len(shape) == 3 and not size.has_depth:
        axes = "TYX"
    is_big = nbytes > CLASSIC_BYTES
    # ImageJ drops axes of length one.
    suits_imagej = dtype.itemsize == 2 and not is_big and axes is not None and 1 not in shape[:-2]
    if suits_imagej and not wants_ome:
        return _imagej(axes or "", size, largest)
    if wants_ome or size.is_known or is_big:
        if axes is None:
            raise InputError(
                f"OME-TIFF holds up to four axes of labels (t, z, y, x), not {len(shape)}.", code="too-many-axes"
            )
        return {"ome": True, "bigtiff": is_big, "metadata": _ome(axes, size), **_per_centimetre(size)}
    return {"bigtiff": is_big, "metadata": {"axes": axes} if axes else None}


def _imagej(axes: str, size: PixelSize, largest: int) -> dict[str, Any]:
    # Without a range ImageJ sets the contrast by the first plane, which often has no objects.
    metadata: dict[str, Any] = {"axes": axes, "min": 0.0, "max": float(max(largest, 1))}
    if "T" in axes and size.interval:
        metadata |= {"finterval": size.interval, "tunit": "s"}
    # ImageJ before 1.52p shows compressed stacks only if they have the orientation tag.
    options = {"imagej": True, "metadata": metadata, "extratags": [(_ORIENTATION, "H", 1, 1, True)]}
    if not size.is_known and size.spacing == (1, 1, 1):
        return options
    z, y, x = size.spacing
    metadata["unit"] = _IMAGEJ_UNITS.get(size.unit, size.unit)
    if "Z" in axes:
        metadata["spacing"] = z
    return options | {"resolution": (1 / x, 1 / y)}


def _ome(axes: str, size: PixelSize) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": axes}
    if size.is_known:
        for axis, length in zip("ZYX", size.spacing, strict=True):
            if axis in axes:
                metadata |= {f"PhysicalSize{axis}": length, f"PhysicalSize{axis}Unit": size.unit}
    if "T" in axes and size.interval:
        metadata |= {"TimeIncrement": size.interval, "TimeIncrementUnit": "s"}
    return metadata


def _per_centimetre(size: PixelSize) -> dict[str, Any]:
    """Return the resolution tags along y and x, for programs that do not read OME-XML, such as ImageJ itself."""
    _, y, x = size.micrometres
    resolution = (1e4 / x, 1e4 / y)
    if not size.is_known or max(resolution) > _LARGEST_RESOLUTION or min(resolution) < 1 / _LARGEST_RESOLUTION:
        return {}
    return {"resolution": resolution, "resolutionunit": "CENTIMETER"}


def _planes(labels: NDArray[np.integer[Any]], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    for index in np.ndindex(*labels.shape[:-2]):
        yield np.asarray(labels[index]).astype(dtype)

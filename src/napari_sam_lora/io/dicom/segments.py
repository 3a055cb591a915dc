"""Merge the frames of a DICOM segmentation, one per segment and slice, to labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.dicom.headers import Frame, FrameGeometry
from napari_sam_lora.io.shared.file_warning import FileWarning

_SAME_POSITION = 1e-3  # mm
_TOLERANCE = 0.05  # fraction of the slice distance by which a position may be off


def merge_segments(
    frames: Sequence[Frame], geometries: Sequence[FrameGeometry], planes: NDArray[Any]
) -> tuple[NDArray[Any], FrameGeometry, FrameGeometry]:
    """Merge the segments to labels; slices that are missing in the file have no segment, and are empty.

    Parameters
    ----------
    frames : sequence of Frame
    geometries : sequence of FrameGeometry
        Of the frames.
    planes : array (n, y, x)
        Pixels of the frames.

    Returns
    -------
    labels : uint8 or uint16 (z, y, x)
        The number of the segment; where two overlap, the higher one.
    first, last : FrameGeometry
        Of the first and the last slice.

    Raises
    ------
    InputError
        If distances of slices are not whole multiples of the smallest one.
    """
    depths = np.array([geometry.depth for geometry in geometries])
    slices = _slice_numbers(depths, frames[0].name)
    largest = max(*(frame.segment for frame in frames), int(planes.max()) if frames[0].segment == 0 else 1)
    labels = np.zeros((slices.max() + 1, *planes.shape[1:]), np.uint8 if largest < 256 else np.uint16)
    overlaps = False
    for index in np.argsort([frame.segment for frame in frames], kind="stable"):
        target, number = labels[slices[index]], frames[index].segment
        inside = planes[index] >= frames[index].threshold
        overlaps = overlaps or bool(target[inside].any())
        target[inside] = number or planes[index][inside]
    if overlaps:
        message = f"Segments of {frames[0].name!r} overlap; the one with the higher number is shown."
        warnings.warn(FileWarning(message, code="segments-overlap"), stacklevel=5)
    return labels, geometries[int(depths.argmin())], geometries[int(depths.argmax())]


def _slice_numbers(depths: NDArray[np.float64], name: str) -> NDArray[np.int64]:
    """Return the number of each frame's slice, from 0 on."""
    gaps = np.diff(np.sort(depths))
    gaps = gaps[gaps > _SAME_POSITION]
    steps = (depths - depths.min()) / (gaps.min() if len(gaps) else 1)
    numbers = np.rint(steps)
    if np.abs(steps - numbers).max() > _TOLERANCE * max(1, numbers.max()) ** 0.5:
        raise InputError(
            f"The slices of the segmentation {name!r} are not evenly spaced; it cannot be shown.", code="uneven-slices"
        )
    return numbers.astype(np.int64)

"""Segmentations in DICOM: a frame for each segment and slice, merged to labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.dicom.headers import Frame, Place

_NEAR = 1e-3  # mm between places that are the same
_EVEN = 0.05  # share of the slice distance by which a place may be off


def merge_segments(
    frames: Sequence[Frame], places: Sequence[Place], planes: NDArray[Any]
) -> tuple[NDArray[Any], Place, Place]:
    """Labels of a segmentation; slices without any segment may be left out of the file, and are empty.

    Parameters
    ----------
    frames : sequence of Frame
    places : sequence of Place
        Theirs.
    planes : array (n, y, x)
        Their pixels.

    Returns
    -------
    labels : uint8 or uint16 (z, y, x)
        The number of the segment; where two overlap, the higher one.
    first, last : Place
        Of the first and the last slice.

    Raises
    ------
    InputError
        If distances of slices are not whole multiples of the smallest one.
    """
    depths = np.array([place.depth for place in places])
    slices = _numbers(depths, frames[0].name)
    largest = max(*(frame.segment for frame in frames), int(planes.max()) if frames[0].segment == 0 else 1)
    labels = np.zeros((slices.max() + 1, *planes.shape[1:]), np.uint8 if largest < 256 else np.uint16)
    overlaps = False
    for at in np.argsort([frame.segment for frame in frames], kind="stable"):
        target, number = labels[slices[at]], frames[at].segment
        inside = planes[at] >= frames[at].inside
        overlaps = overlaps or bool(target[inside].any())
        target[inside] = number or planes[at][inside]
    if overlaps:
        warnings.warn(f"Segments of {frames[0].name!r} overlap; the one of the higher number is shown.", stacklevel=5)
    return labels, places[int(depths.argmin())], places[int(depths.argmax())]


def _numbers(depths: NDArray[np.float64], name: str) -> NDArray[np.int64]:
    """The slice that each frame is of, from 0 on."""
    gaps = np.diff(np.sort(depths))
    gaps = gaps[gaps > _NEAR]
    steps = (depths - depths.min()) / (gaps.min() if len(gaps) else 1)
    numbers = np.rint(steps)
    if np.abs(steps - numbers).max() > _EVEN * max(1, numbers.max()) ** 0.5:
        raise InputError(f"The slices of the segmentation {name!r} are not evenly spaced; it cannot be shown.")
    return numbers.astype(np.int64)

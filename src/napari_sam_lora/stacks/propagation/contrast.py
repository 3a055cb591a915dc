"""Contrast of an object to its surroundings.

Beyond the end of an object prompts still give a mask, but one that looks like its surroundings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam_lora.regions import Region

# Width of the ring around an object, as a share of the square root of its area.
_RING = 1.0
# A smaller contrast, as a share of the standard deviation of intensities, is not reliable.
_FAINT = 0.5


def contrast(image: NDArray[Any], region: Region) -> float:
    """Return the mean intensity of an object minus that of a ring around it.

    Parameters
    ----------
    image : (y, x) or (y, x, c)
        Intensities as they are stored; colours are averaged, alpha is ignored.
    region : Region

    Returns
    -------
    float
        NaN if there is no object or no ring.
    """
    inside, ring = _pixels(image, region)
    return float(inside.mean() - ring.mean()) if ring.size and inside.size else float("nan")


def reliable_contrast(image: NDArray[Any], region: Region) -> float:
    """Return the `contrast`, or NaN if it is too small to distinguish the object from its surroundings."""
    inside, ring = _pixels(image, region)
    if not (ring.size and inside.size):
        return float("nan")
    difference = float(inside.mean() - ring.mean())
    is_reliable = abs(difference) > _FAINT * float(np.concatenate([inside, ring]).std())
    return difference if is_reliable else float("nan")


def _pixels(image: NDArray[Any], region: Region) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the finite intensities inside an object and in the ring around it."""
    if not region.area:
        return np.empty(0), np.empty(0)
    width = max(2, round(_RING * float(np.sqrt(region.area))))
    y0, x0, y1, x1 = region.box
    top, left = max(0, y0 - width), max(0, x0 - width)
    bottom, right = min(image.shape[0], y1 + width), min(image.shape[1], x1 + width)
    inside = np.zeros((bottom - top, right - left), np.bool_)
    inside[y0 - top : y1 - top, x0 - left : x1 - left] = region.crop
    ring = ndi.binary_dilation(inside, iterations=width) & ~inside
    crop = np.asarray(image[top:bottom, left:right], np.float64)
    gray = crop[..., :3].mean(-1) if crop.ndim == 3 else crop
    finite = np.isfinite(gray)
    return gray[inside & finite], gray[ring & finite]

"""How an object stands out: where it has ended, prompts still give a mask, but it looks like its surroundings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam_lora.regions import Region

# Width of the ring around an object, as a share of the square root of its area.
_RING = 1.0
# A difference that is smaller than this share of the spread of intensities around says nothing.
_FAINT = 0.5


def contrast(image: NDArray[Any], region: Region) -> float:
    """Mean intensity of an object less that of a ring around it.

    Parameters
    ----------
    image : (y, x) or (y, x, c)
        Intensities as they are stored; the mean of gray or colours counts, not alpha.
    region : Region

    Returns
    -------
    float
        NaN if there is no object or no ring.
    """
    inside, ring = _pixels(image, region)
    return float(inside.mean() - ring.mean()) if ring.size and inside.size else float("nan")


def telling_contrast(image: NDArray[Any], region: Region) -> float:
    """The `contrast`, or NaN if the object cannot be told from its surroundings by it."""
    inside, ring = _pixels(image, region)
    if not (ring.size and inside.size):
        return float("nan")
    found = float(inside.mean() - ring.mean())
    return found if abs(found) > _FAINT * float(np.concatenate([inside, ring]).std()) else float("nan")


def _pixels(image: NDArray[Any], region: Region) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not region.area:
        return np.empty(0), np.empty(0)
    width = max(2, round(_RING * float(np.sqrt(region.area))))
    y0, x0, y1, x1 = region.box
    top, left = max(0, y0 - width), max(0, x0 - width)
    bottom, right = min(image.shape[0], y1 + width), min(image.shape[1], x1 + width)
    inside = np.zeros((bottom - top, right - left), np.bool_)
    inside[y0 - top : y1 - top, x0 - left : x1 - left] = region.crop
    ring = ndi.binary_dilation(inside, iterations=width) & ~inside
    part = np.asarray(image[top:bottom, left:right], np.float64)
    gray = part[..., :3].mean(-1) if part.ndim == 3 else part
    finite = np.isfinite(gray)
    return gray[inside & finite], gray[ring & finite]

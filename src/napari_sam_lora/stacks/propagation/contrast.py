"""Intensities of an object and of its surroundings.

Beyond the end of an object prompts still give a mask, but one that looks like its surroundings, or like something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.stats import median_abs_deviation

from napari_sam_lora.regions import Region

# Width of the ring around an object, as a share of the square root of its area.
_RING = 1.0
# A smaller contrast, as a share of the standard deviation of intensities, is not reliable.
_FAINT = 0.5


@dataclass(frozen=True)
class Intensities:
    """Intensities of an object and of the ring around it, as they are stored; NaN if there is no object or no ring.

    Attributes
    ----------
    contrast : float
        Mean of the object minus that of the ring.
    is_reliable : bool
        Whether the contrast is large enough to distinguish the object from its surroundings.
    median : float
        Median of the object.
    above_ring : float
        Median of the object minus that of the ring.
    spread : float
        Median absolute deviation within the object, scaled to the standard deviation of a normal distribution.
    """

    contrast: float = float("nan")
    is_reliable: bool = False
    median: float = float("nan")
    above_ring: float = float("nan")
    spread: float = float("nan")


def measure_intensities(image: NDArray[Any], region: Region) -> Intensities:
    """Measure an object.

    Parameters
    ----------
    image : (y, x) or (y, x, c)
        Intensities as they are stored; colours are averaged, alpha is ignored.
    region : Region
    """
    inside, ring = _pixels(image, region)
    if not (ring.size and inside.size):
        return Intensities()
    contrast, median = float(inside.mean() - ring.mean()), float(np.median(inside))
    is_reliable = abs(contrast) > _FAINT * float(np.concatenate([inside, ring]).std())
    spread = float(median_abs_deviation(inside, scale="normal"))
    return Intensities(contrast, is_reliable, median, median - float(np.median(ring)), spread)


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

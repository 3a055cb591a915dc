"""Intersection over union (IoU) of masks: NumPy arrays, tensors on any device, and regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from napari_sam_lora.regions import Region


@overload
def mask_iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Any: ...
@overload
def mask_iou(a: Tensor, b: Tensor) -> Tensor: ...
def mask_iou(a: Any, b: Any) -> Any:
    """Return the intersection over union of masks; 1 if both are empty, because they agree.

    Parameters
    ----------
    a, b : bool array or Tensor (…, y, x)
        Leading axes are broadcast, so that masks (n, m, y, x) can be compared with targets (n, 1, y, x).

    Returns
    -------
    float, or float array or Tensor (…)
    """
    return _ratio(_count(a & b), _count(a | b))


def region_iou(a: Region, b: Region) -> float:
    """Return the intersection over union of two regions of a plane; 1 if both are empty."""
    both = int(np.count_nonzero(a.crop & b.within(a.box)))
    return float(_ratio(both, a.area + b.area - both))


def _count(masks: Any) -> Any:
    """Count the pixels of each mask."""
    if isinstance(masks, np.ndarray) and masks.ndim == 2:
        return int(np.count_nonzero(masks))  # ten times as fast as a sum
    return masks.sum((-2, -1))


def _ratio(both: Any, union: Any) -> Any:
    is_empty = union == 0
    return (both + is_empty) / (union + is_empty)

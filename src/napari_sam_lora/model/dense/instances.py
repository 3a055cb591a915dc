"""From dense maps to instances: seeds where the distance is large, and a watershed inside the foreground."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.measure import label as label_components
from skimage.segmentation import relabel_sequential, watershed

from napari_sam_lora.errors import InputError
from napari_sam_lora.model.dense.head import DISTANCE, FOREGROUND
from napari_sam_lora.model.dense.unetr_decoder import CENTRE
from napari_sam_lora.parameters.instances import InstanceConfig

_SMALLEST_SEED = 4


def maps_to_labels(maps: NDArray[np.floating[Any]], config: InstanceConfig | None = None) -> NDArray[np.int32]:
    """Cut objects out of dense maps.

    Parameters
    ----------
    maps : float (2 or more, y, x)
        From 0 to 1, in the order of `napari_sam_lora.model.dense.head.OUTPUTS`; with ``centre_separation`` those of
        `napari_sam_lora.model.dense.unetr_decoder.OUTPUTS`.
    config : InstanceConfig, optional

    Returns
    -------
    int32 (y, x)
        Instance ids, numbered without gaps; 0 is background.

    Raises
    ------
    InputError
        If the parameters are for maps with nearness to the centre, and these have none.
    """
    config = config or InstanceConfig()
    inside = foreground_mask(maps, config)
    if not inside.any():
        return np.zeros(inside.shape, np.int32)
    depth = _smoothed(maps[DISTANCE], config.smoothing)
    seeds = _seeds(maps, inside & (depth > config.separation), config)
    labels = watershed(-depth, seeds, mask=inside)
    areas = np.bincount(labels.ravel())
    labels[areas[labels] < config.smallest] = 0
    return np.asarray(relabel_sequential(labels)[0], np.int32)


def foreground_mask(maps: NDArray[np.floating[Any]], config: InstanceConfig) -> NDArray[np.bool_]:
    """Return which pixels (y, x) of dense maps belong to objects."""
    return np.asarray(_smoothed(maps[FOREGROUND], config.foreground_smoothing) > 1 - config.sensitivity)


def _seeds(
    maps: NDArray[np.floating[Any]], deep: NDArray[np.bool_], config: InstanceConfig
) -> NDArray[np.integer[Any]]:
    """Give each seed a number; seeds are made of the pixels that are far from outlines.

    With nearness to the centre, they are those of micro-sam (``watershed_from_center_and_boundary_distances``): of any
    size, and joined across corners.
    """
    if config.centre_separation is None:
        seeds = label_components(deep, connectivity=1)
        areas = np.bincount(seeds.ravel())
        seeds[areas[seeds] < _SMALLEST_SEED] = 0
        return np.asarray(seeds)
    if len(maps) <= CENTRE:
        raise InputError(
            "centre_separation is for maps with nearness to the centre, which this head does not predict.",
            code="no-centre-map",
        )
    near = _smoothed(maps[CENTRE], config.smoothing) > config.centre_separation
    return np.asarray(label_components(deep & near, connectivity=2))


def _smoothed(plane: NDArray[np.floating[Any]], deviation: float) -> NDArray[np.floating[Any]]:
    return np.asarray(ndi.gaussian_filter(plane.astype(np.float32), deviation)) if deviation else plane

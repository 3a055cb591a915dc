"""From dense maps to instances.

Objects are the peaks of the distance map. The watershed of all its peaks is cut inside the foreground, and basins are
joined where the dip between two peaks is shallow: where the lower one has a small dynamic (Grimaud 1992), as in the
h-maxima transform. Unlike a threshold for seeds, that does not depend on how high the peaks are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.cluster.hierarchy import DisjointSet
from skimage.measure import label as label_components
from skimage.segmentation import relabel_sequential, watershed

from napari_sam_lora.errors import InputError
from napari_sam_lora.model.dense.head import DISTANCE, FOREGROUND
from napari_sam_lora.model.dense.unetr_decoder import CENTRE
from napari_sam_lora.parameters.instances import InstanceConfig

# The lowest peak that counts as an object, as a share of the least probability of foreground.
_LOWEST_PEAK = 0.8


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
    if config.centre_separation is None:
        depth = np.where(inside, depth, 0)
        # An image without any border between higher and lower has no peak.
        basins = label_components(inside) if (depth == depth[0, 0]).all() else watershed(-depth, mask=inside)
        lowest = _LOWEST_PEAK * (1 - config.sensitivity)
        labels = _joined(basins, depth, 1 - config.separation, lowest)[basins]
    else:
        labels = watershed(-depth, _seeds_of_centres(maps, inside & (depth > config.separation), config), mask=inside)
    areas = np.bincount(labels.ravel())
    labels[areas[labels] < config.smallest] = 0
    return np.asarray(relabel_sequential(labels)[0], np.int32)


def foreground_mask(maps: NDArray[np.floating[Any]], config: InstanceConfig) -> NDArray[np.bool_]:
    """Return which pixels (y, x) of dense maps belong to objects."""
    return np.asarray(_smoothed(maps[FOREGROUND], config.foreground_smoothing) > 1 - config.sensitivity)


def _joined(
    basins: NDArray[np.integer[Any]], depth: NDArray[np.floating[Any]], least_dip: float, lowest: float
) -> NDArray[np.intp]:
    """Join basins whose dip is shallow, the highest pass first; return the object of each basin.

    Basins with a peak below the lowest one belong to none: 0, like the background.
    """
    count = int(basins.max())
    peaks = np.zeros(count + 1)
    peaks[1:] = ndi.maximum(depth, basins, np.arange(1, count + 1))
    objects = DisjointSet(range(count + 1))
    for one, other, height in _passes(basins, depth):
        first, second = objects[one], objects[other]
        if first != second and min(peaks[first], peaks[second]) - height < least_dip:
            peak = max(peaks[first], peaks[second])
            objects.merge(first, second)
            peaks[objects[first]] = peak
    roots = np.array([objects[basin] for basin in range(count + 1)], np.intp)
    return np.where(peaks[roots] >= lowest, roots, 0)


def _passes(basins: NDArray[np.integer[Any]], depth: NDArray[np.floating[Any]]) -> list[tuple[int, int, float]]:
    """Return pairs of neighbouring basins with the height of the pass between them, the highest first."""
    codes, heights = [np.empty(0, np.int64)], [np.empty(0)]
    factor = int(basins.max()) + 1
    for before, after in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        one, other = basins[before], basins[after]
        lower = np.minimum(depth[before], depth[after])
        border = (one != other) & (one > 0) & (other > 0)
        pair = np.sort(np.stack([one[border], other[border]]).astype(np.int64), axis=0)
        codes.append(pair[0] * factor + pair[1])
        heights.append(lower[border])
    unique, where = np.unique(np.concatenate(codes), return_inverse=True)
    highest = np.zeros(len(unique))
    np.maximum.at(highest, where, np.concatenate(heights))
    order = np.argsort(-highest, kind="stable")
    return [(int(unique[i] // factor), int(unique[i] % factor), float(highest[i])) for i in order]


def _seeds_of_centres(
    maps: NDArray[np.floating[Any]], deep: NDArray[np.bool_], config: InstanceConfig
) -> NDArray[np.integer[Any]]:
    """Give each seed of micro-sam's maps a number (``watershed_from_center_and_boundary_distances``)."""
    if len(maps) <= CENTRE:
        raise InputError(
            "centre_separation is for maps with nearness to the centre, which this head does not predict.",
            code="no-centre-map",
        )
    near = _smoothed(maps[CENTRE], config.smoothing) > (config.centre_separation or 0)
    return np.asarray(label_components(deep & near, connectivity=2))


def _smoothed(plane: NDArray[np.floating[Any]], deviation: float) -> NDArray[np.floating[Any]]:
    return np.asarray(ndi.gaussian_filter(plane.astype(np.float32), deviation)) if deviation else plane

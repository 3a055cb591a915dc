"""From dense maps to instances: seeds where the distance is large, and a watershed inside the foreground."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.measure import label as label_components
from skimage.segmentation import relabel_sequential, watershed

from napari_sam_lora.errors import InputError
from napari_sam_lora.model.dense_head import DISTANCE, FOREGROUND
from napari_sam_lora.model.unetr_decoder import CENTRE

_SMALLEST_SEED = 4


@dataclass(frozen=True)
class InstanceConfig:
    """How objects are cut out of dense maps.

    Attributes
    ----------
    sensitivity : float
        From 0 to 1: pixels whose foreground exceeds 1 - sensitivity belong to objects. More finds more.
    separation : float
        From 0 to 1: distance (as a share of the largest in the object) above which pixels are seeds. More cuts
        touching objects apart, and may cut one object into several.
    smallest : int
        Objects with fewer pixels are left out.
    smoothing : float
        Standard deviation, in pixels, of the Gaussian by which distances are smoothed first.
    centre_separation : float, optional
        For maps with nearness to the centre (micro-sam's decoders): from 0 to 1, above which pixels may be seeds, if
        their distance is large as well. By default distance alone decides.
    foreground_smoothing : float
        Standard deviation, in pixels, of the Gaussian by which foreground is smoothed first.

    Raises
    ------
    InputError
        If a number makes no sense.
    """

    sensitivity: float = 0.5
    separation: float = 0.45
    smallest: int = 30
    smoothing: float = 1.0
    centre_separation: float | None = None
    foreground_smoothing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("sensitivity", "separation", "centre_separation"):
            value = getattr(self, name)
            if not (value is None and name == "centre_separation") and not 0 < value < 1:
                code = f"{name.replace('_', '-')}-out-of-range"
                raise InputError(f"{name} lies between 0 and 1, not at {value}.", code=code)
        if self.smallest < 0:
            raise InputError(f"smallest must not be negative, not {self.smallest}.", code="smallest-out-of-range")
        for name in ("smoothing", "foreground_smoothing"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise InputError(f"{name} must not be negative, not {value}.", code="smoothing-out-of-range")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InstanceConfig:
        """Inverse of `as_dict`.

        Raises
        ------
        InputError
            If a name is unknown, or a number is none or makes no sense.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"A parameter of instances is wrong: {error}.", code="bad-instance-config") from error


def maps_to_labels(maps: NDArray[np.floating[Any]], config: InstanceConfig | None = None) -> NDArray[np.int32]:
    """Cut objects out of dense maps.

    Parameters
    ----------
    maps : float (2 or more, y, x)
        Probabilities, in the order of `napari_sam_lora.model.dense_head.OUTPUTS`; with ``centre_separation`` those of
        `napari_sam_lora.model.unetr_decoder.OUTPUTS`.
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
    inside = _smoothed(maps[FOREGROUND], config.foreground_smoothing) > 1 - config.sensitivity
    if not inside.any():
        return np.zeros(inside.shape, np.int32)
    depth = _smoothed(maps[DISTANCE], config.smoothing)
    seeds = _seeds(maps, inside & (depth > config.separation), config)
    labels = watershed(-depth, seeds, mask=inside)
    areas = np.bincount(labels.ravel())
    labels[areas[labels] < config.smallest] = 0
    return np.asarray(relabel_sequential(labels)[0], np.int32)


def _seeds(
    maps: NDArray[np.floating[Any]], deep: NDArray[np.bool_], config: InstanceConfig
) -> NDArray[np.integer[Any]]:
    """Numbered seeds from the pixels that are far from outlines.

    With nearness to the centre they are those of micro-sam (``watershed_from_center_and_boundary_distances``): of any
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

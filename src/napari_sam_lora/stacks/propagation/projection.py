"""Project the mask of an object in one plane to its prompts in the next."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.labels import click_at_centre
from napari_sam_lora.parameters.propagation import PropagationConfig
from napari_sam_lora.prompts import ObjectPrompts
from napari_sam_lora.regions import Region

# Number of negative clicks on neighbours, which separate touching objects.
NEIGHBOURS = 2
# Largest distance of such neighbours, in lengths of the object.
REACH = 1.5


def project(
    regions: Mapping[int, Region], config: PropagationConfig, shape: tuple[int, int]
) -> dict[int, ObjectPrompts]:
    """Return the prompts of each object for the next plane.

    Parameters
    ----------
    regions : mapping of int to Region
        Masks by id, none of them empty.
    config : PropagationConfig
        Gives the kinds of prompts and the padding.
    shape : tuple of int
        (y, x) of the plane.
    """
    kinds = config.projection.split("+")
    clicks = _clicks(regions) if "points" in kinds else {}
    prompts = {}
    for label, region in regions.items():
        points, point_labels = clicks.get(label, (None, None))
        box = padded(region.box, config.padding, shape) if "box" in kinds else None
        prompts[label] = ObjectPrompts(box, points, point_labels, region if "mask" in kinds else None)
    return prompts


def padded(box: tuple[int, int, int, int], share: float, shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """Enlarge a box on each side by a share of its length, within the plane."""
    y0, x0, y1, x1 = box
    dy, dx = share * (y1 - y0), share * (x1 - x0)
    return max(0.0, y0 - dy), max(0.0, x0 - dx), min(float(shape[0]), y1 + dy), min(float(shape[1]), x1 + dx)


def _clicks(regions: Mapping[int, Region]) -> dict[int, tuple[NDArray[np.float32], NDArray[np.int8]]]:
    """Return for each object a point in its middle, and negative ones in its nearest neighbours within reach."""
    centres = np.array([np.add(region.origin, click_at_centre(region.crop)) for region in regions.values()], np.float32)
    clicks = {}
    for row, (label, region) in enumerate(regions.items()):
        distances = np.linalg.norm(centres - centres[row], axis=1)
        distances[row] = np.inf
        nearest = np.argsort(distances, kind="stable")[:NEIGHBOURS]
        others = nearest[distances[nearest] <= REACH * max(region.crop.shape)]
        points = np.concatenate([centres[row : row + 1], centres[others]])
        clicks[label] = points, np.array([1] + [0] * len(others), np.int8)
    return clicks

"""Clicks on known background, from which the predicted IoU learns what is not an object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam_lora.prompts import Prompts
from napari_sam_lora.training.data.augmentation import View, turn_points
from napari_sam_lora.training.data.samples import Plane, nearest

CLICKS = 2  # in each step
# Clicks are on this share of the known background, farthest from everything else: near an outline they might mean it.
FARTHEST_SHARE = 0.5


class BackgroundClicks:
    """Clicks on the known background of planes, away from objects and from what is not known.

    Parameters
    ----------
    planes : sequence of Plane
    """

    def __init__(self, planes: Sequence[Plane]) -> None:
        self._planes = planes
        self._places: dict[int, NDArray[np.intp]] = {}

    def draw(self, view: View, rng: np.random.Generator) -> Prompts | None:
        """Draw clicks in pixels of a view, one for each row; None if no background of its plane is known."""
        places = self.places(view.plane)
        if not len(places):
            return None
        drawn = places[rng.integers(len(places), size=min(CLICKS, len(places)))]
        height, width = self._planes[view.plane].prepared.resized_shape
        return Prompts(points=list(turn_points(drawn, view.turn, (height - 1, width - 1))[:, None]))

    def places(self, number: int) -> NDArray[np.intp]:
        """Return the pixels (n, 2) of a plane, in the frame of its prepared pixels, that may be clicked."""
        if number not in self._places:
            plane = self._planes[number]
            self._places[number] = _farthest(plane.background, plane.prepared.resized_shape)
        return self._places[number]


def _farthest(background: NDArray[np.bool_] | None, shape: tuple[int, int]) -> NDArray[np.intp]:
    shown = np.zeros(shape, np.bool_) if background is None else nearest(background, shape)
    if shown.any() and not shown.all():
        depth = ndi.distance_transform_edt(shown)
        shown = shown & (depth >= np.quantile(depth[shown], 1 - FARTHEST_SHARE))
    return np.argwhere(shown)

"""Estimate the time of *Find everything* from the pace of earlier searches."""

from __future__ import annotations

import time
from collections.abc import Sequence

from napari_sam_lora._qt.layers.coordinates import data_shape
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.session import PlaneKey
from napari_sam_lora.session.everything.found_plane import ClickSearch, Search

# Tiles of a large plane, as a share of the model's input, without what they share with their neighbours.
TILE_STEP = 0.75


class SearchPace:
    """Measured seconds for each view that a model has of a plane: one, or one for each tile of a large plane.

    Parameters
    ----------
    controller : Controller
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._known: dict[tuple[object, ...], float] = {}
        self._key: tuple[object, ...] = ()
        self._slowest, self._since = 0.0, 0.0

    def estimate(self, planes: Sequence[PlaneKey], search: Search) -> float | None:
        """Return the seconds that a search will take; None if nothing like it was measured."""
        pace = self._known.get(self._key_of(search))
        return None if pace is None else pace * sum(map(self._views, planes))

    def start(self, search: Search) -> None:
        """Start to measure a search."""
        self._key, self._slowest, self._since = self._key_of(search), 0.0, time.monotonic()

    def resume(self) -> None:
        """Go on measuring after a break."""
        self._since = time.monotonic()

    def note(self, plane: PlaneKey) -> None:
        """Note that a plane was searched. The slowest counts: the others may have been encoded before."""
        now = time.monotonic()
        self._slowest, self._since = max(self._slowest, (now - self._since) / self._views(plane)), now

    def keep(self) -> None:
        """Use what was measured for later estimates."""
        if self._slowest:
            self._known[self._key] = self._slowest

    def _key_of(self, search: Search) -> tuple[object, ...]:
        models = self._controller.session.models
        return id(models.model), models.active, repr(search) if isinstance(search, ClickSearch) else ""

    def _views(self, plane: PlaneKey) -> float:
        image, model = self._controller.layers.layer_of(plane.image), self._controller.session.models.model
        if image is None or model is None:
            return 1.0
        step = model.predictor.input_size * TILE_STEP
        height, width = plane.shape(data_shape(image))
        return max(1.0, height / step) * max(1.0, width / step)

"""Proposed objects in the viewer: a click drops one, or takes it in again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora._qt.prompting.preview_layer import PreviewLayer
from napari_sam_lora._qt.viewer.layer_clicks import LayerClicks
from napari_sam_lora.session import PlaneKey, Proposal

NAME = "SAM proposal"


class ProposalLayer:
    """Shows the new objects of one plane of a proposal.

    Parameters
    ----------
    viewer : napari.Viewer
    changed : callable
        Called after the user has dropped an object or taken one in again.
    """

    def __init__(self, viewer: Any, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._shown = PreviewLayer(viewer, NAME)
        self._image: Any = None
        self._plane: PlaneKey | None = None
        self._ids = np.zeros((0, 0), np.int64)
        self._clicks = LayerClicks(viewer, self._on_click)
        self.dropped: set[int] = set()

    @property
    def layer(self) -> Any | None:
        """The layer in the viewer; None while there is none."""
        return self._shown.layer

    def show(self, image_layer: Any, plane: PlaneKey, shape: tuple[int, int], proposal: Proposal) -> None:
        """Show all objects of a proposal in a plane (y, x), and let clicks act on them."""
        self._image, self._plane, self.dropped = image_layer, plane, set()
        self._ids = np.zeros(shape, np.int64)
        for number, change in enumerate(proposal.changes, start=1):
            self._ids[change.new.to_mask(shape)] = number
        self._draw()
        layer = self._shown.layer
        if layer is not None:
            self._clicks.take(layer, "Click on an object to drop it, click again to take it back in")

    def toggle(self, position: int) -> None:
        """Drop the object with a position in the proposal, or take it in again."""
        self.dropped ^= {position}
        self._draw()
        self._changed()

    def remove(self) -> None:
        """Show nothing any more, and select the layer that was selected before."""
        self._shown.remove()
        self._clicks.end()

    def _draw(self) -> None:
        if self._plane is not None:
            kept = np.where(np.isin(self._ids, [position + 1 for position in self.dropped]), 0, self._ids)
            self._shown.show(self._image, self._plane, kept)

    def _on_click(self, place: NDArray[np.int64]) -> None:
        number = self._number_at(place)
        if number:
            self.toggle(number - 1)

    def _number_at(self, place: NDArray[np.int64]) -> int:
        """The proposed object at a pixel of the layer, dropped or not; 0 for none."""
        if self._plane is None:
            return 0
        if place[list(self._plane.other_axes)].any():  # the layer is one pixel thick: another plane is shown
            return 0
        y, x = place[list(self._plane.axes)]
        inside = 0 <= y < self._ids.shape[0] and 0 <= x < self._ids.shape[1]
        return int(self._ids[y, x]) if inside else 0

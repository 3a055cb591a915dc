"""Layer with the proposed objects: a click drops one, or takes it back in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora._qt.prompting.preview_layer import PreviewLayer
from napari_sam_lora._qt.viewer.layer_clicks import LayerClicks
from napari_sam_lora.regions import Region
from napari_sam_lora.session import PlaneKey, Proposal

NAME = "SAM proposal"


class ProposalLayer:
    """Show the new objects of a proposal in one plane.

    Parameters
    ----------
    viewer : napari.Viewer
    changed : callable
        Called after the user has dropped an object or taken one back in.
    """

    def __init__(self, viewer: Any, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._preview = PreviewLayer(viewer, NAME)
        self._image: Any = None
        self._plane: PlaneKey | None = None
        self._shape = (0, 0)
        self._masks: list[tuple[int, Region]] = []
        self._clicks = LayerClicks(viewer, self._on_click)
        self.dropped: set[int] = set()

    @property
    def layer(self) -> Any | None:
        """Layer in the viewer; None while there is none."""
        return self._preview.layer

    def show(self, image_layer: Any, plane: PlaneKey, shape: tuple[int, int], proposal: Proposal) -> None:
        """Show all objects of a proposal in a plane of this shape (y, x), and let clicks drop them."""
        self._image, self._plane, self._shape, self.dropped = image_layer, plane, shape, set()
        self._masks = [(number, change.new) for number, change in enumerate(proposal.changes, start=1)]
        self._draw()
        layer = self._preview.layer
        if layer is not None:
            self._clicks.listen_to(layer, "Click on an object to drop it, click again to take it back in")

    def toggle(self, index: int) -> None:
        """Drop the object with an index in the proposal, or take it back in."""
        self.dropped ^= {index}
        self._draw()
        self._changed()

    def remove(self) -> None:
        """Remove the layer, and select the layer that was selected before."""
        self._preview.remove()
        self._clicks.end()

    def _draw(self) -> None:
        if self._plane is not None:
            kept = [(number, region) for number, region in self._masks if number - 1 not in self.dropped]
            self._preview.show(self._image, self._plane, self._shape, kept, whole=True)

    def _on_click(self, pixel: NDArray[np.int64]) -> None:
        number = self._number_at(pixel)
        if number:
            self.toggle(number - 1)

    def _number_at(self, pixel: NDArray[np.int64]) -> int:
        """Return the number (from 1) of the proposed object at a pixel of the layer, dropped or not; 0 for none."""
        if self._plane is None:
            return 0
        if pixel[list(self._plane.other_axes)].any():  # another plane is shown; the layer is one pixel thick
            return 0
        y, x = pixel[list(self._plane.axes)].tolist()
        hit = [number for number, region in self._masks if region.within((y, x, y + 1, x + 1)).any()]
        return hit[-1] if hit else 0

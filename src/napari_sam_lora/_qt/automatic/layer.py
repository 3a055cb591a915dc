"""Layer with the proposed objects of a plane: a click drops one, or takes it back in."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora._qt.layers.layer_clicks import LayerClicks
from napari_sam_lora._qt.prompting.preview_layer import PreviewLayer
from napari_sam_lora.session import PlaneKey, Proposal

NAME = "SAM proposal"
HELP = "Click on an object to drop it, click again to take it back in"


class ProposalLayer:
    """Show the new objects of a proposal in one plane.

    Parameters
    ----------
    viewer : napari.Viewer
    clicked : callable
        Called with the plane and the pixel (y, x) that the user has clicked on.
    """

    def __init__(self, viewer: Any, clicked: Callable[[PlaneKey, tuple[int, int]], None]) -> None:
        self._clicked = clicked
        self._preview = PreviewLayer(viewer, NAME)
        self._image: Any = None
        self._plane: PlaneKey | None = None
        self._clicks = LayerClicks(viewer, self._on_click)

    @property
    def layer(self) -> Any | None:
        """Layer in the viewer; None while there is none."""
        return self._preview.layer

    def show(
        self, image_layer: Any, plane: PlaneKey, shape: tuple[int, int], proposal: Proposal, dropped: Collection[int]
    ) -> None:
        """Show the objects of a proposal in a plane of this shape (y, x) but those at some positions."""
        if image_layer is not self._image:
            self._preview.remove()  # it may have another transform
        self._image, self._plane = image_layer, plane
        kept = [
            (number, change.new) for number, change in enumerate(proposal.changes, start=1) if number - 1 not in dropped
        ]
        self._preview.show(image_layer, plane, shape, kept, whole=True)

    def choose(self) -> None:
        """Let clicks drop objects."""
        layer = self._preview.layer
        if layer is not None:
            self._clicks.listen_to(layer, HELP)

    def clear(self) -> None:
        """Show nothing, in a plane without proposals."""
        self._plane = None
        self._preview.clear()

    def remove(self) -> None:
        """Remove the layer, and select the layer that was selected before."""
        self._image = self._plane = None
        self._preview.remove()
        self._clicks.end()

    def _on_click(self, pixel: NDArray[np.int64]) -> None:
        # The layer is one pixel thick: elsewhere along the other axes, another plane is shown.
        if self._plane is not None and not pixel[list(self._plane.other_axes)].any():
            y, x = pixel[list(self._plane.axes)].tolist()
            self._clicked(self._plane, (y, x))

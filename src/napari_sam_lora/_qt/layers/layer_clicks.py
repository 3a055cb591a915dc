"""Clicks on the objects of a layer, without drawing prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from napari_sam_lora._qt.layers.coordinates import world_to_data

# A click that moved by more pixels of the canvas has dragged the image.
DRAG_PIXELS = 3


class LayerClicks:
    """Selects a layer and listens to clicks on it; afterwards selects the former layer again.

    Parameters
    ----------
    viewer : napari.Viewer
    clicked : callable
        Called with the data coordinates (n,) of a click in a 2-D view, rounded to a pixel; not if the image was
        dragged.
    """

    def __init__(self, viewer: Any, clicked: Callable[[Any], None]) -> None:
        self._viewer, self._clicked = viewer, clicked
        self._layer: Any | None = None
        self._former: Any | None = None

    def listen_to(self, layer: Any, help_text: str) -> None:
        """Select a layer, listen to clicks on it, and show in the status bar what they do."""
        active = self._viewer.layers.selection.active
        if self._layer is None and active is not layer:
            self._former = active
        if layer is not self._layer:
            self._disconnect()
            layer.mouse_drag_callbacks.append(self._on_mouse)
            self._layer = layer
        layer.help = help_text
        layer.mode = "pan_zoom"
        self._viewer.layers.selection.active = layer  # otherwise a click would draw a prompt

    def end(self) -> None:
        """Stop listening, and select the former layer."""
        self._disconnect()
        if self._former is not None and self._former in self._viewer.layers:
            self._viewer.layers.selection.active = self._former
        self._former = None

    def _disconnect(self) -> None:
        if self._layer is not None:
            self._layer.mouse_drag_callbacks.remove(self._on_mouse)
        self._layer = None

    def _on_mouse(self, layer: Any, event: Any) -> Iterator[None]:
        if event.button != 1 or event.modifiers or self._viewer.dims.ndisplay != 2:
            return
        start = np.asarray(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if np.abs(np.asarray(event.pos) - start).max() <= DRAG_PIXELS:
            self._clicked(np.round(world_to_data(self._viewer, layer, event.position)).astype(int))

"""Clicks on the objects of a layer that is looked through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from napari_sam_lora._qt.viewer.napari_stores import world_to_data


class LayerClicks:
    """Selects a layer and takes the clicks on it, and later selects the layer again that was selected before.

    Parameters
    ----------
    viewer : napari.Viewer
    clicked : callable
        Called with data coordinates (n,) of a click in a 2-D view, rounded to a pixel; not if the image was dragged.
    """

    def __init__(self, viewer: Any, clicked: Callable[[Any], None]) -> None:
        self._viewer, self._clicked = viewer, clicked
        self._layer: Any | None = None
        self._former: Any | None = None

    def take(self, layer: Any, words: str) -> None:
        """Take the clicks on a layer from now on, and say in the status bar what they do."""
        active = self._viewer.layers.selection.active
        if active is not layer:
            self._former = active
        if layer is not self._layer:
            self._let_go()
            layer.mouse_drag_callbacks.append(self._on_mouse)
            self._layer = layer
        layer.help = words
        layer.mode = "pan_zoom"
        self._viewer.layers.selection.active = layer  # otherwise a click would draw a prompt

    def end(self) -> None:
        """Take none any more, and select the former layer."""
        self._let_go()
        if self._former is not None and self._former in self._viewer.layers:
            self._viewer.layers.selection.active = self._former
        self._former = None

    def _let_go(self) -> None:
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
        if np.abs(np.asarray(event.pos) - start).max() <= 3:  # else the image was dragged
            self._clicked(np.round(world_to_data(self._viewer, layer, event.position)).astype(int))

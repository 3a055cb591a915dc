"""Shift-click on the image adds a negative point, whatever the tool."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from napari_sam_lora._qt.layers.active_layers import ActiveLayers
from napari_sam_lora._qt.layers.coordinates import data_shape, world_to_data
from napari_sam_lora._qt.prompting.prompt_drawing import PromptDrawing
from napari_sam_lora._qt.prompting.prompt_layers import MODES

MODIFIERS = ("Shift",)
MAX_DRAG = 5  # screen pixels between press and release, as for adding a point in napari


class NegativeClicks:
    """Add negative points on Shift-clicks in a viewer.

    Shift-clicks keep their meaning in napari where they have one: on a Points or Shapes layer in a mode for selecting,
    and while the user draws on a layer of their own.
    """

    def __init__(self, viewer: Any, active_layers: ActiveLayers, drawing: PromptDrawing) -> None:
        self._viewer, self._active_layers, self._drawing = viewer, active_layers, drawing
        self._callback = self._on_press
        viewer.mouse_drag_callbacks.append(self._callback)

    def close(self) -> None:
        """Remove the mouse callback from the viewer."""
        if self._callback in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._callback)

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        layer = viewer.layers.selection.active
        is_drawing = layer is not None and self._is_drawing_prompts(layer)
        if event.button != 1 or tuple(event.modifiers) != MODIFIERS or self._active_layers.plane is None:
            return
        if not (is_drawing or layer is None or str(layer.mode) == "pan_zoom"):
            return
        mode, start = None if layer is None else layer.mode, np.asarray(event.pos)
        if is_drawing:
            layer.mode = "pan_zoom"  # so that the click draws nothing else
        yield
        while event.type == "mouse_move":
            yield
        if is_drawing:
            layer.mode = mode
        if np.linalg.norm(np.asarray(event.pos) - start) < MAX_DRAG:
            self._add(event.position)

    def _is_drawing_prompts(self, layer: Any) -> bool:
        layers = self._drawing.layers
        return layers is not None and layer in layers.all() and str(layer.mode) in {*MODES.values(), "erase", "fill"}

    def _add(self, position: Any) -> None:
        image = self._active_layers.image_layer
        if image is None or self._active_layers.plane is None:
            return
        point = world_to_data(self._viewer, image, position)
        axes = list(self._active_layers.plane.axes)
        inside = (point[axes] > -0.5) & (point[axes] < np.array(data_shape(image))[axes] - 0.5)
        if inside.all():
            others = list(self._active_layers.plane.other_axes)
            point[others] = self._active_layers.plane.index
            self._drawing.add_negative(point)

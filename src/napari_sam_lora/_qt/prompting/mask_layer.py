"""Labels layer on which a mask is painted as a prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_sam_lora._qt.layers.coordinates import data_shape, from_thin, plane_transform, thin_shape, to_thin
from napari_sam_lora._qt.layers.napari_stores import METADATA_KEY
from napari_sam_lora._qt.prompting.prompt_conversion import COLOURS, DrawnPrompts, items_of
from napari_sam_lora.regions import Region
from napari_sam_lora.session import Draft, PlaneKey

MAX_OBJECTS = 100


class MaskLayer:
    """Labels layer of the shown plane; strokes of other planes are stored until these are shown.

    Object k is painted with the values 2k + 1 (inside) and 2k + 2 (outside).

    Parameters
    ----------
    viewer : napari.Viewer
    image_layer : napari.layers.Image
    changed : callable
        Called after each stroke.
    tool_changed : callable
        Called when the layer has another mode.
    """

    def __init__(
        self, viewer: Any, image_layer: Any, changed: Callable[[], None], tool_changed: Callable[[], None]
    ) -> None:
        self._viewer, self._image, self._changed, self._tool_changed = viewer, image_layer, changed, tool_changed
        self.layer: Any | None = None
        self._plane: PlaneKey | None = None
        self._stored: dict[PlaneKey, NDArray[Any]] = {}
        self._value = 1
        self._last_pixels: NDArray[Any] = np.zeros(0, np.uint8)

    def ensure(self, plane: PlaneKey) -> Any:
        """Return the layer, showing a plane; it is made if it is not there."""
        if self.layer is None:
            self._make(plane, self._stored.pop(plane, None))
        else:
            self.go_to(plane)
        return self.layer

    def go_to(self, plane: PlaneKey | None) -> None:
        """Store the present strokes and show those of another plane."""
        if self.layer is None or plane is None or plane == self._plane:
            return
        self._store_strokes()
        pixels = self._stored.pop(plane, None)
        mode, active = self.layer.mode, self._viewer.layers.selection.active is self.layer
        self._remove_layer()  # a new layer, because the undo history of this one belongs to the other plane
        made = self._make(plane, pixels)
        if active:
            self._viewer.layers.selection.active = made
            made.mode = mode

    def select(self, positive: bool, obj: int) -> None:
        """Paint with the value of this polarity and object from now on."""
        self._value = 2 * min(obj, MAX_OBJECTS - 1) + (1 if positive else 2)
        if self.layer is not None:
            self.layer.selected_label = self._value

    def read(self, drawn: DrawnPrompts) -> None:
        """Add the masks painted in a plane."""
        if self.layer is not None and drawn.plane == self._plane:
            pixels = from_thin(np.asarray(self.layer.data), drawn.plane)
        elif drawn.plane in self._stored:
            pixels = self._stored[drawn.plane]
        else:
            return
        y0, x0, y1, x1 = Region.of(pixels).box
        painted = pixels[y0:y1, x0:x1]
        for value in np.unique(painted[painted > 0]).tolist():
            drawn.add("mask", Region.of(painted == value, (y0, x0)), value % 2 == 1, (value - 1) // 2)

    def show(self, plane: PlaneKey, draft: Draft) -> None:
        """Replace what is painted in a plane by the masks of a draft."""
        masks = items_of(draft, ["mask"])
        if not masks and self.layer is None and plane not in self._stored:
            return
        pixels = np.zeros(draft.shape, np.uint8)
        for obj, item in masks:
            if item.region is not None:
                item.region.write(pixels, 2 * min(obj, MAX_OBJECTS - 1) + (1 if item.positive else 2))
        if pixels.any():
            self.ensure(plane)
        self._stored.pop(plane, None)
        if self.layer is not None and plane == self._plane:
            changed = np.nonzero(self.layer.data != to_thin(pixels, plane))
            self.layer.data_setitem(changed, to_thin(pixels, plane)[changed])

    def forget(self, layer: Any) -> bool:
        """Disconnect from a layer that has left the viewer; return whether it was this one."""
        if layer is not self.layer or layer is None:
            return False
        self._disconnect()
        self.layer = self._plane = None
        return True

    def follow(self) -> None:
        """Copy the transform of the image after it has changed."""
        if self.layer is not None and self._plane is not None:
            for name, value in plane_transform(self._image, self._plane).items():
                setattr(self.layer, name, value)

    def _store_strokes(self) -> None:
        if self.layer is not None and self._plane is not None and np.any(self.layer.data):
            self._stored[self._plane] = from_thin(np.array(self.layer.data), self._plane)

    def _remove_layer(self) -> None:
        layer = self.layer
        self.forget(layer)
        if layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _make(self, plane: PlaneKey, pixels: NDArray[Any] | None) -> Any:
        active = self._viewer.layers.selection.active
        shape = thin_shape(plane, data_shape(self._image))
        data = np.zeros(shape, np.uint8) if pixels is None else to_thin(pixels, plane).copy()
        self.layer = self._viewer.add_labels(
            data,
            name="SAM painted mask",
            opacity=0.5,
            metadata={METADATA_KEY: {"role": "mask"}},
            **plane_transform(self._image, plane),
        )
        self._plane, self._last_pixels = plane, data.copy()
        self.layer.colormap = _colormap()
        self.layer.brush_size = max(3, max(shape) // 40)
        self.layer.selected_label = self._value
        self.layer.events.paint.connect(self._on_painted)
        self.layer.events.set_data.connect(self._on_painted)
        self.layer.events.mode.connect(self._on_mode)
        self._viewer.layers.selection.active = active
        return self.layer

    def _disconnect(self) -> None:
        if self.layer is not None:
            self.layer.events.paint.disconnect(self._on_painted)
            self.layer.events.set_data.disconnect(self._on_painted)
            self.layer.events.mode.disconnect(self._on_mode)

    def _on_mode(self, event: Any) -> None:
        self._tool_changed()

    def _on_painted(self, event: Any) -> None:
        QTimer.singleShot(0, self._check_pixels)  # napari emits the event before it writes the pixels

    def _check_pixels(self) -> None:
        """Report a change if pixels differ; the events are also emitted for changes that touch no pixel."""
        data = None if self.layer is None else np.asarray(self.layer.data)
        if data is not None and not np.array_equal(data, self._last_pixels):
            self._last_pixels = data.copy()
            self._changed()


def _colormap() -> Any:
    colours: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    for obj in range(MAX_OBJECTS):
        colours[2 * obj + 1], colours[2 * obj + 2] = COLOURS[True], COLOURS[False]
    return DirectLabelColormap(color_dict=colours)

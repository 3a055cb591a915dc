"""Objects found in the planes of a stack that are not labels yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_sam_lora._qt.geometry import data_shape, transform_of
from napari_sam_lora._qt.layers import MARK, role_of, world_to_data
from napari_sam_lora._qt.preview_layer import COLOURS, preview_colormap
from napari_sam_lora.session import PlaneKey, ProposedChange
from napari_sam_lora.session.regions import Region

NAME = "SAM propagation"
# In a side view or in 3-D every plane changes what is shown.
DRAW_EVERY_MS = 150


class PropagationLayer(QObject):
    """A Labels layer as large as the image, which fills plane by plane; a click leaves an object out.

    Parameters
    ----------
    viewer : napari.Viewer
    changed : callable
        Called after the user has left an object out or taken it in again.
    parent : QObject
    """

    def __init__(self, viewer: Any, changed: Callable[[], None], parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._changed = viewer, changed
        self._layer: Any | None = None
        self._former: Any | None = None
        self._numbers: dict[int, int] = {}
        self._shown: dict[tuple[PlaneKey, int], Region] = {}
        self.dropped: set[int] = set()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(DRAW_EVERY_MS)
        self._timer.timeout.connect(self._draw)

    @property
    def layer(self) -> Any | None:
        """The layer; None while there is none, or after the user has removed it."""
        if self._layer is not None and self._layer not in self._viewer.layers:
            self._layer = None
        return self._layer

    def begin(self, image_layer: Any) -> None:
        """Add an empty layer in the place of an image; none if there is no memory for it."""
        self.remove()
        active = self._viewer.layers.selection.active
        try:
            data = np.zeros(data_shape(image_layer), np.uint16)  # taken only where something is written
        except MemoryError:
            return
        self._layer = self._viewer.add_labels(
            data,
            name=NAME,
            opacity=0.5,
            metadata={MARK: {"role": "preview"}},
            **transform_of(image_layer),
        )
        self._layer.colormap = preview_colormap(COLOURS, 2**8)
        self._layer.editable = False
        self._lower()
        self._viewer.layers.selection.active = active

    def add(self, changes: Iterable[ProposedChange]) -> None:
        """Show more objects, or the same ones anew."""
        layer = self.layer
        for change in changes:
            self._numbers.setdefault(change.label, len(self._numbers) + 1)
            self._shown[change.plane, change.label] = change.new
            if layer is not None and change.label not in self.dropped:
                self._write(layer, change.plane, change.new, self._numbers[change.label])
        if layer is not None and not self._timer.isActive():
            self._timer.start()

    def choose(self) -> None:
        """Let clicks leave objects out."""
        layer, active = self.layer, self._viewer.layers.selection.active
        if layer is not None and active is not layer:
            self._former = active
            layer.mouse_drag_callbacks.append(self._on_mouse)
            layer.help = "Click on an object to leave it out, click again to take it back in"
            layer.mode = "pan_zoom"
            self._viewer.layers.selection.active = layer  # otherwise a click would draw a prompt

    def toggle(self, label: int) -> None:
        """Leave an object out, or take it in again."""
        self.dropped ^= {label}
        layer = self.layer
        if layer is not None:
            value = 0 if label in self.dropped else self._numbers[label]
            for (plane, one), region in self._shown.items():
                if one == label:
                    self._write(layer, plane, region, value)
            self._draw()
        self._changed()

    def stop_choosing(self) -> None:
        """Select the layer that was selected before; clicks do nothing here any more."""
        layer = self.layer
        if layer is not None and self._on_mouse in layer.mouse_drag_callbacks:
            layer.mouse_drag_callbacks.remove(self._on_mouse)
        if self._former is not None and self._former in self._viewer.layers:
            self._viewer.layers.selection.active = self._former
        self._former = None

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        self._timer.stop()
        layer = self.layer
        if layer is not None:
            self._viewer.layers.remove(layer)
        self.stop_choosing()
        self._layer = None
        self._numbers, self._shown, self.dropped = {}, {}, set()

    def _lower(self) -> None:
        """Below what prompts are drawn on."""
        layers = self._viewer.layers
        prompts = [place for place, layer in enumerate(layers) if role_of(layer) in ("points", "shapes", "mask")]
        if prompts:
            layers.move(layers.index(self._layer), min(prompts))

    def _write(self, layer: Any, plane: PlaneKey, region: Region, value: int) -> None:
        pixels = layer.data[plane.slices(region.box)]  # a view
        pixels[region.crop.T if plane.is_transposed else region.crop] = value

    def _draw(self) -> None:
        layer = self.layer
        if layer is not None:
            most = max(self._numbers.values(), default=0)
            if most not in layer.colormap.color_dict:
                layer.colormap = preview_colormap(COLOURS, 2 * most)
            layer.refresh(extent=False)

    def _on_mouse(self, layer: Any, event: Any) -> Iterator[None]:
        if event.button != 1 or event.modifiers or self._viewer.dims.ndisplay != 2:
            return
        start = np.asarray(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if np.abs(np.asarray(event.pos) - start).max() <= 3:  # else the image was dragged
            label = self._label_at(world_to_data(self._viewer, layer, event.position))
            if label:
                self.toggle(label)

    def _label_at(self, data: Any) -> int:
        """The object at data coordinates, left out or not; 0 for none."""
        place = np.round(np.asarray(data)).astype(int)
        for (plane, label), region in self._shown.items():
            if tuple(place[list(plane.other_axes)]) == plane.index:
                y, x = place[list(plane.axes)] - region.origin
                if 0 <= y < region.crop.shape[0] and 0 <= x < region.crop.shape[1] and region.crop[y, x]:
                    return label
        return 0

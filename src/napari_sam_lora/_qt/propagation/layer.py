"""Objects found in the planes of a stack that are not labels yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer

from napari_sam_lora._qt.prompting.preview_layer import COLOURS, preview_colormap
from napari_sam_lora._qt.viewer.coordinates import data_shape, transform_of
from napari_sam_lora._qt.viewer.layer_clicks import LayerClicks
from napari_sam_lora._qt.viewer.napari_stores import MARK, role_of
from napari_sam_lora.regions import Region
from napari_sam_lora.session import PlaneKey, ProposedChange

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
        self._clicks = LayerClicks(viewer, self._on_click)
        self._numbers: dict[int, int] = {}
        self._shown: defaultdict[PlaneKey, dict[int, Region]] = defaultdict(dict)
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
        """Show more objects; those that are shown already cost nothing."""
        layer = self.layer
        for change in changes:
            here = self._shown[change.plane]
            if here.get(change.label) is change.new:
                continue
            self._numbers.setdefault(change.label, len(self._numbers) + 1)
            here[change.label] = change.new
            if layer is not None and change.label not in self.dropped:
                self._write(layer, change.plane, change.new, self._numbers[change.label])
        if layer is not None and not self._timer.isActive():
            self._timer.start()

    def choose(self) -> None:
        """Let clicks leave objects out."""
        layer = self.layer
        if layer is not None:
            self._clicks.take(layer, "Click on an object to leave it out, click again to take it back in")

    def toggle(self, label: int) -> None:
        """Leave an object out, or take it in again."""
        self.dropped ^= {label}
        layer = self.layer
        if layer is not None:
            value = 0 if label in self.dropped else self._numbers[label]
            for plane, here in self._shown.items():
                if label in here:
                    self._write(layer, plane, here[label], value)
            self._draw()
        self._changed()

    def stop_choosing(self) -> None:
        """Select the layer that was selected before; clicks do nothing here any more."""
        self._clicks.end()

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        self._timer.stop()
        layer = self.layer
        if layer is not None:
            self._viewer.layers.remove(layer)
        self.stop_choosing()
        self._layer = None
        self._numbers, self.dropped = {}, set()
        self._shown.clear()

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

    def _on_click(self, place: NDArray[np.int64]) -> None:
        label = self._label_at(place)
        if label:
            self.toggle(label)

    def _label_at(self, place: NDArray[np.int64]) -> int:
        """The object at a pixel, left out or not; 0 for none."""
        any_plane = next(iter(self._shown), None)  # all are of one stack
        if any_plane is None:
            return 0
        plane = replace(any_plane, index=tuple(place[list(any_plane.other_axes)].tolist()))
        for label, region in self._shown.get(plane, {}).items():
            y, x = place[list(plane.axes)] - region.origin
            if 0 <= y < region.crop.shape[0] and 0 <= x < region.crop.shape[1] and region.crop[y, x]:
                return label
        return 0

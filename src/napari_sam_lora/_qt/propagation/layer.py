"""Preview layer of propagated objects, before they are accepted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer

from napari_sam_lora._qt.layers.coordinates import data_shape, transform_of
from napari_sam_lora._qt.layers.layer_clicks import LayerClicks
from napari_sam_lora._qt.layers.napari_stores import METADATA_KEY, role_of
from napari_sam_lora._qt.prompting.preview_layer import COLOURS, preview_colormap
from napari_sam_lora.regions import Region
from napari_sam_lora.session import PlaneKey, ProposedChange

NAME = "SAM propagation"
DRAW_EVERY_MS = 150  # a side view and 3-D would else be drawn again for each plane


class PropagationLayer(QObject):
    """Labels layer as large as the image, filled plane by plane; a click leaves an object out.

    Parameters
    ----------
    viewer : napari.Viewer
    changed : callable
        Called after the user has left an object out or taken it back in.
    parent : QObject

    Attributes
    ----------
    dropped : set of int
        Ids of the objects that the user has left out.
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
        """The napari layer; None while there is none, or after the user has removed it."""
        if self._layer is not None and self._layer not in self._viewer.layers:
            self._layer = None
        return self._layer

    def begin(self, image_layer: Any) -> None:
        """Add an empty layer over an image; no layer if there is no memory for it."""
        self.remove()
        active = self._viewer.layers.selection.active
        try:
            data = np.zeros(data_shape(image_layer), np.uint16)  # memory is used only where something is written
        except MemoryError:
            return
        self._layer = self._viewer.add_labels(
            data,
            name=NAME,
            opacity=0.5,
            metadata={METADATA_KEY: {"role": "preview"}},
            **transform_of(image_layer),
        )
        self._layer.colormap = preview_colormap(COLOURS, 2**8)
        self._layer.editable = False
        self._lower()
        self._viewer.layers.selection.active = active

    def add(self, changes: Iterable[ProposedChange]) -> None:
        """Show more objects; those that are shown already are skipped."""
        layer = self.layer
        for change in changes:
            regions = self._shown[change.plane]
            if regions.get(change.label) is change.new:
                continue
            self._numbers.setdefault(change.label, len(self._numbers) + 1)
            regions[change.label] = change.new
            if layer is not None and change.label not in self.dropped:
                self._write(layer, change.plane, change.new, self._numbers[change.label])
        if layer is not None and not self._timer.isActive():
            self._timer.start()

    def choose(self) -> None:
        """Select the layer and let clicks leave objects out."""
        layer = self.layer
        if layer is not None:
            self._clicks.listen_to(layer, "Click on an object to leave it out, click again to take it back in")

    def toggle(self, label: int) -> None:
        """Leave an object out, or take it back in."""
        self.dropped ^= {label}
        layer = self.layer
        if layer is not None:
            value = 0 if label in self.dropped else self._numbers[label]
            for plane, regions in self._shown.items():
                if label in regions:
                    self._write(layer, plane, regions[label], value)
            self._draw()
        self._changed()

    def stop_choosing(self) -> None:
        """Select the layer that was selected before; clicks no longer change anything here."""
        self._clicks.end()

    def remove(self) -> None:
        """Remove the layer from the viewer and forget its objects."""
        self._timer.stop()
        layer = self.layer
        if layer is not None:
            self._viewer.layers.remove(layer)
        self.stop_choosing()
        self._layer = None
        self._numbers, self.dropped = {}, set()
        self._shown.clear()

    def _lower(self) -> None:
        """Move the layer below those on which prompts are drawn."""
        layers = self._viewer.layers
        prompt_layers = [index for index, layer in enumerate(layers) if role_of(layer) in ("points", "shapes", "mask")]
        if prompt_layers:
            layers.move(layers.index(self._layer), min(prompt_layers))

    def _write(self, layer: Any, plane: PlaneKey, region: Region, value: int) -> None:
        pixels = layer.data[plane.slices(region.box)]  # a view
        pixels[region.crop.T if plane.is_transposed else region.crop] = value

    def _draw(self) -> None:
        layer = self.layer
        if layer is not None:
            largest = max(self._numbers.values(), default=0)
            if largest not in layer.colormap.color_dict:
                layer.colormap = preview_colormap(COLOURS, 2 * largest)
            layer.refresh(extent=False)

    def _on_click(self, position: NDArray[np.int64]) -> None:
        label = self._label_at(position)
        if label:
            self.toggle(label)

    def _label_at(self, position: NDArray[np.int64]) -> int:
        """Return the id of the object at a pixel, left out or not; 0 for none."""
        any_plane = next(iter(self._shown), None)  # all planes are of one stack
        if any_plane is None:
            return 0
        plane = replace(any_plane, index=tuple(position[list(any_plane.other_axes)].tolist()))
        for label, region in self._shown.get(plane, {}).items():
            y, x = position[list(plane.axes)] - region.origin
            if 0 <= y < region.crop.shape[0] and 0 <= x < region.crop.shape[1] and region.crop[y, x]:
                return label
        return 0

"""Layer that shows masks before they become labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_sam_lora._qt.viewer.coordinates import from_thin, plane_transform, to_thin
from napari_sam_lora._qt.viewer.napari_stores import METADATA_KEY, role_of
from napari_sam_lora.session import PlaneKey

# Bright and few, so that they differ from the many colours of finished labels.
COLOURS = ("#00e5ff", "#ffee00", "#ff4dff", "#ff9100", "#8c9eff")


class PreviewLayer:
    """Read-only Labels layer over one plane of the image; it is never a result.

    Parameters
    ----------
    viewer : napari.Viewer
    name : str
    colours : tuple of str
        Colours of the masks, used in turn.
    """

    def __init__(self, viewer: Any, name: str = "SAM preview", colours: tuple[str, ...] = COLOURS) -> None:
        self._viewer, self._name, self._colours = viewer, name, colours
        self._layer: Any | None = None
        self._plane: PlaneKey | None = None

    @property
    def layer(self) -> Any | None:
        """Layer in the viewer; None while there is none."""
        if self._layer is not None and self._layer not in self._viewer.layers:
            self._layer = None
        return self._layer

    def show(self, image_layer: Any, plane: PlaneKey, ids: NDArray[Any]) -> None:
        """Show ids, int (y, x), over a plane: 0 is transparent, other ids have colours. Redraws what changed."""
        ids = ids.astype(np.uint16)
        wanted, layer = to_thin(ids, plane), self.layer
        if layer is not None and (layer.data.shape != wanted.shape or layer.ndim != image_layer.ndim):
            self.remove()
            layer = None
        if layer is None:
            self._make(image_layer, plane, wanted)
        else:
            translate = plane_transform(image_layer, plane)["translate"]
            if not np.allclose(layer.translate, translate):
                layer.translate = translate
            self._write(layer, wanted)
            self._plane = plane

    def clear(self) -> None:
        """Make all pixels transparent."""
        layer = self.layer
        if layer is not None:
            self._write(layer, np.zeros_like(layer.data))

    def pixels(self) -> NDArray[Any] | None:
        """Return the ids that are shown, (y, x); None while there is no layer."""
        layer = self.layer
        return None if layer is None or self._plane is None else from_thin(layer.data, self._plane)

    def remove(self) -> None:
        """Remove the layer from the viewer."""
        layer = self.layer
        self._layer = None
        if layer is not None:
            self._viewer.layers.remove(layer)

    def follow(self, image_layer: Any) -> None:
        """Copy the transform of the image after it has changed."""
        layer = self.layer
        if layer is not None and self._plane is not None and layer.ndim == image_layer.ndim:
            for name, value in plane_transform(image_layer, self._plane).items():
                setattr(layer, name, value)

    def _make(self, image_layer: Any, plane: PlaneKey, wanted: NDArray[Any]) -> None:
        active = self._viewer.layers.selection.active
        self._layer = self._viewer.add_labels(
            wanted.copy(),
            name=self._name,
            opacity=0.5,
            metadata={METADATA_KEY: {"role": "preview"}},
            **plane_transform(image_layer, plane),
        )
        self._layer.colormap = preview_colormap(self._colours, int(wanted.max(initial=0)))
        self._layer.editable = False
        self._plane = plane
        self._move_below_prompts()
        self._viewer.layers.selection.active = active

    def _move_below_prompts(self) -> None:
        """Move the layer below those that prompts are drawn on."""
        layers = self._viewer.layers
        prompts = [index for index, layer in enumerate(layers) if role_of(layer) in ("points", "shapes", "mask")]
        if prompts:
            layers.move(layers.index(self._layer), min(prompts))

    def _write(self, layer: Any, wanted: NDArray[Any]) -> None:
        """Write pixels; few changes are drawn one by one, many as a whole."""
        if int(wanted.max(initial=0)) not in layer.colormap.color_dict:
            layer.colormap = preview_colormap(self._colours, int(wanted.max()))
        changed = np.nonzero(layer.data != wanted)
        if len(changed[0]) <= wanted.size // 8:
            layer.data_setitem(changed, wanted[changed])
        else:
            layer.data[...] = wanted
            layer.refresh(extent=False)


def preview_colormap(colours: tuple[str, ...], most: int) -> Any:
    """Make a colormap with the colours in turn for ids from 1 to ``most`` (at least 16); others are transparent."""
    shown: dict[int | None, str] = {number + 1: colours[number % len(colours)] for number in range(max(most, 16))}
    return DirectLabelColormap(color_dict={0: "transparent", None: "transparent", **shown})

"""Layer that shows masks before they become labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_sam_lora._qt.layers.coordinates import plane_transform, to_thin
from napari_sam_lora._qt.layers.napari_stores import METADATA_KEY, role_of
from napari_sam_lora.regions import Region, union_box
from napari_sam_lora.session import PlaneKey
from napari_sam_lora.session.plane_key import Box

# Bright and few, so that they differ from the many colours of finished labels.
COLOURS = ("#00e5ff", "#ffee00", "#ff4dff", "#ff9100", "#8c9eff")
# Planes of at most so many pixels are covered as a whole, which takes no time.
_SMALL_AREA = 2**20
# Pixels around masks that a layer covers at least, and how much larger than the masks it may be.
_MARGIN, _MOST_ROOM = 64, 16


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
        self._shape = (0, 0)
        self._box: Box = (0, 0, 0, 0)

    @property
    def layer(self) -> Any | None:
        """Layer in the viewer; None while there is none."""
        if self._layer is not None and self._layer not in self._viewer.layers:
            self._layer = None
        return self._layer

    def show(
        self,
        image_layer: Any,
        plane: PlaneKey,
        shape: tuple[int, int],
        masks: Sequence[tuple[int, Region]],
        whole: bool = False,
    ) -> None:
        """Show masks over a plane of this shape (y, x), the last one on top.

        The layer is as large as the masks with some margin, so that the next ones often fit in it too.

        Parameters
        ----------
        masks : sequence of (int, Region)
            Ids, which have different colours, and masks.
        whole : bool
            Let the layer cover the whole plane, so that its pixels are those of the plane.
        """
        if self._shape != shape or self._plane is None or self._plane.axes != plane.axes:
            self.remove()
        layer, box = self.layer, (0, 0, *shape) if whole else union_box(region for _, region in masks)
        if layer is None or not _has_room(self._box, box):
            self._box = box if whole else _with_margin(box, shape)
        self._plane, self._shape = plane, shape
        y0, x0, y1, x1 = self._box
        ids = np.zeros((y1 - y0, x1 - x0), np.uint16)
        for number, region in masks:
            region.moved(-y0, -x0).write(ids, number)
        wanted = to_thin(ids, plane)
        if layer is None:
            self._make(image_layer, plane, wanted)
            return
        translate = plane_transform(image_layer, plane, (y0, x0))["translate"]
        if not np.allclose(layer.translate, translate):
            layer.translate = translate
        self._write(layer, wanted)

    def clear(self) -> None:
        """Make all pixels transparent."""
        layer = self.layer
        if layer is not None:
            self._write(layer, np.zeros_like(layer.data))

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
            for name, value in plane_transform(image_layer, self._plane, self._box[:2]).items():
                setattr(layer, name, value)

    def _make(self, image_layer: Any, plane: PlaneKey, wanted: NDArray[Any]) -> None:
        active = self._viewer.layers.selection.active
        self._layer = self._viewer.add_labels(
            wanted,
            name=self._name,
            opacity=0.5,
            metadata={METADATA_KEY: {"role": "preview"}},
            **plane_transform(image_layer, plane, self._box[:2]),
        )
        self._layer.colormap = preview_colormap(self._colours, int(wanted.max(initial=0)))
        self._layer.editable = False
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
        if layer.data.shape != wanted.shape:
            layer.data = wanted
            return
        changed = np.nonzero(layer.data != wanted)
        if len(changed[0]) <= wanted.size // 8:
            layer.data_setitem(changed, wanted[changed])
        else:
            layer.data[...] = wanted
            layer.refresh(extent=False)


def _has_room(present: Box, wanted: Box) -> bool:
    """Return whether a layer that covers the present box can show the wanted one, and is not far too large for it."""
    if (wanted[2] - wanted[0]) * (wanted[3] - wanted[1]) == 0:
        return True
    inside = all(a <= b for a, b in zip(present[:2], wanted[:2], strict=True))
    inside &= all(a >= b for a, b in zip(present[2:], wanted[2:], strict=True))
    areas = [(y1 - y0) * (x1 - x0) for y0, x0, y1, x1 in (present, wanted)]
    return inside and (areas[0] <= _SMALL_AREA or areas[0] <= _MOST_ROOM * areas[1])


def _with_margin(box: Box, shape: tuple[int, int]) -> Box:
    """Return a larger box within the plane; all of a small plane."""
    if shape[0] * shape[1] <= _SMALL_AREA:
        return 0, 0, *shape
    y0, x0, y1, x1 = box
    dy, dx = _MARGIN + (y1 - y0) // 4, _MARGIN + (x1 - x0) // 4
    return max(0, y0 - dy), max(0, x0 - dx), min(shape[0], y1 + dy), min(shape[1], x1 + dx)


def preview_colormap(colours: tuple[str, ...], most: int) -> Any:
    """Make a colormap with the colours in turn for ids from 1 to ``most`` (at least 16); others are transparent."""
    shown: dict[int | None, str] = {number + 1: colours[number % len(colours)] for number in range(max(most, 16))}
    return DirectLabelColormap(color_dict={0: "transparent", None: "transparent", **shown})

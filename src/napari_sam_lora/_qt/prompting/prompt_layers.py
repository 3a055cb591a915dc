"""Layers that prompts are drawn on, made when they are needed, also after the user has deleted them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from napari_sam_lora._qt.layers.coordinates import data_shape, snapped_transform
from napari_sam_lora._qt.layers.napari_stores import METADATA_KEY, role_of
from napari_sam_lora._qt.prompting import prompt_conversion
from napari_sam_lora._qt.prompting.mask_layer import MaskLayer
from napari_sam_lora._qt.prompting.prompt_conversion import COLOURS, OBJECT, POLARITY, POLARITY_NAMES, DrawnPrompts
from napari_sam_lora.session import Draft, PlaneKey

Tool = Literal["point", "box", "lasso", "scribble", "mask"]
MODES: dict[Tool, str] = {
    "point": "add",
    "box": "add_rectangle",
    "lasso": "add_polygon_lasso",
    "scribble": "add_path",
    "mask": "paint",
}
# napari fails if shapes of the layer are changed while one is being drawn in one of these modes.
UNFINISHED = ("add_path", "add_polyline", "add_polygon", "add_polygon_lasso")
FINAL_ACTIONS = ("added", "removed", "changed")


class PromptLayers:
    """Points, Shapes and mask layer over one image, whose contents are the prompts.

    Parameters
    ----------
    viewer : napari.Viewer
    image_layer : napari.layers.Image
    changed : callable
        Called after the user has changed something.
    tool_changed : callable
        Called when one of the layers has another mode.
    """

    def __init__(
        self, viewer: Any, image_layer: Any, changed: Callable[[], None], tool_changed: Callable[[], None]
    ) -> None:
        self._viewer, self._image, self._changed, self._tool_changed = viewer, image_layer, changed, tool_changed
        self._layers: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._ignoring = 0
        self._is_finishing = False
        self.batch = False
        self.positive = True
        self.obj = 0
        self.mask = MaskLayer(viewer, image_layer, self._on_changed, tool_changed)

    @property
    def points(self) -> Any | None:
        """Points layer, if there is one."""
        return self._layers.get("points")

    @property
    def shapes(self) -> Any | None:
        """Shapes layer, if there is one."""
        return self._layers.get("shapes")

    def all(self) -> list[Any]:
        """Return those of the layers that exist."""
        made = [self.points, self.shapes, self.mask.layer]
        return [layer for layer in made if layer is not None]

    def draw_with(self, tool: Tool, plane: PlaneKey | None) -> None:
        """Select the layer of a tool (made if it is not there) in the mode for drawing with it."""
        self.finish()
        if tool == "mask":
            if plane is None:
                return
            layer = self.mask.ensure(plane)
        else:
            layer = self.ensure("points" if tool == "point" else "shapes")
        self.prepare()
        layer.visible = True
        self._viewer.layers.selection.active = layer
        layer.mode = MODES[tool]

    def tool(self) -> Tool | None:
        """Return the tool that the user draws with at the moment."""
        active = self._viewer.layers.selection.active
        if active is None or active not in self.all():
            return None
        mode = str(active.mode)
        return next((tool for tool, one in MODES.items() if one == mode), None)

    def ensure(self, role: str) -> Any:
        """Return the Points or Shapes layer; it is made if it is not there."""
        if role not in self._layers:
            active = self._viewer.layers.selection.active
            self._layers[role] = self._make(role)
            self._counts[role] = 0
            self._layers[role].events.data.connect(self._on_data)
            self._layers[role].events.features.connect(self._on_features)
            self._layers[role].events.mode.connect(self._on_mode)
            self._viewer.layers.selection.active = active
            self.prepare()
        return self._layers[role]

    def prepare(self) -> None:
        """Give the present polarity and object to what is drawn next."""
        with self._ignore_events():
            for layer in self._layers.values():
                selected = set(layer.selected_data)
                layer.selected_data = set()  # or napari changes the selected items too
                layer.feature_defaults = prompt_conversion.features_of([self.positive], [self.obj])
                if role_of(layer) == "points":
                    layer.current_face_color = COLOURS[self.positive]
                else:
                    layer.current_edge_color = COLOURS[self.positive]
                if layer.mode == "select":
                    layer.selected_data = selected
        self.mask.select(self.positive, self.obj)

    def finish(self) -> None:
        """End a line or lasso that is still being drawn, as a double click does."""
        layer = self.shapes
        if layer is not None and layer.mode in UNFINISHED:
            mode, self._is_finishing = layer.mode, True
            layer.mode = "pan_zoom"
            layer.mode = mode
            self._is_finishing = False

    def add_point(self, position: Any, positive: bool) -> None:
        """Add a point at data coordinates, as if it had been clicked."""
        layer = self.ensure("points")
        before, self.positive = self.positive, positive
        self.prepare()
        layer.add(np.asarray(position, np.float64)[None])
        self.positive = before
        self.prepare()

    def read(self, drawn: DrawnPrompts) -> None:
        """Add the prompts of a plane."""
        if self.points is not None:
            drawn.read_points(self.points)
        if self.shapes is not None:
            drawn.read_shapes(self.shapes)
        self.mask.read(drawn)

    def show(self, plane: PlaneKey, draft: Draft) -> None:
        """Replace what is drawn in a plane by the prompts of a draft."""
        self.finish()
        with self._ignore_events():
            for layer in self._layers.values():
                prompt_conversion.remove(layer, prompt_conversion.in_plane(layer, plane))
            for obj, item in prompt_conversion.items_of(draft, ["point"]):
                layer = self.ensure("points")
                layer.add(prompt_conversion.as_point(item, plane)[None])
                prompt_conversion.set_last(layer, item.positive, obj)
            for obj, item in prompt_conversion.items_of(draft, ["box", "lasso", "scribble"]):
                layer, shape = self.ensure("shapes"), prompt_conversion.as_shape(item, plane)
                layer.add(shape.vertices, shape_type=shape.type)
                prompt_conversion.set_last(layer, item.positive, obj)
            for layer in self._layers.values():
                self._update_count(layer)
                prompt_conversion.colour(layer)
            self.mask.show(plane, draft)
        self.prepare()

    def flip_selected(self) -> bool:
        """Flip the polarity of the selected points or shapes; return False if none are selected."""
        active = self._viewer.layers.selection.active
        if active not in self._layers.values() or active.mode not in ("select", "direct") or not active.selected_data:
            return False
        features = active.features.copy()
        positive = prompt_conversion.polarities_of(active)
        for number in active.selected_data:
            features.loc[number, POLARITY] = POLARITY_NAMES[not positive[number]]
        active.features = features
        return True

    def separate(self) -> None:
        """Give each positive point or shape an object of its own, over all planes."""
        number = 0
        for layer in self._layers.values():
            positive = prompt_conversion.polarities_of(layer)
            objects = []
            for one in positive:
                objects.append(number if one else max(0, number - 1))
                number += one
            with self._ignore_events():
                layer.features = prompt_conversion.features_of(positive, objects)
        self.obj = number
        self.prepare()
        self._on_changed()

    def forget(self, layer: Any) -> bool:
        """Disconnect from a layer that has left the viewer; return whether it was one of these."""
        role = next((role for role, one in self._layers.items() if one is layer), None)
        if role is not None:
            del self._layers[role]
            layer.events.data.disconnect(self._on_data)
            layer.events.features.disconnect(self._on_features)
            layer.events.mode.disconnect(self._on_mode)
        return self.mask.forget(layer) or role is not None

    def remove(self) -> None:
        """Remove all layers from the viewer."""
        for layer in self.all():
            self.forget(layer)
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def follow(self) -> None:
        """Copy the transform of the image after it has changed."""
        for layer in list(self._layers.values()):
            for name, value in snapped_transform(self._viewer, self._image).items():
                setattr(layer, name, value)
        self.mask.follow()

    def snap(self) -> None:
        """Move the Points and Shapes layers so that the viewer, which has moved, shows the middle of a plane."""
        if not self._layers:
            return
        wanted = snapped_transform(self._viewer, self._image)["translate"]
        for layer in list(self._layers.values()):
            if not np.allclose(layer.translate, wanted):
                layer.translate = wanted

    def _make(self, role: str) -> Any:
        ndim, side = self._image.ndim, max(data_shape(self._image)[-2:])
        common = {
            "ndim": ndim,
            "features": prompt_conversion.features_of([], []),
            "feature_defaults": prompt_conversion.features_of([True], [0]),
            "metadata": {METADATA_KEY: {"role": role}},
            **snapped_transform(self._viewer, self._image),
        }
        if role == "points":
            return self._viewer.add_points(
                np.empty((0, ndim)),
                name="SAM points",
                size=max(1.5, side / 50),
                face_color=COLOURS[True],
                border_color="white",
                **common,
            )
        return self._viewer.add_shapes(
            [],
            name="SAM boxes",
            edge_width=max(0.3, side / 250),
            edge_color=COLOURS[True],
            face_color="transparent",
            **common,
        )

    def _on_data(self, event: Any) -> None:
        if self._ignoring or str(getattr(event, "action", "changed")) not in FINAL_ACTIONS:
            return
        layer = event.source
        added = range(self._counts.get(role_of(layer), 0), len(layer.data))
        if self.batch and added:
            self._assign_objects(layer, added)
        self._update_count(layer)
        with self._ignore_events():
            prompt_conversion.colour(layer)
        self._on_changed()

    def _on_mode(self, event: Any) -> None:
        if not self._is_finishing:
            self._tool_changed()

    def _on_features(self, event: Any) -> None:
        if not self._ignoring and len(event.source.features) == len(event.source.data):
            with self._ignore_events():
                prompt_conversion.colour(event.source)
            self._on_changed()

    def _on_changed(self) -> None:
        if not self._ignoring:
            self._changed()

    def _assign_objects(self, layer: Any, added: range) -> None:
        """Give each positive prompt a new object, and each negative one the last object (batch mode)."""
        features, positive = layer.features.copy(), prompt_conversion.polarities_of(layer)
        for number in added:
            features.loc[number, OBJECT] = self.obj if positive[number] else max(0, self.obj - 1)
            self.obj += positive[number]
        with self._ignore_events():
            layer.features = features
        self.prepare()

    def _update_count(self, layer: Any) -> None:
        self._counts[role_of(layer)] = len(layer.data)

    @contextmanager
    def _ignore_events(self) -> Iterator[None]:
        """Ignore events that our own changes of the layers emit."""
        self._ignoring += 1
        try:
            yield
        finally:
            self._ignoring -= 1

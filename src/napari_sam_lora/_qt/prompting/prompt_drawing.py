"""Prompts drawn on layers, kept in step with the session's drafts in both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from napari.layers import Points
from qtpy.QtCore import QObject, QTimer, Signal

from napari_sam_lora._qt.layers.active_layers import ActiveLayers
from napari_sam_lora._qt.layers.layer_registry import LayerRegistry
from napari_sam_lora._qt.prompting import prompt_conversion
from napari_sam_lora._qt.prompting.prompt_conversion import DrawnPrompts
from napari_sam_lora._qt.prompting.prompt_layers import FINAL_ACTIONS, PromptLayers, Tool
from napari_sam_lora.session import PlaneKey, Session


class PromptDrawing(QObject):
    """Prompts drawn over the chosen image.

    Signals
    -------
    draft_changed, settings_changed : ()
    tool_changed : ()
        Another layer is active, or one of the prompt layers has another mode.
    message : (str)
        Why a drawn prompt cannot be used.
    """

    draft_changed = Signal()
    settings_changed = Signal()
    tool_changed = Signal()
    message = Signal(str)

    def __init__(
        self, viewer: Any, session: Session, registry: LayerRegistry, active_layers: ActiveLayers, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._viewer, self._session, self._registry, self._active_layers = viewer, session, registry, active_layers
        self.source_layer: Any | None = None
        self.positive, self.batch = True, False
        self._prompt_layers: dict[str, PromptLayers] = {}
        self._committed_keys: WeakKeyDictionary[Any, set[bytes]] = WeakKeyDictionary()
        self._is_pulling = False
        self._to_remove: list[PromptLayers] = []
        self._remove_timer = QTimer(self)
        self._remove_timer.setSingleShot(True)
        self._remove_timer.setInterval(0)
        self._remove_timer.timeout.connect(self._remove_layers)
        viewer.layers.selection.events.active.connect(self._on_active)
        session.prompts.draft_changed.connect(self._on_draft)
        active_layers.image_chosen.connect(self._on_image)
        active_layers.plane_changed.connect(self._on_plane)
        active_layers.view_moved.connect(self._on_view)
        active_layers.image_shown.connect(self.pull)
        active_layers.image_moved.connect(self._on_moved)
        registry.pixels_changed.connect(self._on_pixels)
        registry.layer_removed.connect(self._on_removed)
        self._on_image()

    @property
    def layers(self) -> PromptLayers | None:
        """Layers to draw prompts on over the chosen image; None without an image."""
        image = self._active_layers.image_layer
        if image is None:
            return None
        name = self._registry.id_of(image)
        if name not in self._prompt_layers:
            made = self._prompt_layers[name] = PromptLayers(self._viewer, image, self._on_drawn, self.tool_changed.emit)
            made.batch, made.positive = self.batch, self.positive
        return self._prompt_layers[name]

    def draw_with(self, tool: Tool) -> None:
        """Let the user draw prompts with a tool."""
        layers = self.layers
        if layers is not None:
            layers.draw_with(tool, self._active_layers.plane)
            self.settings_changed.emit()

    def set_positive(self, positive: bool) -> None:
        """Let the next prompts show the object (positive) or background (negative)."""
        self.positive = positive
        self._for_layers(lambda layers: setattr(layers, "positive", positive))

    def toggle_polarity(self) -> None:
        """Flip the polarity of the selected prompts or, if none is selected, of the next ones."""
        layers = self.layers
        if layers is None or not layers.flip_selected():
            self.set_positive(not self.positive)

    def set_batch(self, batch: bool) -> None:
        """Let each positive prompt be an object of its own."""
        self.batch = self._session.prompts.batch = batch
        self._for_layers(lambda layers: setattr(layers, "batch", batch))
        if batch and self.layers is not None:
            self.layers.separate()
        self.pull()

    def choose_source(self, layer: Any | None) -> None:
        """Read prompts from a layer (Points or Shapes) of the user's as well; None for the prompt layers only."""
        if self.source_layer is not None:
            self.source_layer.events.data.disconnect(self._on_source)
            self.source_layer.events.features.disconnect(self._on_source)
        self.source_layer = layer
        if layer is not None:
            self._committed_keys.pop(layer, None)
            layer.events.data.connect(self._on_source)
            layer.events.features.connect(self._on_source)
        self.settings_changed.emit()
        self.pull()

    def next_object(self) -> None:
        """Let the next prompts belong to a new object."""
        self.finish()
        layers, plane = self.layers, self._active_layers.plane
        if layers is not None and plane is not None:
            rows = self._session.prompts.draft(plane).rows()
            layers.obj = max(rows, default=-1) + 1
            layers.prepare()
            self.settings_changed.emit()

    def start_over(self) -> None:
        """Let the next prompts belong to the first object again, after a commit."""
        if self.layers is not None:
            self.layers.obj = 0
            self.layers.prepare()

    def add_negative(self, position: Any) -> None:
        """Add a negative point at data coordinates of the image; a hidden image gets none."""
        if self._active_layers.is_hidden:
            self._on_drawn()
        elif self.layers is not None:
            self.layers.add_point(position, positive=False)

    def clear(self) -> None:
        """Remove the prompts of the plane."""
        plane = self._active_layers.plane
        if plane is not None:
            self._session.prompts.clear(plane)

    def finish(self) -> None:
        """End a shape that is still being drawn, and update the draft."""
        if self.layers is not None:
            self.layers.finish()
        self.pull()

    def pull(self) -> None:
        """Update the draft of the shown plane from what is drawn in it."""
        plane = self._active_layers.plane
        if plane is None or self._is_pulling or self._active_layers.is_hidden:
            return
        drawn = self._read(plane)
        self._is_pulling = True
        try:
            is_changed = self._session.prompts.update(plane, drawn.items)
        finally:
            self._is_pulling = False
        if is_changed:
            self.draft_changed.emit()
        if drawn.problem:
            self.message.emit(drawn.problem)

    def _read(self, plane: PlaneKey) -> DrawnPrompts:
        """Read the prompts of a plane from the prompt layers and the user's own layer."""
        layers, source = self._prompt_layers.get(plane.image), self.source_layer
        drawn = DrawnPrompts(plane, self._active_layers.image_layer)
        if layers is not None:
            layers.read(drawn)
        if source is None:
            return drawn
        first, count = max((obj for obj, _ in drawn.items), default=-1) + 1, len(drawn.items)
        read = drawn.read_points if isinstance(source, Points) else drawn.read_shapes
        read(source, self._committed_keys.get(source, ()))
        if self.batch:
            own = drawn.items[count:]
            drawn.items[count:] = [(first + number, item) for number, (_, item) in enumerate(own)]
        return drawn

    def _on_drawn(self) -> None:
        """Use what the user has drawn, or say why it waits."""
        image = self._active_layers.image_layer
        if self._active_layers.is_hidden and image is not None:
            self.message.emit(f"{image.name} is hidden: show it, or choose another image, to segment it.")
        self.pull()

    def _on_source(self, event: Any) -> None:
        if str(getattr(event, "action", "changed")) in FINAL_ACTIONS:
            self.pull()

    def _on_draft(self, plane: PlaneKey) -> None:
        """Draw a draft that the session has changed: by a commit, by bringing prompts back, or by a script."""
        if self._is_pulling:
            return
        is_chosen = plane.image == self._registry.id_of(self._active_layers.image_layer)
        layers = self.layers if is_chosen else self._prompt_layers.get(plane.image)
        if layers is None:
            return
        draft = self._session.prompts.draft(plane)
        self._is_pulling = True
        try:
            layers.show(plane, draft)
        finally:
            self._is_pulling = False
        image, source = self._registry.layer_of(plane.image), self.source_layer
        if not len(draft) and source is not None and image is not None:
            keys = prompt_conversion.keys_in_plane(source, plane, image)
            self._committed_keys.setdefault(source, set()).update(keys)
        if plane == self._active_layers.plane:
            self.draft_changed.emit()

    def close(self) -> None:
        """Disconnect from all layers and remove the prompt layers from the viewer."""
        self._session.prompts.draft_changed.disconnect(self._on_draft, missing_ok=True)
        self._viewer.layers.selection.events.active.disconnect(self._on_active)
        self.choose_source(None)
        self._remove_timer.stop()
        self._to_remove += self._prompt_layers.values()
        self._prompt_layers.clear()
        self._remove_layers()

    def _remove_layers(self) -> None:
        while self._to_remove:
            self._to_remove.pop().remove()

    def _on_active(self, event: Any = None) -> None:
        self.tool_changed.emit()

    def _for_layers(self, change: Callable[[PromptLayers], None]) -> None:
        for layers in list(self._prompt_layers.values()):
            change(layers)
            layers.prepare()
        self.settings_changed.emit()

    def _on_image(self) -> None:
        """Show only what was drawn over the chosen image."""
        chosen = self._registry.id_of(self._active_layers.image_layer)
        for name, layers in list(self._prompt_layers.items()):  # a layer that is hidden leaves its mode: a tool change
            for layer in layers.all():
                layer.visible = name == chosen
        if self.layers is not None:
            self.layers.follow()  # the image may have moved since it was chosen the last time

    def _on_plane(self) -> None:
        plane, layers = self._active_layers.plane, self.layers
        if layers is not None:
            layers.mask.go_to(plane)
        self.pull()
        self.draft_changed.emit()

    def _on_view(self) -> None:
        if self.layers is not None:
            self.layers.snap()

    def _on_moved(self) -> None:
        if self.layers is not None:
            self.layers.follow()

    def _on_pixels(self, name: str) -> None:
        """Keep what was drawn over an image with other pixels, unless its number of axes has changed."""
        layers, image = self._prompt_layers.get(name), self._registry.layer_of(name)
        if layers is not None and image is not None and any(layer.ndim != image.ndim for layer in layers.all()):
            layers.remove()
        self.pull()
        self.draft_changed.emit()

    def _on_removed(self, layer: Any) -> None:
        if layer is self.source_layer:
            self.choose_source(None)
        for name, layers in list(self._prompt_layers.items()):
            if self._registry.layer_of(name) is None:
                self._to_remove.append(self._prompt_layers.pop(name))
                self._remove_timer.start()  # not in the middle of napari's own removal
            elif layers.forget(layer):
                self.pull()

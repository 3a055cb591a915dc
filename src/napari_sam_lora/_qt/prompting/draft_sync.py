"""What is drawn: keeps the session's drafts and the layers that prompts are drawn on the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from napari.layers import Points
from qtpy.QtCore import QObject, QTimer, Signal

from napari_sam_lora._qt.prompting import prompt_conversion
from napari_sam_lora._qt.prompting.prompt_conversion import DrawnPrompt
from napari_sam_lora._qt.prompting.prompt_layers import FINAL_ACTIONS, PromptLayers, Tool
from napari_sam_lora._qt.viewer.active_layers import ActiveLayers
from napari_sam_lora._qt.viewer.layer_registry import LayerRegistry
from napari_sam_lora.errors import InputError
from napari_sam_lora.session import PlaneKey, Session


class PromptDrawing(QObject):
    """Prompts drawn over the chosen image.

    Signals
    -------
    draft_changed, settings_changed : ()
    tool_changed : ()
        Another layer is active, or one of ours has another mode.
    message : (str)
        Something drawn cannot be used, and why.
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
        self._drawing: dict[str, PromptLayers] = {}
        self._pulled: dict[PlaneKey, list[DrawnPrompt]] = {}
        self._used: WeakKeyDictionary[Any, set[bytes]] = WeakKeyDictionary()
        self._is_pulling = False
        self._leaving: list[PromptLayers] = []
        self._leave_timer = QTimer(self)
        self._leave_timer.setSingleShot(True)
        self._leave_timer.setInterval(0)
        self._leave_timer.timeout.connect(self._remove_leaving)
        viewer.layers.selection.events.active.connect(self._on_active)
        session.draft_changed.connect(self._on_draft)
        active_layers.image_chosen.connect(self._on_image)
        active_layers.plane_changed.connect(self._on_plane)
        active_layers.image_moved.connect(self._on_moved)
        registry.pixels_changed.connect(self._on_pixels)
        registry.layer_removed.connect(self._on_removed)
        self._on_image()

    @property
    def layers(self) -> PromptLayers | None:
        """The layers to draw on over the chosen image; None without an image."""
        image = self._active_layers.image_layer
        if image is None:
            return None
        name = self._registry.id_of(image)
        if name not in self._drawing:
            made = self._drawing[name] = PromptLayers(self._viewer, image, self.pull, self.tool_changed.emit)
            made.batch, made.positive = self.batch, self.positive
        return self._drawing[name]

    def draw_with(self, tool: Tool) -> None:
        """Let the user draw with a tool."""
        layers = self.layers
        if layers is not None:
            layers.draw_with(tool, self._active_layers.plane)
            self.settings_changed.emit()

    def set_positive(self, positive: bool) -> None:
        """Draw what shows the object, or what shows something else."""
        self.positive = positive
        self._for_layers(lambda layers: setattr(layers, "positive", positive))

    def toggle_polarity(self) -> None:
        """Flip the selected prompts; if none is selected, what is drawn next."""
        layers = self.layers
        if layers is None or not layers.flip_selected():
            self.set_positive(not self.positive)

    def set_batch(self, batch: bool) -> None:
        """Let each positive prompt be an object of its own."""
        self.batch = self._session.batch = batch
        self._for_layers(lambda layers: setattr(layers, "batch", batch))
        if batch and self.layers is not None:
            self.layers.separate()
        self.pull()

    def choose_source(self, layer: Any | None) -> None:
        """Take prompts from a Points or Shapes layer of the user's too; None for our layers only."""
        if self.source_layer is not None:
            self.source_layer.events.data.disconnect(self._on_source)
            self.source_layer.events.features.disconnect(self._on_source)
        self.source_layer = layer
        if layer is not None:
            self._used.pop(layer, None)
            layer.events.data.connect(self._on_source)
            layer.events.features.connect(self._on_source)
        self.settings_changed.emit()
        self.pull()

    def next_object(self) -> None:
        """Let the next prompts belong to another object."""
        self.finish()
        layers, plane = self.layers, self._active_layers.plane
        if layers is not None and plane is not None:
            rows = self._session.draft(plane).rows()
            layers.obj = max(rows, default=-1) + 1
            layers.prepare()
            self.settings_changed.emit()

    def start_over(self) -> None:
        """Let the next prompts belong to the first object again, after a commit."""
        if self.layers is not None:
            self.layers.obj = 0
            self.layers.prepare()

    def add_negative(self, position: Any) -> None:
        """Add a negative point at data coordinates of the image."""
        if self.layers is not None:
            self.layers.add_point(position, positive=False)

    def clear(self) -> None:
        """Remove the prompts of the plane."""
        plane = self._active_layers.plane
        if plane is not None:
            self._session.clear_prompts(plane)

    def finish(self) -> None:
        """End what is still being drawn, and take all that is drawn."""
        if self.layers is not None:
            self.layers.finish()
        self.pull()

    def pull(self) -> None:
        """Make the draft of the plane of what is drawn in it."""
        plane = self._active_layers.plane
        if plane is None or self._is_pulling:
            return
        found = self._read(plane)
        if prompt_conversion.is_same(found, self._pulled.get(plane, [])) and len(found) == len(
            self._session.draft(plane)
        ):
            return
        self._pulled[plane] = found
        problem = ""
        self._is_pulling = True
        try:
            self._session.clear_prompts(plane)
            for one in found:
                try:
                    self._session.add_prompt(plane, one.kind, one.data, positive=one.positive, obj=one.obj)
                except InputError as error:
                    problem = str(error)
        finally:
            self._is_pulling = False
        self.draft_changed.emit()
        if problem:
            self.message.emit(problem)

    def _read(self, plane: PlaneKey) -> list[DrawnPrompt]:
        layers, image, own = self.layers, self._active_layers.image_layer, self.source_layer
        found = [] if layers is None else layers.read(plane)
        if own is None or image is None:
            return found
        read = prompt_conversion.read_points if isinstance(own, Points) else prompt_conversion.read_shapes
        first = max((one.obj for one in found), default=-1) + 1
        for number, one in enumerate(read(own, plane, image, self._used.get(own, ()))):
            found.append(replace(one, obj=first + number) if self.batch else one)
        return found

    def _on_source(self, event: Any) -> None:
        if str(getattr(event, "action", "changed")) in FINAL_ACTIONS:
            self.pull()

    def _on_draft(self, plane: PlaneKey) -> None:
        """The session has changed a draft: a commit, prompts brought back, or a script."""
        chosen = plane.image == self._registry.id_of(self._active_layers.image_layer)
        layers = self.layers if chosen else self._drawing.get(plane.image)
        if self._is_pulling or layers is None:
            return
        draft = self._session.draft(plane)
        self._is_pulling = True
        try:
            layers.show(plane, draft)
        finally:
            self._is_pulling = False
        image, own = self._registry.layer_of(plane.image), self.source_layer
        if not len(draft) and own is not None and image is not None:
            self._used.setdefault(own, set()).update(prompt_conversion.keys_in_plane(own, plane, image))
        if plane == self._active_layers.plane:
            self._pulled[plane] = self._read(plane)
            self.draft_changed.emit()

    def close(self) -> None:
        """Let go of all layers; ours leave the viewer."""
        self._session.draft_changed.disconnect(self._on_draft, missing_ok=True)
        self._viewer.layers.selection.events.active.disconnect(self._on_active)
        self.choose_source(None)
        self._leave_timer.stop()
        self._leaving += self._drawing.values()
        self._drawing.clear()
        self._remove_leaving()

    def _remove_leaving(self) -> None:
        while self._leaving:
            self._leaving.pop().remove()

    def _on_active(self, event: Any = None) -> None:
        self.tool_changed.emit()

    def _for_layers(self, change: Callable[[PromptLayers], None]) -> None:
        for layers in self._drawing.values():
            change(layers)
            layers.prepare()
        self.settings_changed.emit()

    def _on_image(self) -> None:
        """Show what was drawn over this image only."""
        chosen = self._registry.id_of(self._active_layers.image_layer)
        for name, layers in self._drawing.items():
            for layer in layers.all():
                layer.visible = name == chosen

    def _on_plane(self) -> None:
        plane, layers = self._active_layers.plane, self.layers
        if layers is not None:
            layers.mask.go_to(plane)
        self.pull()
        self.draft_changed.emit()

    def _on_moved(self) -> None:
        if self.layers is not None:
            self.layers.follow()

    def _on_pixels(self, name: str) -> None:
        """An image has other pixels; what was drawn stays if it still has its place."""
        layers, image = self._drawing.get(name), self._registry.layer_of(name)
        if layers is not None and image is not None and any(layer.ndim != image.ndim for layer in layers.all()):
            layers.remove()
        self._pulled = {plane: found for plane, found in self._pulled.items() if plane.image != name}
        self.pull()
        self.draft_changed.emit()

    def _on_removed(self, layer: Any) -> None:
        if layer is self.source_layer:
            self.choose_source(None)
        for name, layers in list(self._drawing.items()):
            if self._registry.layer_of(name) is None:
                self._leaving.append(self._drawing.pop(name))
                self._leave_timer.start()  # not in the middle of napari's own removal
            elif layers.forget(layer):
                self.pull()

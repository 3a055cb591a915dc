"""What one viewer's panels share: the session, the layers it knows, the prompts being drawn, and their preview."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QApplication, QWidget

from napari_sam_lora._qt.prompting.draft_sync import PromptDrawing
from napari_sam_lora._qt.prompting.negative_clicks import NegativeClicks
from napari_sam_lora._qt.prompting.preview_scheduling import PreviewScheduler
from napari_sam_lora._qt.prompting.prompt_layers import Tool
from napari_sam_lora._qt.viewer.active_layers import ActiveLayers
from napari_sam_lora._qt.viewer.close_guards import WindowWatch, ask_to_discard_training, main_window_of
from napari_sam_lora._qt.viewer.layer_registry import LayerRegistry
from napari_sam_lora._qt.viewer.model_loader import ModelLoader
from napari_sam_lora._qt.viewer.napari_stores import current_plane, unwrap
from napari_sam_lora._qt.viewer.preferences import apply_preferences, preferences
from napari_sam_lora._qt.viewer.shortcuts import KeyBinder
from napari_sam_lora._qt.viewer.thread_bridge import ThreadBridge
from napari_sam_lora.errors import SamLoraError
from napari_sam_lora.model.download import cache_folder
from napari_sam_lora.session import CommitPolicy, EditResult, LabelSet, MaskOptions, PlaneKey, Preview, Session
from napari_sam_lora.session.labels.history import Step

# Names of edits for a person.
EDITS = {
    "commit": "adding to the labels",
    "delete": "deleting",
    "merge": "merging",
    "split": "splitting",
    "class": "choosing a class",
    "classes": "changing the classes",
    "approve": "approving",
    "complete": "marking a plane as complete",
    "everything": "adding what was found",
    "re-segmented": "segmenting again",
    "propagated": "propagating through the stack",
}

T = TypeVar("T")


def controller_of(viewer: Any) -> Controller:
    """The controller of a viewer, made when first asked for. It outlives panels and ends with the viewer's window.

    Call it on the GUI thread.
    """
    found = unwrap(viewer)
    application = QApplication.instance()
    for child in [] if application is None else application.children():
        if isinstance(child, Controller) and child.viewer is found:
            return child
    return Controller(found, application)


class Controller(QObject):
    """Ties one viewer to one `Session`. Panels connect to its signals and call its methods; they keep nothing.

    All signals come on the GUI thread, also those of work in other threads.

    Signals
    -------
    images_changed, labels_changed : ()
        The images or label layers that can be chosen, or their names.
    image_chosen : ()
        Another image layer is segmented, or none: see `image_layer`.
    target_chosen : ()
        Another Labels layer receives objects, or none: see `target_layer`.
    plane_changed : ()
        The viewer shows another plane of the image: see `plane`.
    draft_changed : ()
        The prompts of the plane.
    preview_changed : ()
        See `preview`.
    settings_changed : ()
        `options`, `policy`, or a setting of `drawing`.
    objects_changed : (str)
        Objects of the Labels layer with this id: edited, painted, undone.
    message : (str)
        What the last edit did, in a sentence.
    adapters_changed, model_changed : ()
    active_changed : (str)
    busy_changed : (bool)
    propagated : (Proposal)
    progressed : (object, int, int)
        See `Session`.
    failed : (str)
        Already shown to the user as a notification.
    training_changed : (TrainingEvent)
    closed : ()
        The session is about to be closed: end what works for it.
    layers_changed : ()
        Layers of any kind came, went, moved or have another name.
    tool_changed : ()
        The user draws with something else now.
    loading_changed : (str)
        Name of the model that is being loaded; empty when this has ended.
    preview_waits : (bool)
        Whether the preview is behind the prompts.

    Attributes
    ----------
    viewer : napari.Viewer
    session : Session
    drawing : PromptDrawing
        Tools, polarity, batch mode, and the layers that prompts are on.
    previews : PreviewScheduler
        How previews are made, and their layer.
    model_loader : ModelLoader
        Loading models.
    questions : list of callable
        Asked before the window closes; False keeps it open.
    """

    images_changed = Signal()
    labels_changed = Signal()
    image_chosen = Signal()
    target_chosen = Signal()
    plane_changed = Signal()
    draft_changed = Signal()
    preview_changed = Signal()
    settings_changed = Signal()
    objects_changed = Signal(str)
    message = Signal(str)
    adapters_changed = Signal()
    model_changed = Signal()
    active_changed = Signal(str)
    busy_changed = Signal(bool)
    progressed = Signal(object, int, int)
    failed = Signal(str)
    training_changed = Signal(object)
    propagated = Signal(object)
    loading_changed = Signal(str)
    layers_changed = Signal()
    closed = Signal()
    tool_changed = Signal()
    preview_waits = Signal(bool)

    def __init__(self, viewer: Any, parent: QObject | None = None, session: Session | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        apply_preferences(preferences())
        self.session = session or Session(adapters_folder=cache_folder() / "adapters")
        self.policy = CommitPolicy()
        self.questions: list[Callable[[QWidget], bool]] = []
        self._bridge = ThreadBridge(self)
        self._registry = LayerRegistry(viewer, self.session, self)
        self._active_layers = ActiveLayers(viewer, self.session, self._registry, self)
        self.drawing = PromptDrawing(viewer, self.session, self._registry, self._active_layers, self)
        self.previews = PreviewScheduler(viewer, self.session, self._active_layers, self._bridge, self)
        self.model_loader = ModelLoader(self.session, self._bridge, self)
        self._clicks = NegativeClicks(viewer, self._active_layers, self.drawing)
        self._watch = WindowWatch(self, self._may_close, self.close)
        self._keys = KeyBinder(self)
        self._panels: WeakSet[QWidget] = WeakSet()
        self._is_closed = False
        self._connect()
        self._active_layers.target_chosen.connect(self._on_target)
        self._registry.stepped.connect(self._on_stepped)

    def _connect(self) -> None:
        registry, active_layers, drawing, previews, model_loader = (
            self._registry,
            self._active_layers,
            self.drawing,
            self.previews,
            self.model_loader,
        )
        for source, signal in (
            (registry.images_changed, self.images_changed),
            (registry.labels_changed, self.labels_changed),
            (registry.objects_changed, self.objects_changed),
            (registry.layers_changed, self.layers_changed),
            (drawing.tool_changed, self.tool_changed),
            (active_layers.image_chosen, self.image_chosen),
            (active_layers.target_chosen, self.target_chosen),
            (active_layers.plane_changed, self.plane_changed),
            (drawing.draft_changed, self.draft_changed),
            (drawing.settings_changed, self.settings_changed),
            (drawing.message, self.message),
            (previews.preview_changed, self.preview_changed),
            (previews.options_changed, self.settings_changed),
            (previews.waiting_changed, self.preview_waits),
            (model_loader.adapters_changed, self.adapters_changed),
            (model_loader.model_changed, self.model_changed),
            (model_loader.active_changed, self.active_changed),
            (model_loader.busy_changed, self.busy_changed),
            (model_loader.progressed, self.progressed),
            (model_loader.failed, self.failed),
            (model_loader.training_changed, self.training_changed),
            (model_loader.propagated, self.propagated),
            (model_loader.loading_changed, self.loading_changed),
        ):
            source.connect(signal)
        drawing.draft_changed.connect(previews.follow_draft)
        previews.model_needed.connect(model_loader.ensure_model)
        model_loader.model_changed.connect(previews.follow_model)
        model_loader.active_changed.connect(previews.follow_model)
        model_loader.failed.connect(lambda _: previews.when_fresh(None))

    # Layers

    @property
    def image_layer(self) -> Any | None:
        """The Image layer that is segmented; None if there is none."""
        return self._active_layers.image_layer

    @property
    def image(self) -> str:
        """Id of `image_layer` in the session; empty for none."""
        return self._registry.id_of(self.image_layer)

    def choose_image(self, layer: Any | None) -> None:
        """Segment this Image layer."""
        self._active_layers.choose_image(layer)

    @property
    def target_layer(self) -> Any | None:
        """The Labels layer that receives objects; None if one will be made."""
        return self._active_layers.target_layer

    @property
    def target(self) -> LabelSet | None:
        """The objects of `target_layer`."""
        return self.session.labels.get(self._registry.id_of(self.target_layer))

    def choose_target(self, layer: Any | None) -> None:
        """Write objects into this Labels layer; None for a new one, made with the first object."""
        self._active_layers.choose_target(layer)

    def make_target(self) -> Any:
        """Add an empty Labels layer with the shape and transform of the image, and choose it; returns it."""
        return self._active_layers.make_target()

    def image_layers(self) -> list[Any]:
        """Image layers that can be segmented, in the order of the layer list."""
        return self._registry.images()

    def label_layers(self, fitting: bool = True) -> list[Any]:
        """Labels layers of the user's; by default those with the shape of the image."""
        return self._active_layers.fitting() if fitting else self._registry.labels()

    def id_of(self, layer: Any) -> str:
        """Id of an Image or Labels layer in the session; stays when it is renamed or moved. Empty if unknown."""
        return self._registry.id_of(layer)

    def layer_of(self, name: str) -> Any | None:
        """The layer with this id; None if it was removed."""
        return self._registry.layer_of(name)

    # Plane

    @property
    def plane(self) -> PlaneKey | None:
        """The plane of the image that is shown; None in 3-D, outside of the image, or without an image."""
        return self._active_layers.plane

    def go_to(self, plane: PlaneKey, centre: tuple[float, ...] | None = None) -> None:
        """Show a plane of an image or label layer, with a position (data coordinates) in the middle if one is given."""
        with self.report_errors():
            self._active_layers.go_to(plane, centre)

    @contextmanager
    def report_errors(self) -> Iterator[None]:
        """What goes wrong inside because of the user is shown to the user, in a notification and through `message`."""
        try:
            yield
        except SamLoraError as error:
            show_warning(str(error))
            self.message.emit(str(error))

    # Prompts, preview and edits

    @property
    def options(self) -> MaskOptions:
        """How masks are made of what the model says."""
        return self.previews.options

    def set_options(self, **changes: Any) -> None:
        """Change fields of `options`; the preview follows."""
        with self.report_errors():
            self.previews.set_options(**changes)

    def set_policy(self, **changes: Any) -> None:
        """Change fields of `policy`."""
        policy = replace(self.policy, **changes)
        if policy != self.policy:
            self.policy = policy
            self.settings_changed.emit()

    @property
    def preview(self) -> Preview | None:
        """Masks of the prompts of the plane; None if there are none, or not yet."""
        return self.previews.preview

    def refresh_preview(self) -> None:
        """Compute the preview again, shortly; loads the default model if there is none."""
        self.previews.refresh()

    def draw_with(self, tool: Tool) -> None:
        """Let the user draw with a tool; begins to load the default model if there is none."""
        self.drawing.draw_with(tool)
        self.ensure_model()

    def commit(self) -> None:
        """Write the masks of the present prompts into the target, as soon as they are computed; see `message`."""
        self.commit_then(lambda _: None, instead=False)

    def commit_then(self, call: Callable[[tuple[int, ...]], None], instead: bool = True) -> None:
        """`commit`, and call back with the ids of the objects that were written."""
        self.drawing.finish()
        if self.previews.has_prompts():
            self.previews.when_fresh(lambda preview: call(self._write(preview)), instead)
        else:
            self.message.emit("Draw a prompt on an object first: a click, a box or a line.")

    def next_object(self) -> None:
        """Let the next prompts belong to another object; what was drawn stays and is committed with it."""
        self.drawing.next_object()

    def clear_prompts(self) -> None:
        """Remove the prompts of the plane."""
        self.drawing.clear()
        self._stop_replacing()

    def bring_back(self, label: int) -> None:
        """Put the prompts of an object of the target back, to be edited and then replace it; shows their plane."""
        if self.previews.has_prompts():
            self.message.emit("Add or reset the prompts that you are drawing first.")
            return
        with self.report_errors():
            target = self._registry.id_of(self.target_layer)
            plane = self.plane
            stored = self.session.labels[target].record(label).prompts if target else {}
            found = self.session.bring_back(target, label, plane if plane in stored else None)
            self.choose_image(self.layer_of(found.image))
            self.go_to(found)
            self.set_policy(target="replace", label=label)
            self.message.emit(f"Editing object {label}: change its prompts, then press “Replace object {label}”.")

    def report(self, result: EditResult) -> None:
        """Tell panels what an edit of a `LabelSet` did, through `message`."""
        self.message.emit(result.message)

    def undo(self) -> None:
        """Take back the last edit of any label layer."""
        self._step(self.session.undo, "There is nothing to take back.")

    def redo(self) -> None:
        """Do it again."""
        self._step(self.session.redo, "There is nothing to do again.")

    def flush(self) -> None:
        """Let the session see at once what was just painted."""
        self._registry.flush()

    # ModelLoader

    def ensure_model(self) -> None:
        """Load the default model in the background if none is loaded or being loaded."""
        self.model_loader.ensure_model()

    def load_model(self, name: str | Path, device: str = "auto", input_size: int | None = None) -> None:
        """Load a model in the background; `model_changed` or `failed` follows."""
        self.model_loader.load_model(name, device, input_size)

    def when_done(
        self, future: Future[T], done: Callable[[T], None], failed: Callable[[BaseException], None] | None = None
    ) -> None:
        """Call back on the GUI thread; not at all if the work was cancelled. The session reports errors anyway."""
        self._bridge.when_done(future, done, failed)

    def attach(self, panel: QWidget) -> None:
        """Call it when a panel is shown: the session is closed with the window that the panel is in."""
        self._watch.watch(main_window_of(panel))
        self._panels.add(panel)
        self._keys.bind()

    def panel_left(self, panel: QWidget) -> None:
        """Call it when the dock of a panel was closed: without any panel, keys do nothing."""
        self._panels.discard(panel)
        if not self._panels:
            self._keys.unbind()

    def close(self) -> None:
        """End all work, without waiting for it, and let go of the viewer; labels stay. Twice does no harm."""
        if self._is_closed:
            return
        self._is_closed = True
        self.closed.emit()
        self._watch.let_go()
        self._keys.unbind()
        self._bridge.close()
        for part in (self._clicks, self.model_loader, self.previews, self.drawing, self._active_layers, self._registry):
            part.close()
        self.session.close(0)  # what torch is doing ends by itself, soon, and nobody waits for it
        self.viewer = None
        self.setParent(None)
        self.deleteLater()

    def _may_close(self, window: QWidget) -> bool:
        training = self.session.training
        ended = training is None or training.event.is_final
        return all(ask(window) for ask in self.questions) and (ended or ask_to_discard_training(window))

    def _write(self, preview: Preview) -> tuple[int, ...]:
        with self.report_errors():
            layer = self.target_layer or self.make_target()
            self.flush()
            result = self.session.commit(preview, self.policy, self._registry.id_of(layer))
            self.report(result)
            if result.ids:
                if not layer.visible:  # napari draws the whole layer again
                    layer.visible = True
                self.drawing.start_over()
                self.previews.set_options(candidate="auto")
                self._stop_replacing()
            return result.ids
        return ()

    def _stop_replacing(self) -> None:
        if self.policy.target == "replace":
            self.set_policy(target="new", label=0)

    def _on_target(self) -> None:
        if self.policy.target != "new":
            self.set_policy(target="new", label=0, class_id=0)

    def _step(self, step: Callable[[], str | None], nothing: str) -> None:
        self.flush()
        with self.report_errors():
            if step() is None:
                self.message.emit(nothing)

    def _on_stepped(self, name: str, step: Step) -> None:
        """Say what was taken back or done again, and show it: who sees nothing change presses the key again."""
        layer = self.layer_of(name)
        if layer is None:
            return
        words = f"{'Took back' if step.back else 'Did again'}: {EDITS.get(step.name, step.name)}"
        plane = step.where_to_look(current_plane(self.viewer, layer, name))
        if not layer.visible:
            words += f", in the hidden layer {layer.name}"
        elif plane is not None and self.viewer.dims.ndisplay == 2:
            self.go_to(plane.on(name))
            words += ", in the plane that is shown now"
        self.message.emit(f"{words}.")

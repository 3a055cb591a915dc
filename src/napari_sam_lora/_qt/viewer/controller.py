"""Controller of one viewer: the session, layers, prompts and preview that its panels share."""

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

from napari_sam_lora._qt.prompting.negative_clicks import NegativeClicks
from napari_sam_lora._qt.prompting.preview_scheduling import PreviewScheduler
from napari_sam_lora._qt.prompting.prompt_drawing import PromptDrawing
from napari_sam_lora._qt.prompting.prompt_layers import Tool
from napari_sam_lora._qt.viewer.active_layers import ActiveLayers
from napari_sam_lora._qt.viewer.close_guards import WindowCloseGuard, ask_to_discard_training, main_window_of
from napari_sam_lora._qt.viewer.coordinates import current_plane
from napari_sam_lora._qt.viewer.layer_registry import LayerRegistry
from napari_sam_lora._qt.viewer.model_loader import ModelLoader
from napari_sam_lora._qt.viewer.napari_stores import unwrap
from napari_sam_lora._qt.viewer.preferences import apply_preferences, preferences
from napari_sam_lora._qt.viewer.shortcuts import KeyBinder
from napari_sam_lora._qt.viewer.thread_bridge import ThreadBridge
from napari_sam_lora.errors import SamLoraError
from napari_sam_lora.model.download import cache_folder
from napari_sam_lora.session import CommitPolicy, EditResult, LabelSet, MaskOptions, PlaneKey, Preview, Session
from napari_sam_lora.session.labels.history import Step

# Descriptions of edits, by `Step.name`.
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
    """Return the controller of a viewer, made on first use; it outlives panels and ends with the viewer's window.

    Call this on the GUI thread.
    """
    unwrapped = unwrap(viewer)
    application = QApplication.instance()
    for child in [] if application is None else application.children():
        if isinstance(child, Controller) and child.viewer is unwrapped:
            return child
    return Controller(unwrapped, application)


class Controller(QObject):
    """Ties one viewer to one `Session`. Panels connect to its signals and call its methods; they keep no state.

    All signals are emitted on the GUI thread, also those of work in other threads.

    Signals
    -------
    images_changed, labels_changed : ()
        The images or label layers that can be chosen, or their names.
    layers_changed : ()
        Layers of any kind were added, removed, moved or renamed.
    image_chosen : ()
        Another image layer is segmented, or none: see `image_layer`.
    target_chosen : ()
        Another Labels layer receives objects, or none: see `target_layer`.
    plane_changed : ()
        The viewer shows another plane of the image: see `plane`.
    tool_changed : ()
        The user draws with another tool.
    draft_changed : ()
        The prompts of the plane.
    preview_changed : ()
        See `preview`.
    preview_waits : (bool)
        Whether the preview is not up to date with the prompts.
    settings_changed : ()
        `options`, `policy`, or a setting of `drawing`.
    objects_changed : (str)
        Objects of the Labels layer with this id: edited, painted, undone.
    message : (str)
        What the last edit did, in a sentence.
    loading_changed : (str)
        Name of the model that is being loaded; empty when loading has ended.
    adapters_changed, model_changed : ()
    active_changed : (str)
    busy_changed : (bool)
    progressed : (object, int, int)
    training_changed : (TrainingEvent)
    propagated : (Proposal)
        See `Session`.
    failed : (str)
        An error of the session; it has already been shown to the user as a notification.
    closed : ()
        The session is about to be closed: end the work that uses it.

    Parameters
    ----------
    viewer : napari.Viewer
    parent : QObject, optional
    session : Session, optional
        A new one by default.

    Attributes
    ----------
    viewer : napari.Viewer or None
        None once the controller is closed.
    session : Session
    policy : CommitPolicy
        How masks are written into the target; see `set_policy`.
    drawing : PromptDrawing
        Tools, polarity, batch mode, and the layers that prompts are drawn on.
    previews : PreviewScheduler
        Computes previews and shows them in a layer.
    model_loader : ModelLoader
    close_checks : list of callable
        Called with the window before it closes; False keeps it open.
    """

    images_changed = Signal()
    labels_changed = Signal()
    layers_changed = Signal()
    image_chosen = Signal()
    target_chosen = Signal()
    plane_changed = Signal()
    tool_changed = Signal()
    draft_changed = Signal()
    preview_changed = Signal()
    preview_waits = Signal(bool)
    settings_changed = Signal()
    objects_changed = Signal(str)
    message = Signal(str)
    loading_changed = Signal(str)
    adapters_changed = Signal()
    model_changed = Signal()
    active_changed = Signal(str)
    busy_changed = Signal(bool)
    progressed = Signal(object, int, int)
    training_changed = Signal(object)
    propagated = Signal(object)
    failed = Signal(str)
    closed = Signal()

    def __init__(self, viewer: Any, parent: QObject | None = None, session: Session | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        apply_preferences(preferences())
        self.session = session or Session(adapters_folder=cache_folder() / "adapters")
        self.policy = CommitPolicy()
        self.close_checks: list[Callable[[QWidget], bool]] = []
        self._bridge = ThreadBridge(self)
        self._registry = LayerRegistry(viewer, self.session, self)
        self._active_layers = ActiveLayers(viewer, self.session, self._registry, self)
        self.drawing = PromptDrawing(viewer, self.session, self._registry, self._active_layers, self)
        self.previews = PreviewScheduler(viewer, self.session, self._active_layers, self._bridge, self)
        self.model_loader = ModelLoader(self.session, self._bridge, self)
        self._clicks = NegativeClicks(viewer, self._active_layers, self.drawing)
        self._close_guard = WindowCloseGuard(self, self._may_close, self.close)
        self._keys = KeyBinder(self)
        self._panels: WeakSet[QWidget] = WeakSet()
        self._is_closed = False
        self._connect()

    def _connect(self) -> None:
        registry, active_layers, loader = self._registry, self._active_layers, self.model_loader
        drawing, previews = self.drawing, self.previews
        for source, signal in (
            (registry.images_changed, self.images_changed),
            (registry.labels_changed, self.labels_changed),
            (registry.layers_changed, self.layers_changed),
            (registry.objects_changed, self.objects_changed),
            (active_layers.image_chosen, self.image_chosen),
            (active_layers.target_chosen, self.target_chosen),
            (active_layers.plane_changed, self.plane_changed),
            (drawing.tool_changed, self.tool_changed),
            (drawing.draft_changed, self.draft_changed),
            (drawing.settings_changed, self.settings_changed),
            (drawing.message, self.message),
            (previews.preview_changed, self.preview_changed),
            (previews.options_changed, self.settings_changed),
            (previews.waiting_changed, self.preview_waits),
            (loader.loading_changed, self.loading_changed),
            (loader.adapters_changed, self.adapters_changed),
            (loader.model_changed, self.model_changed),
            (loader.active_changed, self.active_changed),
            (loader.busy_changed, self.busy_changed),
            (loader.progressed, self.progressed),
            (loader.training_changed, self.training_changed),
            (loader.propagated, self.propagated),
            (loader.failed, self.failed),
        ):
            source.connect(signal)
        drawing.draft_changed.connect(previews.follow_draft)
        previews.model_needed.connect(loader.ensure_model)
        loader.model_changed.connect(previews.follow_model)
        loader.active_changed.connect(previews.follow_model)
        loader.failed.connect(lambda _: previews.when_fresh(None))
        active_layers.target_chosen.connect(self._on_target)
        registry.stepped.connect(self._on_stepped)

    # Active layers and plane

    @property
    def image_layer(self) -> Any | None:
        """Image layer that is segmented; None if there is none."""
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
        """Labels layer that receives objects; None if one will be made."""
        return self._active_layers.target_layer

    @property
    def target(self) -> LabelSet | None:
        """Objects of `target_layer`."""
        return self.session.labels.get(self._registry.id_of(self.target_layer))

    def choose_target(self, layer: Any | None) -> None:
        """Write objects into this Labels layer; None for a new one, made with the first object."""
        self._active_layers.choose_target(layer)

    def make_target(self) -> Any:
        """Add an empty Labels layer with the shape and transform of the image, choose it, and return it."""
        return self._active_layers.make_target()

    def image_layers(self) -> list[Any]:
        """Return the Image layers that can be segmented, in the order of the layer list."""
        return self._registry.images()

    def label_layers(self, fitting: bool = True) -> list[Any]:
        """Return the user's Labels layers; by default only those with the shape of the image."""
        return self._active_layers.fitting_labels() if fitting else self._registry.labels()

    def id_of(self, layer: Any) -> str:
        """Return the session's id of an Image or Labels layer, which renaming does not change; empty if unknown."""
        return self._registry.id_of(layer)

    def layer_of(self, name: str) -> Any | None:
        """Return the layer with this id; None if it was removed."""
        return self._registry.layer_of(name)

    @property
    def plane(self) -> PlaneKey | None:
        """Plane of the image that is shown; None in 3-D, outside of the image, or without an image."""
        return self._active_layers.plane

    def go_to(self, plane: PlaneKey, centre: tuple[float, ...] | None = None) -> None:
        """Show a plane of an image or label layer, centred on a position in data coordinates if there is one."""
        with self.report_errors():
            self._active_layers.go_to(plane, centre)

    # Prompts and preview

    def draw_with(self, tool: Tool) -> None:
        """Let the user draw with a tool; starts to load the preferred model if none is loaded."""
        self.drawing.draw_with(tool)
        self.ensure_model()

    def next_object(self) -> None:
        """Let the next prompts belong to another object; earlier prompts stay and are committed with them."""
        self.drawing.next_object()

    def clear_prompts(self) -> None:
        """Remove the prompts of the plane."""
        self.drawing.clear()
        self._stop_replacing()

    def bring_back(self, label: int) -> None:
        """Show the prompts of an object of the target again, in their plane; committing them replaces the object."""
        if self.previews.has_prompts():
            self.message.emit("You are drawing prompts already: add them to the labels or reset them first.")
            return
        with self.report_errors():
            target = self._registry.id_of(self.target_layer)
            plane = self.plane
            stored = self.session.labels[target].record(label).prompts if target else {}
            prompt_plane = self.session.bring_back(target, label, plane if plane in stored else None)
            self.choose_image(self.layer_of(prompt_plane.image))
            self.go_to(prompt_plane)
            self.set_policy(target="replace", label=label)
            self.message.emit(f"Editing object {label}: change its prompts, then press “Replace object {label}”.")

    @property
    def options(self) -> MaskOptions:
        """Options by which masks are made from the model's output."""
        return self.previews.options

    def set_options(self, **changes: Any) -> None:
        """Change fields of `options`; the preview follows."""
        with self.report_errors():
            self.previews.set_options(**changes)

    @property
    def preview(self) -> Preview | None:
        """Masks of the prompts of the plane; None if there are no prompts, or the masks are not computed yet."""
        return self.previews.preview

    def refresh_preview(self) -> None:
        """Compute the preview again, shortly; loads the preferred model if none is loaded."""
        self.previews.refresh()

    # Edits and undo

    def set_policy(self, **changes: Any) -> None:
        """Change fields of `policy`."""
        policy = replace(self.policy, **changes)
        if policy != self.policy:
            self.policy = policy
            self.settings_changed.emit()

    def commit(self) -> None:
        """Write the masks of the current prompts into the target once they are computed; see `message`."""
        self.commit_then(lambda _: None, instead=False)

    def commit_then(self, call: Callable[[tuple[int, ...]], None], instead: bool = True) -> None:
        """Commit, and call back with the ids of the objects that were written.

        Parameters
        ----------
        call : callable
        instead : bool
            Replace a commit that is waiting for its masks; otherwise that one stays.
        """
        self.drawing.finish()
        if self.previews.has_prompts():
            self.previews.when_fresh(lambda preview: call(self._write(preview)), instead)
        else:
            self.message.emit("Draw a prompt on an object first: a click, a box or a line.")

    def report(self, result: EditResult) -> None:
        """Show panels what an edit of a `LabelSet` did, through `message`."""
        self.message.emit(result.message)

    def undo(self) -> None:
        """Undo the last edit of any label layer."""
        self._step(self.session.undo, "There is nothing to undo.")

    def redo(self) -> None:
        """Redo the edit that was undone last."""
        self._step(self.session.redo, "There is nothing to redo.")

    def flush(self) -> None:
        """Report to the session at once what was just painted."""
        self._registry.flush()

    def _write(self, preview: Preview) -> tuple[int, ...]:
        with self.report_errors():
            layer = self.target_layer or self.make_target()
            self.flush()
            result = self.session.commit(preview, self.policy, self._registry.id_of(layer))
            self.report(result)
            if result.ids:
                if not layer.visible:  # only if needed, since napari then draws the whole layer again
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
        """Report an undo or redo and show what changed; a user who sees no change would press the key again."""
        layer = self.layer_of(name)
        if layer is None:
            return
        message = f"{'Undone' if step.back else 'Redone'}: {EDITS.get(step.name, step.name)}"
        plane = step.where_to_look(current_plane(self.viewer, layer, name))
        if not layer.visible:
            message += f", in the hidden layer {layer.name}"
        elif plane is not None and self.viewer.dims.ndisplay == 2:
            self.go_to(plane.on(name))
            message += ", in the plane that is shown now"
        self.message.emit(f"{message}.")

    # Models, work in other threads, and errors

    def ensure_model(self) -> None:
        """Load the preferred model in the background if none is loaded or being loaded."""
        self.model_loader.ensure_model()

    def load_model(self, name: str | Path, device: str = "auto", input_size: int | None = None) -> None:
        """Load a model in the background; `model_changed` or `failed` follows."""
        self.model_loader.load_model(name, device, input_size)

    def when_done(
        self, future: Future[T], done: Callable[[T], None], failed: Callable[[BaseException], None] | None = None
    ) -> None:
        """Call back on the GUI thread; not at all if the work was cancelled. Errors are reported by the session."""
        self._bridge.when_done(future, done, failed)

    @contextmanager
    def report_errors(self) -> Iterator[None]:
        """Show a `SamLoraError` raised in the block as a notification and through `message`."""
        try:
            yield
        except SamLoraError as error:
            show_warning(str(error))
            self.message.emit(str(error))

    # Panels and closing

    def attach(self, panel: QWidget) -> None:
        """Register a panel when it is shown: its window's end closes the session, and the shortcuts work."""
        self._close_guard.watch(main_window_of(panel))
        self._panels.add(panel)
        self._keys.bind()

    def detach(self, panel: QWidget) -> None:
        """Unregister a panel whose dock was closed; without any panel, shortcuts do nothing."""
        self._panels.discard(panel)
        if not self._panels:
            self._keys.unbind()

    def close(self) -> None:
        """End all work without waiting for it, and disconnect from the viewer; labels stay. Can be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self.closed.emit()
        self._close_guard.release()
        self._keys.unbind()
        self._bridge.close()
        for component in (
            self._clicks,
            self.model_loader,
            self.previews,
            self.drawing,
            self._active_layers,
            self._registry,
        ):
            component.close()
        self.session.close(0)  # computations in torch end by themselves soon; nobody waits for them
        self.viewer = None
        self.setParent(None)
        self.deleteLater()

    def _may_close(self, window: QWidget) -> bool:
        training = self.session.training
        has_ended = training is None or training.event.is_final
        return all(check(window) for check in self.close_checks) and (has_ended or ask_to_discard_training(window))

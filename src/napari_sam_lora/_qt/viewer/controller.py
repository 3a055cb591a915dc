"""Controller of one viewer: the session, layers, prompts and preview that its panels share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from weakref import WeakSet

from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QApplication, QWidget

from napari_sam_lora._qt.layers.active_layers import ActiveLayers
from napari_sam_lora._qt.layers.coordinates import current_plane
from napari_sam_lora._qt.layers.layer_registry import LayerRegistry
from napari_sam_lora._qt.layers.napari_stores import unwrap
from napari_sam_lora._qt.prompting.negative_clicks import NegativeClicks
from napari_sam_lora._qt.prompting.preview_scheduling import PreviewScheduler
from napari_sam_lora._qt.prompting.prompt_drawing import PromptDrawing
from napari_sam_lora._qt.prompting.prompt_layers import Tool
from napari_sam_lora._qt.viewer.close_guards import WindowCloseGuard, ask_to_discard_training, main_window_of
from napari_sam_lora._qt.viewer.model_loader import ModelLoader
from napari_sam_lora._qt.viewer.preferences import apply_preferences, preferences
from napari_sam_lora._qt.viewer.progress import ProgressBars
from napari_sam_lora._qt.viewer.shortcuts import KeyBinder
from napari_sam_lora._qt.viewer.thread_bridge import ThreadBridge
from napari_sam_lora.errors import SamLoraError
from napari_sam_lora.model.download import cache_folder
from napari_sam_lora.session import CommitPolicy, EditResult, LabelSet, PlaneKey, Preview, Session
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
    """Ties one viewer to one `Session`. Panels use its members, connect to their signals, and keep no state.

    All signals, also those of work in other threads, are emitted on the GUI thread.

    Signals
    -------
    policy_changed : ()
        See `policy`.
    message : (str)
        What the last edit did, in a sentence.
    object_wanted : (int)
        An object of the target is to be selected in the table.
    next_doubtful_wanted : ()
        The user wants to see the next doubtful plane of a propagation.
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
    events : ThreadBridge
        Events and results of the session.
    layers : LayerRegistry
        Layers of the viewer that the session works on.
    active_layers : ActiveLayers
        The image that is segmented, the labels that receive objects, and the plane that is shown.
    drawing : PromptDrawing
        Tools, polarity, batch mode, and the layers that prompts are drawn on.
    previews : PreviewScheduler
        Computes previews and shows them in a layer.
    model_loader : ModelLoader
    policy : CommitPolicy
        How masks are written into the target; see `set_policy`.
    close_checks : list of callable
        Called with the window before it closes; False keeps it open.
    """

    policy_changed = Signal()
    message = Signal(str)
    object_wanted = Signal(int)
    next_doubtful_wanted = Signal()
    closed = Signal()

    def __init__(self, viewer: Any, parent: QObject | None = None, session: Session | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        apply_preferences(preferences())
        self.session = session or Session(adapters_folder=cache_folder() / "adapters")
        self.policy = CommitPolicy()
        self._former_policy: CommitPolicy | None = None  # before an object was offered to be replaced
        self.close_checks: list[Callable[[QWidget], bool]] = []
        self.events = ThreadBridge(self.session, self)
        self.layers = LayerRegistry(viewer, self.session, self)
        self.active_layers = ActiveLayers(viewer, self.session, self.layers, self)
        self.drawing = PromptDrawing(viewer, self.session, self.layers, self.active_layers, self)
        self.previews = PreviewScheduler(viewer, self.session, self.active_layers, self.events, self)
        self.model_loader = ModelLoader(self.session, self.events, self)
        self._bars = ProgressBars(self.events, self.model_loader)
        self._clicks = NegativeClicks(viewer, self.active_layers, self.drawing)
        self._close_guard = WindowCloseGuard(self, self._may_close, self.close)
        self._keys = KeyBinder(self)
        self._panels: WeakSet[QWidget] = WeakSet()
        self._is_closed = False
        self._connect()

    def _connect(self) -> None:
        events, previews = self.events, self.previews
        events.failed.connect(self._on_failed)
        events.model_changed.connect(previews.follow_model)
        events.active_changed.connect(previews.follow_model)
        self.drawing.draft_changed.connect(previews.follow_draft)
        previews.model_needed.connect(self.model_loader.ensure_model)
        self.active_layers.target_chosen.connect(self._on_target)
        self.layers.stepped.connect(self._on_stepped)

    # Active layers and plane

    @property
    def image(self) -> str:
        """Id in the session of the image that is segmented; empty for none."""
        return self.layers.id_of(self.active_layers.image_layer)

    @property
    def target(self) -> LabelSet | None:
        """Objects of the Labels layer that receives objects; None if one will be made."""
        return self.session.labels.get(self.layers.id_of(self.active_layers.target_layer))

    def go_to(self, plane: PlaneKey, centre: tuple[float, ...] | None = None) -> None:
        """Show a plane of an image or label layer, centred on a position in data coordinates if there is one."""
        with self.report_errors():
            self.active_layers.go_to(plane, centre)

    # Prompts and preview

    def draw_with(self, tool: Tool) -> None:
        """Let the user draw with a tool; starts to load the preferred model if none is loaded."""
        self.drawing.draw_with(tool)
        self.model_loader.ensure_model()

    def clear_prompts(self) -> None:
        """Remove the prompts of the plane."""
        self.drawing.clear()
        self.stop_replacing()

    def bring_back(self, label: int) -> None:
        """Show the prompts of an object of the target again, in their plane; committing them replaces the object."""
        if self.previews.has_prompts():
            self.message.emit("You are drawing prompts already: add them to the labels or reset them first.")
            return
        with self.report_errors():
            target = self.layers.id_of(self.active_layers.target_layer)
            plane = self.active_layers.plane
            stored = self.session.labels[target].record(label).prompts if target else {}
            prompt_plane = self.session.prompts.bring_back(target, label, plane if plane in stored else None)
            self.active_layers.select_image(self.layers.layer_of(prompt_plane.image))
            self.go_to(prompt_plane)
            self.offer_to_replace(label)
            self.message.emit(f"Editing object {label}: change its prompts, then press “Replace object {label}”.")

    def set_options(self, **changes: Any) -> None:
        """Change fields of `MaskOptions`; the preview follows."""
        with self.report_errors():
            self.previews.set_options(**changes)

    # Edits and undo

    def set_policy(self, **changes: Any) -> None:
        """Change fields of `policy`."""
        is_choice = "target" in changes or "label" in changes
        former = None if is_choice or self._former_policy is None else replace(self._former_policy, **changes)
        self._former_policy = former
        self._use_policy(replace(self.policy, **changes))

    def offer_to_replace(self, label: int) -> None:
        """Let the prompts of this plane replace an object in it; afterwards the present policy is used again."""
        former = self._former_policy or self.policy
        self._use_policy(replace(former, target="replace", label=label))
        self._former_policy = former

    def stop_replacing(self) -> None:
        """Use the policy again that was there before `offer_to_replace`, unless the user has chosen another since."""
        former, self._former_policy = self._former_policy, None
        if former is not None:
            self._use_policy(former)

    def _use_policy(self, policy: CommitPolicy) -> None:
        if policy != self.policy:
            self.policy = policy
            self.policy_changed.emit()

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
        self._step(self.session.labels.undo, "There is nothing to undo.")

    def redo(self) -> None:
        """Redo the edit that was undone last."""
        self._step(self.session.labels.redo, "There is nothing to redo.")

    def _write(self, preview: Preview) -> tuple[int, ...]:
        with self.report_errors():
            layer = self.active_layers.target_layer or self.active_layers.make_target()
            self.layers.flush()
            result = self.session.prompts.commit(preview, self.policy, self.layers.id_of(layer))
            self.report(result)
            if result.ids:
                if not layer.visible:  # only if needed, since napari then draws the whole layer again
                    layer.visible = True
                self.drawing.start_over()
                self.previews.set_options(candidate="auto")
                self.stop_replacing()
            return result.ids
        return ()

    def _on_target(self) -> None:
        if self.policy.target != "new":
            self.set_policy(target="new", label=0, class_id=0)

    def _step(self, step: Callable[[], str | None], nothing: str) -> None:
        self.layers.flush()
        with self.report_errors():
            if step() is None:
                self.message.emit(nothing)

    def _on_stepped(self, name: str, step: Step) -> None:
        """Report an undo or redo and show what changed; a user who sees no change would press the key again."""
        layer = self.layers.layer_of(name)
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

    def with_model(
        self, job: Callable[[], None], owner: QObject, failed: Callable[[str], None] | None = None
    ) -> Callable[[], None]:
        """Run a job with a model: at once, or once the preferred one was loaded in the background.

        A `SamLoraError` of the job is shown as by `report_errors`. For the parameters and the returned function, which
        drops a job that still waits, see `ModelLoader.when_loaded`.
        """

        def run() -> None:
            with self.report_errors():
                job()

        return self.model_loader.when_loaded(run, owner, failed)

    @contextmanager
    def report_errors(self) -> Iterator[None]:
        """Show a `SamLoraError` raised in the block as a notification and through `message`."""
        try:
            yield
        except SamLoraError as error:
            show_warning(str(error))
            self.message.emit(str(error))

    # Panels and closing

    @property
    def panels(self) -> tuple[QWidget, ...]:
        """Panels of this viewer whose docks are open."""
        return tuple(self._panels)

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
        self.events.close()
        for component in (
            self._clicks,
            self._bars,
            self.model_loader,
            self.previews,
            self.drawing,
            self.active_layers,
            self.layers,
        ):
            component.close()
        self.session.close(0)  # computations in torch end by themselves soon; nobody waits for them
        self.viewer = None
        self.setParent(None)
        self.deleteLater()

    def _may_close(self, window: QWidget) -> bool:
        is_training = self.session.training.is_running
        return all(check(window) for check in self.close_checks) and (
            not is_training or ask_to_discard_training(window)
        )

    def _on_failed(self, message: str) -> None:
        """Show an error of a job, and give up a commit that waits for its masks."""
        show_error(message)
        self.previews.when_fresh(None)

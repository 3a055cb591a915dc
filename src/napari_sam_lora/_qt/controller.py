"""What one viewer's panels share: the session, the layers it knows, the prompts being drawn, and their preview."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QApplication, QWidget

from napari_sam_lora._qt.closing import WindowWatch, ask_to_discard_training, main_window_of
from napari_sam_lora._qt.hub import Hub
from napari_sam_lora._qt.keys import KeyBinder
from napari_sam_lora._qt.layers import current_plane, unwrap
from napari_sam_lora._qt.pointer import NegativeClicks
from napari_sam_lora._qt.prompt_layers import Tool
from napari_sam_lora.session import EditResult, MaskOptions, Preview, Session
from napari_sam_lora.session.journal import Step

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


class Controller(Hub):
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
    drawing : Drawing
        Tools, polarity, batch mode, and the layers that prompts are on.
    previews : Previews
        How previews are made, and their layer.
    work : Work
        Loading models.
    questions : list of callable
        Asked before the window closes; False keeps it open.
    """

    def __init__(self, viewer: Any, parent: QObject | None = None, session: Session | None = None) -> None:
        super().__init__(viewer, parent, session)
        self._clicks = NegativeClicks(viewer, self._choices, self.drawing)
        self._watch = WindowWatch(self, self._may_close, self.close)
        self._keys = KeyBinder(self)
        self._panels: WeakSet[QWidget] = WeakSet()
        self._is_closed = False
        self._choices.target_chosen.connect(self._on_target)
        self._book.stepped.connect(self._on_stepped)

    # Prompts, preview and edits

    @property
    def options(self) -> MaskOptions:
        """How masks are made of what the model says."""
        return self.previews.options

    def set_options(self, **changes: Any) -> None:
        """Change fields of `options`; the preview follows."""
        with self.told():
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
        with self.told():
            target = self._book.id_of(self.target_layer)
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
        self._book.flush()

    # Work

    def ensure_model(self) -> None:
        """Load the default model in the background if none is loaded or being loaded."""
        self.work.ensure_model()

    def load_model(self, name: str | Path, device: str = "auto", input_size: int | None = None) -> None:
        """Load a model in the background; `model_changed` or `failed` follows."""
        self.work.load_model(name, device, input_size)

    def when_done(
        self, future: Future[T], done: Callable[[T], None], failed: Callable[[BaseException], None] | None = None
    ) -> None:
        """Call back on the GUI thread; not at all if the work was cancelled. The session reports errors anyway."""
        self._relay.when_done(future, done, failed)

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
        self._relay.close()
        for part in (self._clicks, self.work, self.previews, self.drawing, self._choices, self._book):
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
        with self.told():
            layer = self.target_layer or self.make_target()
            self.flush()
            result = self.session.commit(preview, self.policy, self._book.id_of(layer))
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
        with self.told():
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

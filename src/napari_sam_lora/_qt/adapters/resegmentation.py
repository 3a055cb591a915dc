"""Segmenting again with the model in use: stored prompts replayed, or labels without prompts refined."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any, Literal

from qtpy.compat import isalive
from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_sam_lora._qt.adapters.review import Review
from napari_sam_lora._qt.propagation.controller import Request, propagation_controller_of
from napari_sam_lora._qt.propagation.parameters import usable_values
from napari_sam_lora._qt.propagation.plane_range import stack_axes
from napari_sam_lora._qt.propagation.progress_view import PropagationView
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.preferences import RememberedSettings
from napari_sam_lora._qt.widgets.controls import Notice, action, chooser, row
from napari_sam_lora.errors import InputError
from napari_sam_lora.session import PlaneKey, Proposal
from napari_sam_lora.text import pluralize

SCOPES = {"plane": "This plane", "stack": "All planes", "all": "All open images"}
WAYS = {"box": "from their box", "mask": "from their shape"}


class ResegmentBox(QWidget):
    """Proposes changes of labels, which are looked through before they are made.

    Parameters
    ----------
    controller : Controller
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._waiting: list[str] = []
        self._proposals: list[tuple[str, Proposal]] = []
        self._ask: Callable[[str], Future[Proposal]] | None = None
        self._future: Future[Proposal] | None = None
        self.scope = chooser(SCOPES, "Where to segment again.")
        self.way = chooser(WAYS, "What the model is shown of each object.")
        self.replay = action(
            "Segment again",
            "Use your prompts again, with the model or adapter in use. Objects that you painted or approved "
            "stay as they are, and nothing is changed before you have seen it.",
            self._replay,
        )
        self.refine = action("Refine labels", "Segment objects without prompts again.", self._refine)
        self.stack = action(
            "Segment the whole stack again",
            "Use your prompts again with the model or adapter in use, then propagate all objects anew from plane to "
            "plane, with the settings of “Propagate through the stack”. What you painted or approved stays, planes "
            "marked as complete are skipped, and nothing is changed before you have seen it.",
            self._stack,
        )
        self.finetuning = propagation_controller_of(controller)
        self.bar = QProgressBar()
        self.cancel = action("Cancel", "End it; nothing is changed.", self._cancel)
        self.busy = row(self.bar, self.cancel)
        self.state = Notice()
        self.review = Review(controller)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (
            row(self.scope, self.replay),
            row(self.way, self.refine),
            self.stack,
            self.busy,
            self.state,
            self.review,
            PropagationView(self.finetuning, whole_stack=True),
        ):
            layout.addWidget(widget)
        self._connect()
        self._refresh()

    def _connect(self) -> None:
        controller = self._controller
        for signal in (
            controller.image_chosen,
            controller.target_chosen,
            controller.plane_changed,
            controller.labels_changed,
            controller.model_changed,
        ):
            signal.connect(self._refresh)
        controller.objects_changed.connect(self._refresh)
        controller.progressed.connect(self._on_progress)
        controller.busy_changed.connect(self._on_busy)
        self.review.ended.connect(self._on_reviewed)
        self.finetuning.changed.connect(self._refresh)

    @property
    def is_busy(self) -> bool:
        """Whether proposals are being made."""
        return self._future is not None

    def _on_reviewed(self, said: str) -> None:
        self.state.say(said)
        self._refresh()

    def _refresh(self, *_: object) -> None:
        ready = self._controller.target is not None or bool(self._controller.label_layers(fitting=False))
        idle = not self.is_busy and not self.review.is_open and not self.finetuning.is_busy
        self.stack.setVisible(bool(stack_axes(self._controller)))
        self.stack.setEnabled(self._controller.target is not None and idle)
        self.busy.setVisible(self.is_busy)
        for widget in (self.replay, self.refine, self.scope, self.way):
            widget.setEnabled(ready and idle)
        if not ready:
            self.state.say("No labels yet: segment or paint some objects first.")
        elif self.state.text().startswith("No labels yet"):
            self.state.say("")

    # Asking

    def _replay(self) -> None:
        session, planes = self._controller.session, self._planes()
        self._begin(lambda labels: session.resegment(labels, planes))

    def _refine(self) -> None:
        session, planes = self._controller.session, self._planes()
        by: Literal["box", "mask"] = "mask" if self.way.currentData() == "mask" else "box"

        def ask(labels: str) -> Future[Proposal]:
            wanted = planes if planes is not None else session.labels[labels].labelled_planes(self._image_of(labels))
            return session.refine(wanted, labels, by=by)

        self._begin(ask)

    def _stack(self) -> None:
        plane, axes = self._controller.plane, stack_axes(self._controller)
        if plane is not None and axes:
            self.state.say("")
            values = usable_values(RememberedSettings("propagation").read()) | {"direction": "both"}
            self.finetuning.start(Request(plane, axis=axes[-1], values=values, whole_stack=True))

    def _planes(self) -> list[PlaneKey] | None:
        """The plane that is shown, or None for all."""
        if self.scope.currentData() != "plane":
            return None
        plane = self._controller.plane
        return [] if plane is None else [plane]

    def _image_of(self, labels: str) -> str:
        session = self._controller.session
        shape = session.labels[labels].store.shape
        fitting = [name for name, source in session.images.items() if source.shape == shape]
        chosen = self._controller.image
        return chosen if chosen in fitting else next(iter(fitting), "")

    def _begin(self, ask: Callable[[str], Future[Proposal]]) -> None:
        with self._controller.report_errors():
            if self._controller.session.model is None:
                self._controller.ensure_model()
                raise InputError("The model is being loaded; try again when it is there.")
            self._controller.flush()
            self._ask, self._proposals, self._waiting = ask, [], self._targets()
            self.state.say("")
            self._next()

    def _targets(self) -> list[str]:
        layers = self._controller.label_layers(fitting=False)
        target = self._controller.id_of(self._controller.target_layer)
        if self.scope.currentData() == "all":
            return [self._controller.id_of(layer) for layer in layers]
        if not target:
            raise InputError("Choose the labels in the prompt widget first.")
        return [target]

    def _next(self) -> None:
        """Ask for the next label layer; one after the other, for a newer job replaces one that waits."""
        while self._waiting and self._ask is not None:
            labels = self._waiting.pop(0)
            if labels in self._controller.session.labels:
                future = self._future = self._ask(labels)
                self._controller.when_done(future, partial(self._got, labels, future), self._failed)
                self._refresh()
                return
        self._stop()
        self._show()

    def _got(self, labels: str, future: Future[Proposal], proposal: Proposal) -> None:
        if isalive(self) and future is self._future:
            self._proposals.append((labels, proposal))
            self._next()

    def _failed(self, error: BaseException) -> None:
        if isalive(self):
            self._stop()

    def _show(self) -> None:
        changed = sum(len(proposal.changes) for _, proposal in self._proposals)
        same = sum(proposal.unchanged for _, proposal in self._proposals)
        left = sum(proposal.left_alone for _, proposal in self._proposals)
        said = [f"{pluralize(changed, 'object')} would change"] if changed else ["Nothing would change"]
        said += [f"{same} stay the same"] if same else []
        said += [f"{left} are left alone (painted, approved or without prompts)"] if left else []
        self.state.say(", ".join(said) + ".")
        self.review.open([pair for pair in self._proposals if pair[1].changes])
        self._refresh()

    def _cancel(self) -> None:
        self._controller.session.cancel("resegment")
        self._stop()
        self.state.say("Cancelled; nothing was changed.")

    def _stop(self) -> None:
        self._future, self._waiting = None, []
        self._refresh()

    def _on_progress(self, key: Any, done: int, total: int) -> None:
        if self.is_busy and isinstance(key, tuple) and key[0] == "resegment":
            self.bar.setRange(0, total)
            self.bar.setValue(done)

    def _on_busy(self, busy: bool) -> None:
        """Work that others cancelled is not called back for."""
        future = self._future
        if busy or future is None or not future.done():
            return
        if future.cancelled() or isinstance(future.exception(), CancelledError):
            self._cancel()

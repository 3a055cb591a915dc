"""Segment again with the model in use: replay stored prompts, or refine labels without prompts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any, Literal

from qtpy.compat import isalive
from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_sam_lora._qt.adapters.review import Review
from napari_sam_lora._qt.propagation.controller import PropagationRequest, propagation_controller_of
from napari_sam_lora._qt.propagation.parameters import usable_values
from napari_sam_lora._qt.propagation.plane_range import stack_axes
from napari_sam_lora._qt.propagation.progress_view import PropagationView
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.preferences import RememberedSettings
from napari_sam_lora._qt.widgets.controls import Notice, button, combo_box
from napari_sam_lora._qt.widgets.layout import row
from napari_sam_lora.errors import InputError
from napari_sam_lora.session import PlaneKey, Proposal
from napari_sam_lora.text import pluralize

NO_LABELS = "No labels yet. Segment or paint some objects first."
NOTHING_CHANGES = "Nothing would change"
SCOPES = {"plane": "This plane", "stack": "All planes", "all": "All open images"}
PROMPTS = {"box": "from their box", "mask": "from their shape"}


class ResegmentBox(QWidget):
    """Proposes changes of labels, which the user reviews before they are made.

    Parameters
    ----------
    controller : Controller
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._queue: list[str] = []
        self._proposals: list[tuple[str, Proposal]] = []
        self._request: Callable[[str], Future[Proposal]] | None = None
        self._future: Future[Proposal] | None = None
        self.scope = combo_box(SCOPES, "Which objects to segment again.")
        self.prompt = combo_box(PROMPTS, "Which prompt to make from each object.")
        self.replay = button(
            "Segment again",
            "Use your prompts again with the model or adapter in use. Objects that you painted or approved stay as "
            "they are, and you review all changes before they are made.",
            self._replay,
        )
        self.refine = button(
            "Refine labels", "Segment objects without prompts again, starting from their labels.", self._refine
        )
        self.stack = button(
            "Segment the whole stack again",
            "Use your prompts again with the model or adapter in use, then propagate all objects from plane to plane "
            "with the settings of “Propagate through the stack”. What you painted or approved stays, planes marked as "
            "complete are skipped, and you review all changes before they are made.",
            self._stack,
        )
        self.propagation_controller = propagation_controller_of(controller)
        self.bar = QProgressBar()
        self.cancel = button("Cancel", "Stop; nothing is changed.", self._cancel)
        self.busy = row(self.bar, self.cancel)
        self.state = Notice()
        self.review = Review(controller)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (
            row(self.scope, self.replay),
            row(self.prompt, self.refine),
            self.stack,
            self.busy,
            self.state,
            self.review,
            PropagationView(self.propagation_controller, whole_stack=True),
        ):
            layout.addWidget(widget)
        self._connect()
        self._refresh()

    def _connect(self) -> None:
        controller = self._controller
        for signal in (
            controller.active_layers.image_chosen,
            controller.active_layers.target_chosen,
            controller.active_layers.plane_changed,
            controller.layers.labels_changed,
            controller.events.model_changed,
        ):
            signal.connect(self._refresh)
        controller.layers.objects_changed.connect(self._refresh)
        controller.events.progressed.connect(self._on_progress)
        controller.events.busy_changed.connect(self._on_busy)
        self.review.ended.connect(self._on_reviewed)
        self.propagation_controller.changed.connect(self._refresh)

    @property
    def is_busy(self) -> bool:
        """Return whether objects are being segmented again."""
        return self._future is not None

    def _on_reviewed(self, message: str) -> None:
        self.state.say(message)
        self._refresh()

    def _refresh(self, *_: object) -> None:
        has_labels = self._controller.target is not None or bool(self._controller.layers.labels())
        is_idle = not self.is_busy and not self.review.is_open and not self.propagation_controller.is_busy
        self.stack.setVisible(bool(stack_axes(self._controller)))
        self.stack.setEnabled(self._controller.target is not None and is_idle)
        self.busy.setVisible(self.is_busy)
        for widget in (self.replay, self.refine, self.scope, self.prompt):
            widget.setEnabled(has_labels and is_idle)
        if not has_labels:
            self.state.say(NO_LABELS)
        elif self.state.text() == NO_LABELS:
            self.state.say("")

    # Segmenting

    def _replay(self) -> None:
        session, planes = self._controller.session, self._planes()
        self._begin(lambda labels: session.proposals.resegment(labels, planes))

    def _refine(self) -> None:
        session, planes = self._controller.session, self._planes()
        by: Literal["box", "mask"] = "mask" if self.prompt.currentData() == "mask" else "box"

        def refine(labels: str) -> Future[Proposal]:
            if planes is not None:
                return session.proposals.refine(planes, labels, by=by)
            labelled = session.labels[labels].labelled_planes(self._image_of(labels))
            return session.proposals.refine(labelled, labels, by=by)

        self._begin(refine)

    def _stack(self) -> None:
        plane, axes = self._controller.active_layers.plane, stack_axes(self._controller)
        if plane is not None and axes:
            self.state.say("")
            values = usable_values(RememberedSettings("propagation").read()) | {"direction": "both"}
            self.propagation_controller.start(PropagationRequest(plane, axis=axes[-1], values=values, whole_stack=True))

    def _planes(self) -> list[PlaneKey] | None:
        """Return the plane to segment, or None for all planes."""
        if self.scope.currentData() != "plane":
            return None
        plane = self._controller.active_layers.plane
        return [] if plane is None else [plane]

    def _image_of(self, labels: str) -> str:
        layers = self._controller.layers
        return layers.id_of(self._controller.active_layers.image_of(layers.layer_of(labels)))

    def _begin(self, request: Callable[[str], Future[Proposal]]) -> None:
        self.state.say("Loading the model…")
        self._controller.with_model(partial(self._start, request), self, self.state.say)

    def _start(self, request: Callable[[str], Future[Proposal]]) -> None:
        self.state.say("")
        if not self.is_busy and not self.review.is_open:  # asked twice while the model was loaded
            self._controller.layers.flush()
            self._request, self._proposals, self._queue = request, [], self._targets()
            self._next()

    def _targets(self) -> list[str]:
        layers = self._controller.layers.labels()
        target = self._controller.layers.id_of(self._controller.active_layers.target_layer)
        if self.scope.currentData() == "all":
            return [self._controller.layers.id_of(layer) for layer in layers]
        if not target:
            raise InputError("Choose the labels in the prompt widget first.", code="no-label-image")
        return [target]

    def _next(self) -> None:
        """Segment the next labels layer; one after the other, since a newer job replaces one that waits."""
        while self._queue and self._request is not None:
            labels = self._queue.pop(0)
            if labels in self._controller.session.labels:
                future = self._future = self._request(labels)
                self._controller.events.when_done(future, partial(self._on_proposal, labels, future), self._on_failed)
                self._refresh()
                return
        self._stop()
        self._show_proposals()

    def _on_proposal(self, labels: str, future: Future[Proposal], proposal: Proposal) -> None:
        if isalive(self) and future is self._future:
            self._proposals.append((labels, proposal))
            self._next()

    def _on_failed(self, error: BaseException) -> None:
        if isalive(self):
            self._stop()

    def _show_proposals(self) -> None:
        changed = sum(len(proposal.changes) for _, proposal in self._proposals)
        same = sum(proposal.unchanged for _, proposal in self._proposals)
        skipped = sum(proposal.left_alone for _, proposal in self._proposals)
        counts = [f"{pluralize(changed, 'object')} would change" if changed else NOTHING_CHANGES]
        counts += [f"{same} would stay the same"] if same else []
        counts += [f"{skipped} skipped (painted, approved or without prompts)"] if skipped else []
        self.state.say(", ".join(counts) + ".")
        self.review.open([pair for pair in self._proposals if pair[1].changes])
        self._refresh()

    def _cancel(self) -> None:
        self._controller.session.models.cancel("resegment")
        self._stop()
        self.state.say("Cancelled; nothing was changed.")

    def _stop(self) -> None:
        self._future, self._queue = None, []
        self._refresh()

    def _on_progress(self, key: Any, done: int, total: int) -> None:
        if self.is_busy and isinstance(key, tuple) and key[0] == "resegment":
            self.bar.setRange(0, total)
            self.bar.setValue(done)

    def _on_busy(self, busy: bool) -> None:
        """Note that the job was cancelled elsewhere, of which no callback is made."""
        future = self._future
        if busy or future is None or not future.done():
            return
        if future.cancelled() or isinstance(future.exception(), CancelledError):
            self._cancel()

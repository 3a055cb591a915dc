"""Controller of the propagation in one viewer: starts, stops, accepts and discards it, whichever panel is open."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import QApplication, QWidget

from napari_sam_lora._qt.propagation.doubtful_planes import DoubtfulPlanes
from napari_sam_lora._qt.propagation.layer import PropagationLayer
from napari_sam_lora._qt.viewer.close_guards import ask_to_discard_propagation
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.errors import InputError
from napari_sam_lora.parameters.propagation import PropagationConfig
from napari_sam_lora.session import LabelSet, PlaneKey, Proposal
from napari_sam_lora.text import pluralize


@dataclass(frozen=True)
class PropagationRequest:
    """Objects to propagate, and how.

    Attributes
    ----------
    plane : PlaneKey
        Plane of the stack to start from.
    ids : tuple of int, optional
        Objects to propagate; None for all objects of the plane.
    axis : int
        Position in ``plane.index`` of the axis to propagate along.
    values : dict
        Fields of `PropagationConfig`.
    redo : bool
        Whether to replace the masks of an earlier propagation.
    whole_stack : bool
        Whether to segment the whole stack again from its stored prompts instead.
    """

    plane: PlaneKey
    ids: tuple[int, ...] | None = None
    axis: int = -1
    values: dict[str, Any] = field(default_factory=dict)
    redo: bool = False
    whole_stack: bool = False


State = Literal["idle", "loading", "starting", "running", "stopping", "stopped", "found", "aborting"]

# How a propagation ended.
ACCEPTED = "If a plane is wrong, correct it with prompts or the brush and propagate again."
DISCARDED = "Discarded; nothing was changed."
STOPPED = "Stopped; nothing was changed."
FAILED = "Propagation failed; nothing was changed."
FAILED_EARLY = "Propagation failed before the last plane."
LAYERS_REMOVED = "The image or the labels were removed; nothing was changed."
NOTHING_FOUND = (
    "Nothing new was found. If the objects continue in the next plane, lower “Least score” and “Least overlap” under "
    "“More settings”."
)


def propagation_controller_of(controller: Controller) -> PropagationController:
    """Return the propagation controller of a viewer's controller; made on first use, it lives as long as its parent."""
    found = controller.findChild(PropagationController)
    return found if isinstance(found, PropagationController) else PropagationController(controller)


class PropagationController(QObject):
    """Runs one propagation at a time, which goes on when its panel is closed; the user accepts or discards its result.

    Signals
    -------
    changed : ()
        The state or the progress has changed.

    Parameters
    ----------
    controller : Controller

    Attributes
    ----------
    state : str
        "idle"; "loading" the model; "starting"; "running"; "stopping" after the current plane; "stopped" before the
        last plane; "found": finished and waiting to be accepted; "aborting": ending because its layers were removed.
    request : PropagationRequest or None
        The last request.
    outcome : str
        How the last propagation ended, for the user.
    proposal : Proposal or None
        Objects found; None unless "stopped" or "found".
    done, total : int
        Planes that are done, and planes to do if no object ends early.
    layer : PropagationLayer
        Preview of the objects found.
    doubtful : DoubtfulPlanes
        Doubtful planes of the proposal and of what was accepted.
    """

    changed = Signal()

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._controller = controller
        self.layer = PropagationLayer(controller.viewer, self._on_chosen, self)
        self.doubtful = DoubtfulPlanes(controller, self.layer, self)
        self.state: State = "idle"
        self.request: PropagationRequest | None = None
        self.outcome = ""
        self.proposal: Proposal | None = None
        self.done = self.total = 0
        self._future: Future[Proposal] | None = None
        self._labels: LabelSet | None = None
        self._pace_start: tuple[float, int] | None = None
        controller.events.propagated.connect(self._on_propagated)
        controller.events.progressed.connect(self._on_progress)
        controller.layers.labels_changed.connect(self._check_layers)
        controller.layers.images_changed.connect(self._check_layers)
        controller.closed.connect(self._on_closed)
        controller.close_checks.append(self._may_close)

    @property
    def is_busy(self) -> bool:
        """Return whether a propagation is running, or its result is neither accepted nor discarded."""
        return self.state != "idle"

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds left, from the pace so far; None before the first plane is done."""
        if self._pace_start is None or self.done <= self._pace_start[1]:
            return None
        started, done_before = self._pace_start
        return (time.monotonic() - started) / (self.done - done_before) * (self.total - self.done)

    @property
    def skipped_planes(self) -> int:
        """Number of planes of the stack that are marked as complete and therefore skipped."""
        run = self._controller.session.propagation.run
        return 0 if run is None else run.closed

    @property
    def accepted_labels(self) -> tuple[int, ...]:
        """Ids of the objects that `accept` would write: those found that the user has not left out."""
        if self.proposal is None:
            return ()
        found = dict.fromkeys(change.label for change in self.proposal.changes)
        return tuple(label for label in found if label not in self.layer.dropped)

    # Starting and stopping

    def start(self, request: PropagationRequest) -> None:
        """Propagate as soon as a model is loaded; ignored while another propagation runs or waits for a decision."""
        if self.is_busy:
            return
        self.request, self.outcome = request, ""
        self._set("loading")
        self._stop_waiting = self._controller.with_model(partial(self._run, request), self, self._on_not_loaded)

    def stop(self) -> None:
        """Stop after the current plane; what was found so far can still be accepted."""
        if self.state == "loading":
            self._stop_waiting()
            self.outcome = STOPPED
            self._set("idle")
        elif self.state == "running":
            self._set("stopping")
            self._controller.session.propagation.stop()  # may call back at once

    def resume(self) -> None:
        """Go on with a propagation that was stopped."""
        run = self._controller.session.propagation.run
        if self.state == "stopped" and run is not None and run.is_unfinished:
            self.layer.stop_choosing()
            self.proposal = None
            self.doubtful.propose(())
            with self._controller.report_errors():
                self._follow(run.start())

    def _run(self, request: PropagationRequest) -> None:
        self.done = self.total = 0
        self._set("starting")
        with _wait_cursor():
            try:
                future = self._begin(request)
            except BaseException:
                self._forget()
                raise
            self._follow(future)

    def _begin(self, request: PropagationRequest) -> Future[Proposal]:
        controller, session = self._controller, self._controller.session
        controller.layers.flush()
        self._labels, image = controller.target, controller.layers.layer_of(request.plane.image)
        if self._labels is None or image is None:
            raise InputError(
                "The image or the labels were closed. Open them and propagate again.", code="layer-not-open"
            )
        config = PropagationConfig(**request.values)
        self.layer.begin(image)  # napari processes events meanwhile
        if request.whole_stack:
            return session.propagation.resegment_stack(request.plane, config, axis=request.axis)
        ids = None if request.ids is None else list(request.ids)
        return session.propagation.start(request.plane, ids, config, axis=request.axis, redo=request.redo)

    def _follow(self, future: Future[Proposal]) -> None:
        self._future, self._pace_start = future, None
        self._set("running")
        self._controller.events.when_done(
            future,
            lambda proposal: self._on_done(proposal) if future is self._future else None,
            lambda _: self._on_failed() if future is self._future else None,
        )

    # Accepting and discarding

    def accept(self) -> None:
        """Write the objects found into the labels, as one step of undo."""
        proposal, labels, accepted = self.proposal, self._labels, set(self.accepted_labels)
        if proposal is None or labels is None:
            return
        indices = [index for index, change in enumerate(proposal.changes) if change.label in accepted]
        with _wait_cursor(), self._controller.report_errors():
            self._controller.layers.flush()
            result = labels.apply(proposal, indices)
            self.doubtful.accept(labels, accepted)
            self.outcome = f"{result.message} {ACCEPTED}" if result.ids else result.message
            self._controller.report(result)
        self._forget()

    def discard(self) -> None:
        """Drop the objects found."""
        if self.state in ("stopped", "found"):
            self.outcome = DISCARDED
            self._forget()

    def _forget(self) -> None:
        self.proposal = self._labels = self._future = None
        self.layer.remove()
        self.doubtful.propose(())
        self._set("idle")

    # Events

    def _on_chosen(self) -> None:
        """Tell that the user has left an object out or taken it back in."""
        self.doubtful.changed.emit()
        self.changed.emit()

    def _on_propagated(self, proposal: Proposal) -> None:
        if self.state in ("running", "stopping"):
            self.layer.add(proposal.changes)

    def _on_progress(self, key: Any, done: int, total: int) -> None:
        if self.state in ("running", "stopping") and isinstance(key, tuple) and key[0] == "propagate":
            self.done, self.total = done, total
            if self._pace_start is None:
                self._pace_start = time.monotonic(), done
            self.changed.emit()

    def _on_done(self, proposal: Proposal) -> None:
        run = self._controller.session.propagation.run
        unfinished = run is not None and run.is_unfinished
        if self.state == "aborting" or not (proposal.changes or unfinished):
            self.outcome = self.outcome if self.state == "aborting" else self._explain_nothing_found(proposal)
            self._forget()
            return
        self._show_decision(proposal, "stopped" if unfinished else "found")

    def _explain_nothing_found(self, proposal: Proposal) -> str:
        if proposal.unchanged:
            stay = "stays as it is" if proposal.unchanged == 1 else "stay as they are"
            return f"Nothing would change: {pluralize(proposal.unchanged, 'mask')} {stay}."
        return NOTHING_FOUND

    def _on_failed(self) -> None:
        """Offer what was found before the error, which was already shown to the user."""
        run = self._controller.session.propagation.run
        if self.state == "aborting" or run is None or not run.proposal.changes:
            self.outcome = FAILED
            self._forget()
            return
        self.outcome = FAILED_EARLY
        self._show_decision(run.proposal, "found")

    def _show_decision(self, proposal: Proposal, state: State) -> None:
        self.proposal = proposal
        self.layer.add(proposal.changes)  # the last planes may not have been shown yet
        self.layer.choose()
        self.doubtful.propose(proposal.doubtful)
        self._set(state)

    def _on_not_loaded(self, message: str) -> None:
        """Stop waiting for a model that could not be loaded; the user has seen the error."""
        self._set("idle")

    def _check_layers(self) -> None:
        """Abort if the image or the labels were removed: the result could not be written."""
        if self.request is None or not self.is_busy or self.state in ("loading", "starting", "aborting"):
            return
        has_labels = any(labels is self._labels for labels in self._controller.session.labels.values())
        if has_labels and self._controller.layers.layer_of(self.request.plane.image) is not None:
            return
        self.outcome = LAYERS_REMOVED
        if self.state in ("running", "stopping"):
            self.layer.remove()
            self._set("aborting")
            self._controller.session.propagation.stop()  # may call back at once
        else:
            self._forget()

    def _may_close(self, window: QWidget) -> bool:
        """Ask before the window is closed while objects are not accepted yet."""
        is_undecided = self.state in ("running", "stopping", "stopped", "found")
        return not is_undecided or ask_to_discard_propagation(window)

    def _on_closed(self) -> None:
        self._future = None
        if self._controller.viewer is not None:
            self.layer.remove()
        self.state = "idle"

    def _set(self, state: State) -> None:
        self.state = state
        self.changed.emit()


@contextmanager
def _wait_cursor() -> Iterator[None]:
    """Show a wait cursor meanwhile: reading large labels takes a moment."""
    QApplication.setOverrideCursor(Qt.CursorShape.WaitCursor)
    try:
        yield
    finally:
        QApplication.restoreOverrideCursor()

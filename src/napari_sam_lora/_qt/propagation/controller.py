"""The propagation of one viewer: started, watched, stopped, taken over or forgotten, whichever panel is open."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import QApplication, QWidget

from napari_sam_lora._qt.propagation.layer import PropagationLayer
from napari_sam_lora._qt.viewer.close_guards import ask_to_forget_propagation
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.errors import InputError
from napari_sam_lora.session import LabelSet, PlaneKey, Proposal
from napari_sam_lora.text import pluralize


@dataclass(frozen=True)
class Request:
    """What to propagate.

    Attributes
    ----------
    plane : PlaneKey
        A plane of the stack.
    ids : tuple of int, optional
        None for all objects of the plane.
    axis : int
        Position in ``plane.index`` of the axis to go along.
    values : dict
        Fields of `PropagationConfig`.
    redo : bool
        Whether masks of an earlier propagation are made anew.
    whole_stack : bool
        Segment the whole stack again instead, with its prompts.
    """

    plane: PlaneKey
    ids: tuple[int, ...] | None = None
    axis: int = -1
    values: dict[str, Any] = field(default_factory=dict)
    redo: bool = False
    whole_stack: bool = False


State = Literal["idle", "loading", "starting", "running", "stopping", "stopped", "found", "leaving"]
NOTHING = (
    "Nothing new was found. If objects go on in the next plane, lower the least score and the least overlap under "
    "“More settings”."
)

NEXT = "Where it went wrong, correct a plane with the brush and propagate again."


def propagation_controller_of(controller: Controller) -> PropagationController:
    """The propagation of a controller, made when first asked for; it ends with the controller."""
    found = controller.findChild(PropagationController)
    return found if isinstance(found, PropagationController) else PropagationController(controller)


class PropagationController(QObject):
    """One propagation at a time; it goes on when the panel is closed, and waits for a decision.

    Signals
    -------
    changed : ()
        Anything that is shown of it.

    Attributes
    ----------
    state : str
        "idle"; "loading" the model; "starting"; "running"; "stopping" after the current plane; "stopped" before its
        end; "found": at its end; "leaving": it is about to end and will not be shown.
    request : Request or None
        The last one.
    said : str
        How the last one ended.
    proposal : Proposal or None
        What was found; None unless "stopped" or "found".
    done, total : int
        Planes.
    layer : PropagationLayer
    """

    changed = Signal()

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._controller = controller
        self.layer = PropagationLayer(controller.viewer, self.changed.emit, self)
        self.state: State = "idle"
        self.request: Request | None = None
        self.said = ""
        self.proposal: Proposal | None = None
        self.done = self.total = 0
        self._future: Future[Proposal] | None = None
        self._labels: LabelSet | None = None
        self._begun: tuple[float, int] | None = None
        controller.propagated.connect(self._on_propagated)
        controller.progressed.connect(self._on_progress)
        controller.model_changed.connect(self._on_model)
        controller.loading_changed.connect(self._on_loading)
        controller.labels_changed.connect(self._check_layers)
        controller.images_changed.connect(self._check_layers)
        controller.closed.connect(self._on_closed)
        controller.questions.append(self._may_close)

    @property
    def is_busy(self) -> bool:
        """Whether there is one that goes on, or that was not decided on."""
        return self.state != "idle"

    @property
    def seconds_left(self) -> float | None:
        """From the pace so far; None before the first plane is done."""
        if self._begun is None or self.done <= self._begun[1]:
            return None
        begun, before = self._begun
        return (time.monotonic() - begun) / (self.done - before) * (self.total - self.done)

    @property
    def closed(self) -> int:
        """Planes of the stack that are marked as complete, and left alone."""
        run = self._controller.session.propagation
        return 0 if run is None else run.closed

    @property
    def kept(self) -> tuple[int, ...]:
        """Objects that will be taken over."""
        if self.proposal is None:
            return ()
        found = dict.fromkeys(change.label for change in self.proposal.changes)
        return tuple(label for label in found if label not in self.layer.dropped)

    # Asking

    def start(self, request: Request) -> None:
        """Propagate, as soon as there is a model; nothing while another one is not decided on."""
        if self.is_busy:
            return
        self.request, self.said = request, ""
        if self._controller.session.model is None:
            self._set("loading")
            self._controller.ensure_model()
        else:
            self._run(request)

    def stop(self) -> None:
        """End after the current plane; what was done stays to be decided on."""
        if self.state == "loading":
            self.said = "Stopped; nothing was changed."
            self._set("idle")
        elif self.state == "running":
            self._set("stopping")
            self._controller.session.cancel("propagate")  # may call back at once

    def go_on(self) -> None:
        """Go on with one that was stopped."""
        run = self._controller.session.propagation
        if self.state == "stopped" and run is not None and run.is_unfinished:
            self.layer.stop_choosing()
            self.proposal = None
            with self._controller.report_errors():
                self._follow(run.start())

    def _run(self, request: Request) -> None:
        self.done = self.total = 0
        self._set("starting")
        with _waiting(), self._controller.report_errors():
            try:
                future = self._begin(request)
            except BaseException:
                self._forget()
                raise
            self._follow(future)

    def _begin(self, request: Request) -> Future[Proposal]:
        from napari_sam_lora.stacks.propagation.config import PropagationConfig  # noqa: PLC0415  torch is imported when needed

        controller, session = self._controller, self._controller.session
        controller.flush()
        self._labels, image = controller.target, controller.layer_of(request.plane.image)
        if self._labels is None or image is None:
            raise InputError("The image or the labels are not open any more.")
        config = PropagationConfig(**request.values)
        self.layer.begin(image)  # napari processes events meanwhile
        if request.whole_stack:
            return session.resegment_stack(request.plane, config, axis=request.axis)
        ids = None if request.ids is None else list(request.ids)
        return session.propagate(request.plane, ids, config, axis=request.axis, redo=request.redo)

    def _follow(self, future: Future[Proposal]) -> None:
        self._future, self._begun = future, None
        self._set("running")
        self._controller.when_done(
            future,
            lambda proposal: self._on_done(proposal) if future is self._future else None,
            lambda _: self._on_failed() if future is self._future else None,
        )

    # Deciding

    def accept(self) -> None:
        """Write what was found into the labels, as one step."""
        proposal, labels, kept = self.proposal, self._labels, set(self.kept)
        if proposal is None or labels is None:
            return
        places = [place for place, change in enumerate(proposal.changes) if change.label in kept]
        with _waiting(), self._controller.report_errors():
            self._controller.flush()
            result = labels.apply(proposal, places)
            self.said = f"{result.message} {NEXT}" if result.ids else result.message
            self._controller.report(result)
        self._forget()

    def discard(self) -> None:
        """Forget what was found."""
        if self.state in ("stopped", "found"):
            self.said = "Discarded; nothing was changed."
            self._forget()

    def _forget(self) -> None:
        self.proposal = self._labels = self._future = None
        self.layer.remove()
        self._set("idle")

    # What happens

    def _on_propagated(self, proposal: Proposal) -> None:
        if self.state in ("running", "stopping"):
            self.layer.add(proposal.changes)

    def _on_progress(self, key: Any, done: int, total: int) -> None:
        if self.state in ("running", "stopping") and isinstance(key, tuple) and key[0] == "propagate":
            self.done, self.total = done, total
            if self._begun is None:
                self._begun = time.monotonic(), done
            self.changed.emit()

    def _on_done(self, proposal: Proposal) -> None:
        run = self._controller.session.propagation
        unfinished = run is not None and run.is_unfinished
        if self.state == "leaving" or not (proposal.changes or unfinished):
            self.said = self.said if self.state == "leaving" else self._nothing(proposal)
            self._forget()
            return
        self._show_decision(proposal, "stopped" if unfinished else "found")

    def _nothing(self, proposal: Proposal) -> str:
        if proposal.unchanged:
            return f"Nothing would change: {pluralize(proposal.unchanged, 'mask')} stay as they are."
        return NOTHING

    def _on_failed(self) -> None:
        """The user was told why; what was done until then is not lost."""
        run = self._controller.session.propagation
        if self.state == "leaving" or run is None or not run.proposal.changes:
            self.said = "It failed; nothing was changed."
            self._forget()
            return
        self.said = "It failed before its end."
        self._show_decision(run.proposal, "found")

    def _show_decision(self, proposal: Proposal, state: State) -> None:
        self.proposal = proposal
        self.layer.add(proposal.changes)  # the last planes may not have been shown yet
        self.layer.choose()
        self._set(state)

    def _on_model(self) -> None:
        if self.state == "loading" and self.request is not None:
            self._run(self.request)

    def _on_loading(self, name: str) -> None:
        if not name and self.state == "loading" and self._controller.session.model is None:
            self._set("idle")  # it failed, and the user was told

    def _check_layers(self) -> None:
        """What was found for labels or an image that are gone is of no use."""
        if self.request is None or not self.is_busy or self.state in ("loading", "starting", "leaving"):
            return
        known = any(one is self._labels for one in self._controller.session.labels.values())
        if known and self._controller.layer_of(self.request.plane.image) is not None:
            return
        self.said = "The image or the labels were removed; nothing was changed."
        if self.state in ("running", "stopping"):
            self.layer.remove()
            self._set("leaving")
            self._controller.session.cancel("propagate")  # may call back at once
        else:
            self._forget()

    def _may_close(self, window: QWidget) -> bool:
        """What was found is not thrown away unasked."""
        waits = self.state in ("running", "stopping", "stopped", "found")
        return not waits or ask_to_forget_propagation(window)

    def _on_closed(self) -> None:
        self._future = None
        if self._controller.viewer is not None:
            self.layer.remove()
        self.state = "idle"

    def _set(self, state: State) -> None:
        self.state = state
        self.changed.emit()


@contextmanager
def _waiting() -> Iterator[None]:
    """Show that something takes a moment, such as looking through large labels."""
    QApplication.setOverrideCursor(Qt.CursorShape.WaitCursor)
    try:
        yield
    finally:
        QApplication.restoreOverrideCursor()

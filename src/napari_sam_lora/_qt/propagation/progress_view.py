"""Progress of a propagation, and the buttons that stop, resume, accept or discard it."""

from __future__ import annotations

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_sam_lora._qt.propagation.controller import PropagationController
from napari_sam_lora._qt.viewer.progress import format_duration
from napari_sam_lora._qt.widgets.controls import Notice, button
from napari_sam_lora._qt.widgets.layout import row
from napari_sam_lora._qt.widgets.work_bar import WorkBar
from napari_sam_lora.text import pluralize

LOADING = "Loading the model…"
STOPPING = "Stopping after this plane…"
READING = "Reading the labelled planes… You can go on working."
GO_ON_WORKING = "You can go on working."
NOTHING_YET = "Nothing was found yet."
NO_PREVIEW = "There is no preview layer, but the objects can be accepted all the same."
REVIEW = "Look through the planes; click an object to leave it out, click it again to take it back in."


class PropagationView(QWidget):
    """Progress bar with the time left, and afterwards the decision whether to accept.

    Parameters
    ----------
    propagation_controller : PropagationController
    whole_stack : bool
        Which outcomes to show: of propagations that segmented the whole stack again, or of those of some objects.
    """

    def __init__(self, propagation_controller: PropagationController, whole_stack: bool) -> None:
        super().__init__()
        self._propagation_controller, self._whole_stack = propagation_controller, whole_stack
        self.state = Notice()
        self.bar = WorkBar()
        self.bar.setToolTip("Planes that are done, of all planes to do if no object ends early.")
        self.stop = button(
            "Stop", "Stop after the current plane; what was found so far is kept.", propagation_controller.stop
        )
        self.go_on = button(
            "Go on", "Go on where it was stopped, with the model it started with.", propagation_controller.resume
        )
        self.accept = button(
            "Accept",
            "Write the objects that are shown into the labels; Ctrl-Z takes it back in one step.",
            propagation_controller.accept,
        )
        self.discard = button(
            "Discard", "Drop the objects that were found; the labels stay as they are.", propagation_controller.discard
        )
        self.working = row(self.bar, self.stop)
        self.deciding = row(self.accept, self.discard)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.state, self.working, self.go_on, self.deciding):
            layout.addWidget(widget)
        propagation_controller.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the state of the propagation."""
        controller, state = self._propagation_controller, self._propagation_controller.state
        self.working.setVisible(state in ("loading", "starting", "running", "stopping", "aborting"))
        self.stop.setEnabled(state in ("loading", "running"))
        self.go_on.setVisible(state == "stopped")
        self.deciding.setVisible(state in ("stopped", "found"))
        self.bar.setRange(0, controller.total if state in ("running", "stopping") else 0)
        self.bar.setValue(controller.done)
        self.state.say(self._status_text())
        left = controller.total - controller.done
        self.go_on.setText(f"Go on: {pluralize(left, 'plane')} left" if left else "Go on")
        accepted = len(controller.accepted_labels)
        self.accept.setText(f"Accept {pluralize(accepted, 'object')}" if accepted else "Accept")
        self.accept.setEnabled(bool(accepted))

    def _status_text(self) -> str:
        controller = self._propagation_controller
        if controller.state == "loading":
            return LOADING
        if controller.state in ("starting", "running"):
            return self._progress_text()
        if controller.state == "stopping":
            return STOPPING
        if controller.state == "aborting":
            return f"{controller.outcome} Stopping…"
        if controller.state == "idle" or controller.proposal is None:
            is_own = controller.request is not None and controller.request.whole_stack == self._whole_stack
            return controller.outcome if is_own else ""
        return self._result_text()

    def _progress_text(self) -> str:
        controller = self._propagation_controller
        if not controller.total:
            return READING
        left, skipped = controller.seconds_left, controller.skipped_planes
        progress = f"Plane {controller.done} of {controller.total}"
        progress += "…" if left is None else f", about {format_duration(left)} left."
        sentences = [progress, f"{pluralize(skipped, 'complete plane')} skipped." if skipped else "", GO_ON_WORKING]
        return " ".join(sentence for sentence in sentences if sentence)

    def _result_text(self) -> str:
        controller, proposal = self._propagation_controller, self._propagation_controller.proposal
        changes = () if proposal is None else proposal.changes
        found = [change for change in changes if change.new.area]
        sentences = [controller.outcome] if controller.outcome else []
        if controller.state == "stopped":
            planes = f" after {controller.done} of {pluralize(controller.total, 'plane')}" if controller.total else ""
            sentences.append(f"Stopped{planes}.")
        if found:
            objects = pluralize(len({change.label for change in found}), "object")
            sentences.append(f"Found {objects} in {pluralize(len({change.plane for change in found}), 'plane')}.")
        emptied = {change.plane for change in changes if not change.new.area}
        if emptied:
            sentences.append(
                f"In {pluralize(len(emptied), 'plane')} an object was not found again and will be removed."
            )
        if controller.layer.dropped:
            sentences.append(f"{pluralize(len(controller.layer.dropped), 'object')} left out.")
        if not changes:
            sentences.append(NOTHING_YET)
        else:
            sentences.append(NO_PREVIEW if controller.layer.layer is None else REVIEW)
        return " ".join(sentences)

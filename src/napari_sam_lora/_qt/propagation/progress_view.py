"""How a propagation does, and what can be done with it."""

from __future__ import annotations

from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_sam_lora._qt.propagation.controller import PropagationController
from napari_sam_lora._qt.widgets.controls import Notice, action, duration, row
from napari_sam_lora.text import pluralize


class PropagationView(QWidget):
    """Progress and time left; then go on, accept or discard.

    Parameters
    ----------
    propagation : PropagationController
    whole_stack : bool
        How which propagation ended is told here: one that segmented the whole stack again, or one of some objects.
    """

    def __init__(self, propagation: PropagationController, whole_stack: bool) -> None:
        super().__init__()
        self._propagation, self._whole_stack = propagation, whole_stack
        self.state = Notice()
        self.bar = QProgressBar()
        self.bar.setToolTip("Planes that are done; the whole is what is to do if no object ends early.")
        self.stop = action("Stop", "End after the current plane; what was found until then is kept.", propagation.stop)
        self.go_on = action(
            "Go on", "Go on where it was stopped, with the model with which it began.", propagation.go_on
        )
        self.accept = action(
            "Accept",
            "Write the objects that are shown into the labels; Ctrl-Z takes it back in one step.",
            propagation.accept,
        )
        self.discard = action("Discard", "Forget what was found; the labels stay as they are.", propagation.discard)
        self.working = row(self.bar, self.stop)
        self.deciding = row(self.accept, self.discard)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.state, self.working, self.go_on, self.deciding):
            layout.addWidget(widget)
        propagation.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show how things are."""
        propagation, state = self._propagation, self._propagation.state
        self.working.setVisible(state in ("loading", "starting", "running", "stopping", "leaving"))
        self.stop.setEnabled(state in ("loading", "running"))
        self.go_on.setVisible(state == "stopped")
        self.deciding.setVisible(state in ("stopped", "found"))
        self.bar.setRange(0, propagation.total if state in ("running", "stopping") else 0)
        self.bar.setValue(propagation.done)
        self.state.say(self._words())
        left = propagation.total - propagation.done
        self.go_on.setText(f"Go on: {pluralize(left, 'plane')} left" if left else "Go on")
        self.accept.setText(f"Accept {pluralize(len(propagation.kept), 'object')}" if propagation.kept else "Accept")
        self.accept.setEnabled(bool(propagation.kept))

    def _words(self) -> str:
        propagation = self._propagation
        if propagation.state == "loading":
            return "Loading the model…"
        if propagation.state in ("starting", "running"):
            return self._progress()
        if propagation.state == "stopping":
            return "Stopping after this plane…"
        if propagation.state == "leaving":
            return f"{propagation.said} Ending…"
        if propagation.state == "idle" or propagation.proposal is None:
            own = propagation.request is not None and propagation.request.whole_stack == self._whole_stack
            return propagation.said if own else ""
        return self._found()

    def _progress(self) -> str:
        propagation = self._propagation
        if not propagation.total:
            return "Looking at the planes that are known… You can go on working."
        left = propagation.seconds_left
        said = f"Plane {propagation.done} of {propagation.total}"
        said += "…" if left is None else f", about {duration(left)} left."
        skipped = f"{pluralize(propagation.closed, 'complete plane')} left alone." if propagation.closed else ""
        return " ".join(one for one in (said, skipped, "You can go on working.") if one)

    def _found(self) -> str:
        propagation, proposal = self._propagation, self._propagation.proposal
        changes = () if proposal is None else proposal.changes
        found = [change for change in changes if change.new.area]
        planes = {change.plane for change in found}
        said = [propagation.said] if propagation.said else []
        if propagation.state == "stopped":
            said.append(
                f"Stopped after {propagation.done} of {pluralize(propagation.total, 'plane')}."
                if propagation.total
                else "Stopped."
            )
        if found:
            objects = {change.label for change in found}
            said.append(f"Found {pluralize(len(objects), 'object')} in {pluralize(len(planes), 'plane')}.")
        gone = {change.plane for change in changes if not change.new.area}
        if gone:
            said.append(f"In {pluralize(len(gone), 'plane')} something was not found again and will be removed.")
        if propagation.layer.dropped:
            said.append(f"{len(propagation.layer.dropped)} left out.")
        if not changes:
            return " ".join([*said, "Nothing was found yet."])
        if propagation.layer.layer is None:
            return " ".join([*said, "There is no preview of it; it can be accepted all the same."])
        return " ".join([*said, "Look through the planes; click on an object to leave it out, again to take it in."])

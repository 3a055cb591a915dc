"""How a propagation does, and what can be done with it."""

from __future__ import annotations

from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_sam_lora._qt.parts import row
from napari_sam_lora._qt.propagation_desk import PropagationDesk
from napari_sam_lora._qt.widgets import Notice, action, duration
from napari_sam_lora.words import count


class PropagationView(QWidget):
    """Progress and time left; then go on, accept or discard.

    Parameters
    ----------
    desk : PropagationDesk
    whole_stack : bool
        How which propagation ended is told here: one that segmented the whole stack again, or one of some objects.
    """

    def __init__(self, desk: PropagationDesk, whole_stack: bool) -> None:
        super().__init__()
        self._desk, self._whole_stack = desk, whole_stack
        self.state = Notice()
        self.bar = QProgressBar()
        self.bar.setToolTip("Planes that are done; the whole is what is to do if no object ends early.")
        self.stop = action("Stop", "End after the current plane; what was found until then is kept.", desk.stop)
        self.go_on = action("Go on", "Go on where it was stopped, with the model with which it began.", desk.go_on)
        self.accept = action(
            "Accept", "Write the objects that are shown into the labels; Ctrl-Z takes it back in one step.", desk.accept
        )
        self.discard = action("Discard", "Forget what was found; the labels stay as they are.", desk.discard)
        self.working = row(self.bar, self.stop)
        self.deciding = row(self.accept, self.discard)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.state, self.working, self.go_on, self.deciding):
            layout.addWidget(widget)
        desk.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show how things are."""
        desk, state = self._desk, self._desk.state
        self.working.setVisible(state in ("loading", "starting", "running", "stopping", "leaving"))
        self.stop.setEnabled(state in ("loading", "running"))
        self.go_on.setVisible(state == "stopped")
        self.deciding.setVisible(state in ("stopped", "found"))
        self.bar.setRange(0, desk.total if state in ("running", "stopping") else 0)
        self.bar.setValue(desk.done)
        self.state.say(self._words())
        left = desk.total - desk.done
        self.go_on.setText(f"Go on: {count(left, 'plane')} left" if left else "Go on")
        self.accept.setText(f"Accept {count(len(desk.kept), 'object')}" if desk.kept else "Accept")
        self.accept.setEnabled(bool(desk.kept))

    def _words(self) -> str:
        desk = self._desk
        if desk.state == "loading":
            return "Loading the model…"
        if desk.state in ("starting", "running"):
            return self._progress()
        if desk.state == "stopping":
            return "Stopping after this plane…"
        if desk.state == "leaving":
            return f"{desk.said} Ending…"
        if desk.state == "idle" or desk.proposal is None:
            own = desk.request is not None and desk.request.whole_stack == self._whole_stack
            return desk.said if own else ""
        return self._found()

    def _progress(self) -> str:
        desk = self._desk
        if not desk.total:
            return "Looking at the planes that are known… You can go on working."
        left = desk.seconds_left
        said = f"Plane {desk.done} of {desk.total}"
        said += "…" if left is None else f", about {duration(left)} left."
        skipped = f"{count(desk.closed, 'complete plane')} left alone." if desk.closed else ""
        return " ".join(one for one in (said, skipped, "You can go on working.") if one)

    def _found(self) -> str:
        desk, proposal = self._desk, self._desk.proposal
        changes = () if proposal is None else proposal.changes
        found = [change for change in changes if change.new.area]
        planes = {change.plane for change in found}
        said = [desk.said] if desk.said else []
        if desk.state == "stopped":
            said.append(f"Stopped after {desk.done} of {count(desk.total, 'plane')}." if desk.total else "Stopped.")
        if found:
            said.append(
                f"Found {count(len({change.label for change in found}), 'object')} in {count(len(planes), 'plane')}."
            )
        gone = {change.plane for change in changes if not change.new.area}
        if gone:
            said.append(f"In {count(len(gone), 'plane')} something was not found again and will be removed.")
        if desk.layer.dropped:
            said.append(f"{len(desk.layer.dropped)} left out.")
        if not changes:
            return " ".join([*said, "Nothing was found yet."])
        if desk.layer.layer is None:
            return " ".join([*said, "There is no preview of it; it can be accepted all the same."])
        return " ".join([*said, "Look through the planes; click on an object to leave it out, again to take it in."])

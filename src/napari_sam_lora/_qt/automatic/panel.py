"""Panel section that finds all objects of a plane, and shows them before they are added."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_sam_lora._qt.automatic.layer import ProposalLayer
from napari_sam_lora._qt.automatic.parameters import everything_form
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.coordinates import data_shape
from napari_sam_lora._qt.widgets.controls import NO_IMAGE, Notice, button
from napari_sam_lora._qt.widgets.layout import row
from napari_sam_lora.parameters.everything import EverythingConfig
from napari_sam_lora.session import LabelSet, Proposal
from napari_sam_lora.text import pluralize

NO_PLANE = "Leave the 3-D view and show a plane of the image."
READY = "Finds all objects of this plane that are not labelled yet. You see them before anything is added."
LOADING = "Loading the model…"
RUNNING = "Looking for objects… You can go on working."
CANCELLED = "Cancelled; nothing was changed."
NOTHING_FOUND = "No new objects were found. Allow a lower score or stability, or use more clicks along a side."


class EverythingBox(QWidget):
    """Everything mode: its parameters, its progress, and the objects that it proposes.

    Parameters
    ----------
    controller : Controller
    parent : QWidget, optional
    """

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self._state = "idle"  # then "loading", "running", "proposed"
        self.proposal: Proposal | None = None
        self._target: LabelSet | None = None
        self._message = ""
        self.layer = ProposalLayer(controller.viewer, self._refresh)
        self.form = everything_form()
        self.more = button("More settings", "Show all parameters", checkable=True)
        self.more.toggled.connect(self.form.advanced.setVisible)
        self.usual = button("Usual values", "Reset all parameters", self.form.reset)
        self.hint = Notice()
        self.look = button("Find all objects", "Find all objects of the plane that is shown", self.start)
        self.bar = QProgressBar()
        self.stop = button("Cancel", "Stop; nothing is changed", self.cancel)
        self.working = row(self.bar, self.stop)
        self.accept = button("Add", "Add the objects that are shown to the labels; Ctrl-Z undoes it", self._accept)
        self.discard = button("Discard", "Discard the objects that were found", self.forget)
        self.deciding = row(self.accept, self.discard)
        self._lay_out()
        self._connect()
        self._refresh()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (
            self.hint,
            self.form,
            row(self.more, self.usual),
            self.form.advanced,
            self.look,
            self.working,
            self.deciding,
        ):
            layout.addWidget(widget)

    def _connect(self) -> None:
        controller = self._controller
        for signal in (controller.active_layers.image_chosen, controller.active_layers.plane_changed):
            signal.connect(self._refresh)
        controller.layers.labels_changed.connect(self._on_labels)
        controller.layers.images_changed.connect(self._on_labels)
        controller.events.progressed.connect(self._on_progress)

    def on_dock_closed(self) -> None:
        """Cancel, and remove the proposal, also while the section is folded."""
        self.cancel()
        self.forget()

    # Finding

    def start(self) -> None:
        """Find all objects of the plane; the default model is loaded first if there is none."""
        controller = self._controller
        if self._state != "idle" or controller.active_layers.plane is None:
            return
        self._state, self._message = "loading", ""
        self._stop_waiting = controller.with_model(self._run, self, self._on_not_loaded)
        self._refresh()

    def cancel(self) -> None:
        """Stop finding objects."""
        if self._state in ("loading", "running"):
            if self._state == "running":
                self._controller.session.models.cancel("everything")
            self._stop_waiting()
            self._state, self._message = "idle", CANCELLED
            self._refresh()

    def _run(self) -> None:
        controller, active_layers = self._controller, self._controller.active_layers
        plane = active_layers.plane
        self._state = "idle"
        self._refresh()
        if plane is None or active_layers.image_layer is None:
            return
        if active_layers.target_layer is None:
            active_layers.make_target()
        controller.layers.flush()
        self._target = controller.target
        self._image_layer = active_layers.image_layer
        values = self.form.values()
        smallest = values.pop("smallest")
        config = EverythingConfig(**values)
        future = controller.session.proposals.everything(plane, config=config, smallest=smallest)
        self._state = "running"
        self.bar.setRange(0, 0)
        self._future = future
        controller.events.when_done(
            future,
            lambda proposal: self._on_found(proposal) if future is self._future else None,
            lambda error: self._on_failed() if future is self._future else None,
        )
        self._refresh()

    def _on_not_loaded(self, message: str) -> None:
        """Stop waiting for a model that could not be loaded; the user has seen the error."""
        self._state = "idle"
        self._refresh()

    def _on_progress(self, key: Any, done: int, total: int) -> None:
        if self._state == "running" and isinstance(key, tuple) and key and key[0] == "everything":
            self.bar.setRange(0, total)
            self.bar.setValue(done)

    def _on_failed(self) -> None:
        if self._state == "running":
            self._state = "idle"
            self._refresh()

    # Deciding

    def _on_found(self, proposal: Proposal) -> None:
        if self._state != "running":
            return
        self._state = "idle"
        if proposal.changes and self._image_layer in self._controller.layers.images():
            plane = proposal.changes[0].plane
            self._state, self.proposal = "proposed", proposal
            self.layer.show(self._image_layer, plane, plane.shape(data_shape(self._image_layer)), proposal)
        else:
            self._message = NOTHING_FOUND
        self._refresh()

    def _accept(self) -> None:
        proposal, target = self.proposal, self._target
        if proposal is None or target is None:
            return
        kept = [index for index in range(len(proposal.changes)) if index not in self.layer.dropped]
        controller = self._controller
        self.forget()
        controller.layers.flush()
        with controller.report_errors():
            result = target.apply(proposal, kept)
            self._message = result.message
            controller.report(result)
        self._refresh()

    def forget(self) -> None:
        """Discard the proposal."""
        if self._state == "proposed":
            self._state, self.proposal = "idle", None
            self.layer.remove()
            self._refresh()

    def _on_labels(self) -> None:
        """Discard a proposal whose labels or image have been removed."""
        is_removed = self._target is not None and all(labels is not self._target for labels in self._labels())
        if self._state == "proposed" and (is_removed or self._image_layer not in self._controller.layers.images()):
            self.forget()
        self._refresh()

    def _labels(self) -> list[LabelSet]:
        return list(self._controller.session.labels.values())

    # Showing

    def _refresh(self, *_: Any) -> None:
        state, controller = self._state, self._controller
        self.look.setVisible(state == "idle")
        self.look.setEnabled(controller.active_layers.plane is not None)
        self.working.setVisible(state in ("loading", "running"))
        self.deciding.setVisible(state == "proposed")
        for widget in (self.form, self.form.advanced, self.usual):
            widget.setEnabled(state in ("idle", "proposed"))
        self.hint.say(self._hint_text())
        if state == "loading":
            self.bar.setRange(0, 0)
        if self.proposal is not None:
            kept = len(self.proposal.changes) - len(self.layer.dropped)
            self.accept.setText(f"Add {pluralize(kept, 'object')}")
            self.accept.setEnabled(kept > 0)

    def _hint_text(self) -> str:
        """Describe the state, or say what to do next."""
        if self._state == "loading":
            return LOADING
        if self._state == "running":
            return RUNNING
        if self.proposal is not None:
            dropped = len(self.layer.dropped)
            found = f"Found {pluralize(len(self.proposal.changes), 'object')}"
            found += f", {dropped} dropped" if dropped else ""
            return (
                f"{found}. Click on an object in the image to drop it, click again to take it back in; then add them."
            )
        if self._controller.active_layers.image_layer is None:
            return NO_IMAGE
        return NO_PLANE if self._controller.active_layers.plane is None else self._message or READY

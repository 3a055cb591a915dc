"""Panel section that finds all objects of a plane, and shows them before they are added."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_sam_lora._qt.automatic.layer import ProposalLayer
from napari_sam_lora._qt.automatic.parameters import everything_form, instances_form
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.coordinates import data_shape
from napari_sam_lora._qt.widgets.controls import NO_IMAGE, Notice, button, combo_box
from napari_sam_lora._qt.widgets.layout import row
from napari_sam_lora.parameters.everything import EverythingConfig
from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.session import LabelSet, Proposal
from napari_sam_lora.session.prompting.dense_maps import PlaneMaps
from napari_sam_lora.text import pluralize

T = TypeVar("T")

NO_PLANE = "Leave the 3-D view and show a plane of the image."
READY = "Finds all objects of this plane that are not labelled yet. You see them before anything is added."
LOADING = "Loading the model…"
RUNNING = "Looking for objects… You can go on working."
CANCELLED = "Cancelled; nothing was changed."
NOTHING_FOUND = "No new objects were found. Allow a lower score or stability, or use more clicks along a side."
NOTHING_IN_MAPS = "No new objects were found. Raise the sensitivity, or allow smaller objects."
METHODS = {"head": "Object finder (fast)", "clicks": "Grid of clicks (slow)"}
METHOD_TIP = (
    "The object finder is a part of the model that was trained to find objects. Fine-tuning improves it if you mark "
    "planes as complete. The grid of clicks asks the model at many points."
)
CUT_DELAY_MS = 30


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
        self._future: Future[Any] | None = None
        self.layer = ProposalLayer(controller.viewer, self._refresh)
        self._maps: PlaneMaps | None = None
        self._suggested: InstanceConfig | None = None
        self.method = combo_box(METHODS, METHOD_TIP)
        self.instances = instances_form()
        self._cut_timer = QTimer(self)
        self._cut_timer.setSingleShot(True)
        self._cut_timer.setInterval(CUT_DELAY_MS)
        self._cut_timer.timeout.connect(self._cut_again)
        self.form = everything_form()
        self.more = button("More settings", "Show all parameters", checkable=True)
        self.more.toggled.connect(self.form.advanced.setVisible)
        self.usual = button("Usual values", "Reset all parameters", self._reset)
        self._adjust = row(self.more, self.usual)
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
            self.method,
            self.instances,
            self.form,
            self._adjust,
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
        for changed in (controller.events.model_changed, controller.events.active_changed):
            changed.connect(self._on_model)
        self.method.activated.connect(self._refresh)
        self.instances.edited.connect(self._cut_timer.start)
        self._on_model()

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
        proposals = controller.session.proposals
        if self._uses_head:
            self._wait_for(proposals.maps(plane), self._on_maps)
        else:
            values = self.form.values()
            smallest = values.pop("smallest")
            config = EverythingConfig(**values)
            self._wait_for(proposals.everything(plane, config=config, smallest=smallest), self._on_found)

    def _wait_for(self, future: Future[T], done: Callable[[T], None]) -> None:
        """Call back with what was found, unless another search is started meanwhile."""
        self._state, self._future = "running", future
        self.bar.setRange(0, 0)
        self._controller.events.when_done(
            future,
            lambda found: done(found) if future is self._future else None,
            lambda error: self._on_failed() if future is self._future else None,
        )
        self._refresh()

    @property
    def _uses_head(self) -> bool:
        """Return whether objects are found with the dense head, which this model has."""
        return self._suggested is not None and self.method.currentData() == "head"

    def _on_model(self, *_: Any) -> None:
        """Offer the object finder where the model has one, with the parameters that suit it."""
        suggested = self._controller.session.models.head_instances
        if suggested != self._suggested:
            self._suggested = suggested
            if suggested is not None:
                self.instances.show_values(suggested.as_dict())
        self._refresh()

    def _reset(self) -> None:
        """Set the parameters to those that are usual for the model."""
        if self._uses_head and self._suggested is not None:
            self.instances.show_values(self._suggested.as_dict())
            self._cut_timer.start()
        else:
            self.form.reset()

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

    def _on_maps(self, maps: PlaneMaps) -> None:
        """Show the objects that the sliders cut out of the maps; moving a slider cuts them again."""
        if self._state != "running":
            return
        proposal = self._cut(maps)
        if proposal is None:
            self._state = "idle"
            self._refresh()
            return
        self._on_found(proposal)
        if self._state == "proposed":
            self._maps = maps
        elif self._message == NOTHING_FOUND:
            self._message = NOTHING_IN_MAPS
        self._refresh()

    def _cut(self, maps: PlaneMaps) -> Proposal | None:
        """Cut objects out of maps; None if the labels are gone."""
        target = next((name for name, one in self._controller.session.labels.items() if one is self._target), None)
        if target is None:
            return None
        config = replace(maps.instances, **self.instances.values())
        with self._controller.report_errors():
            return self._controller.session.proposals.from_maps(maps, config, target)
        return None

    def _cut_again(self) -> None:
        if self._state != "proposed" or self._maps is None:
            return
        proposal = self._cut(self._maps)
        if proposal is not None:
            self.proposal, plane = proposal, self._maps.plane
            self.layer.show(self._image_layer, plane, plane.shape(data_shape(self._image_layer)), proposal)
            self._refresh()

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
            self._state, self.proposal, self._maps = "idle", None, None
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
        uses_head = self._uses_head
        self.method.setVisible(self._suggested is not None)
        self.method.setEnabled(state == "idle")
        self.instances.setVisible(uses_head)
        self.form.setVisible(not uses_head)
        self.more.setVisible(not uses_head)
        self.form.advanced.setVisible(not uses_head and self.more.isChecked())
        for widget in (self.form, self.form.advanced, self.instances, self.usual):
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

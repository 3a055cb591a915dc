"""Finding all objects of a plane: looked at before they are added."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_sam_lora._qt.automatic.layer import ProposalLayer
from napari_sam_lora._qt.automatic.parameters import EverythingForm
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.napari_stores import data_shape
from napari_sam_lora._qt.viewer.preferences import RememberedSettings
from napari_sam_lora._qt.widgets.controls import Notice, action, button, row
from napari_sam_lora.session import LabelSet, Proposal
from napari_sam_lora.text import pluralize

NO_IMAGE = "Open an image, or try File ▸ Open Sample ▸ SAM LoRA."
NO_PLANE = "Show a plane of the image: leave the 3-D view, or move to where the image is."
READY = "Looks for all objects of this plane that are not labelled yet. Nothing is added before you have seen it."


class EverythingBox(QWidget):
    """Everything mode with its parameters, its progress, and the objects that it proposes.

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
        self._said = ""
        self.layer = ProposalLayer(controller.viewer, self._refresh)
        remembered = RememberedSettings("everything")
        self.basic, self.advanced = EverythingForm(True, remembered), EverythingForm(False, remembered)
        self.advanced.hide()
        self.more = button("More settings", "Show all parameters", checkable=True)
        self.more.toggled.connect(self.advanced.setVisible)
        self.usual = action("Usual values", "Set all parameters back", self._reset)
        self.hint = Notice()
        self.look = action("Find all objects", "Look for all objects of the plane that is shown", self.start)
        self.bar = QProgressBar()
        self.stop = action("Cancel", "Stop looking; nothing is changed", self.cancel)
        self.working = row(self.bar, self.stop)
        self.accept = action("Add", "Add the objects that are shown to the labels; Ctrl-Z takes it back", self._accept)
        self.discard = action("Discard", "Forget what was found", self.forget)
        self.deciding = row(self.accept, self.discard)
        self._lay_out()
        self._connect()
        self._refresh()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (
            self.hint,
            self.basic,
            row(self.more, self.usual),
            self.advanced,
            self.look,
            self.working,
            self.deciding,
        ):
            layout.addWidget(widget)

    def _connect(self) -> None:
        controller = self._controller
        for signal in (controller.image_chosen, controller.plane_changed):
            signal.connect(self._refresh)
        controller.labels_changed.connect(self._on_labels)
        controller.images_changed.connect(self._on_labels)
        controller.model_changed.connect(self._on_model)
        controller.loading_changed.connect(self._on_loading)
        controller.progressed.connect(self._on_progress)

    def leave(self) -> None:
        """Call it when the panel is closed: it leaves no proposal behind, though the section may be folded."""
        self.cancel()
        self.forget()

    # Looking

    def start(self) -> None:
        """Look for all objects of the plane, as soon as there is a model."""
        controller = self._controller
        if self._state != "idle" or controller.plane is None:
            return
        self._said = ""
        if controller.session.model is None:
            self._state = "loading"
            controller.ensure_model()
        else:
            self._run()
        self._refresh()

    def cancel(self) -> None:
        """Stop looking."""
        if self._state in ("loading", "running"):
            if self._state == "running":
                self._controller.session.cancel("everything")
            self._state, self._said = "idle", "Stopped; nothing was changed."
            self._refresh()

    def _run(self) -> None:
        from napari_sam_lora.model.automatic import EverythingConfig  # noqa: PLC0415

        controller, plane = self._controller, self._controller.plane
        if plane is None or controller.image_layer is None:
            self._state = "idle"
            return
        with controller.report_errors():
            if controller.target_layer is None:
                controller.make_target()
            controller.flush()
            self._target = controller.target
            self._image_layer = controller.image_layer
            values = self.basic.values() | self.advanced.values()
            smallest = values.pop("smallest")
            config = EverythingConfig(**values)
            future = controller.session.everything(plane, config=config, smallest=smallest)
            self._state = "running"
            self.bar.setRange(0, 0)
            self._future = future
            controller.when_done(
                future,
                lambda proposal: self._on_found(proposal) if future is self._future else None,
                lambda error: self._on_failed() if future is self._future else None,
            )
            return
        self._state = "idle"

    def _on_model(self) -> None:
        if self._state == "loading":
            self._run()
        self._refresh()

    def _on_loading(self, name: str) -> None:
        if not name and self._state == "loading" and self._controller.session.model is None:
            self._state = "idle"  # it failed, and the user was told
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
        if proposal.changes and self._image_layer in self._controller.image_layers():
            plane = proposal.changes[0].plane
            self._state, self.proposal = "proposed", proposal
            self.layer.show(self._image_layer, plane, plane.shape(data_shape(self._image_layer)), proposal)
        else:
            self._said = "No new objects were found. Allow a lower score or stability, or use more clicks along a side."
        self._refresh()

    def _accept(self) -> None:
        proposal, target = self.proposal, self._target
        if proposal is None or target is None:
            return
        kept = [place for place in range(len(proposal.changes)) if place not in self.layer.dropped]
        controller = self._controller
        self.forget()
        controller.flush()
        with controller.report_errors():
            result = target.apply(proposal, kept)
            self._said = result.message
            controller.report(result)
        self._refresh()

    def forget(self) -> None:
        """Drop the proposal."""
        if self._state == "proposed":
            self._state, self.proposal = "idle", None
            self.layer.remove()
            self._refresh()

    def _on_labels(self) -> None:
        """A proposal for labels or an image that are gone is of no use."""
        gone = self._target is not None and all(one is not self._target for one in self._labels())
        if self._state == "proposed" and (gone or self._image_layer not in self._controller.image_layers()):
            self.forget()
        self._refresh()

    def _labels(self) -> list[LabelSet]:
        return list(self._controller.session.labels.values())

    # What is shown

    def _reset(self) -> None:
        self.basic.reset()
        self.advanced.reset()

    def _refresh(self, *_: Any) -> None:
        state, controller = self._state, self._controller
        self.look.setVisible(state == "idle")
        self.look.setEnabled(controller.plane is not None)
        self.working.setVisible(state in ("loading", "running"))
        self.deciding.setVisible(state == "proposed")
        for widget in (self.basic, self.advanced, self.usual):
            widget.setEnabled(state in ("idle", "proposed"))
        self.hint.say(self._words())
        if state == "loading":
            self.bar.setRange(0, 0)
        if self.proposal is not None:
            kept = len(self.proposal.changes) - len(self.layer.dropped)
            self.accept.setText(f"Add {pluralize(kept, 'object')}")
            self.accept.setEnabled(kept > 0)

    def _words(self) -> str:
        if self._state == "loading":
            return "Loading the model…"
        if self._state == "running":
            return "Looking for objects… You can go on working."
        if self.proposal is not None:
            dropped = len(self.layer.dropped)
            said = f"Found {pluralize(len(self.proposal.changes), 'object')}"
            said += f", {dropped} dropped" if dropped else ""
            return f"{said}. Click on one in the image to drop it, again to take it back in; then add them."
        if self._controller.image_layer is None:
            return NO_IMAGE
        return NO_PLANE if self._controller.plane is None else self._said or READY

"""The widget "Fine-tune on my labels": training set, settings, the run and its verdict."""

from __future__ import annotations

from typing import Any

from qtpy.QtGui import QHideEvent, QShowEvent

from napari_sam_lora._qt.finetuning.controller import finetuning_controller_of
from napari_sam_lora._qt.finetuning.next_step import NextStepBox
from napari_sam_lora._qt.finetuning.parameters import TrainingForm
from napari_sam_lora._qt.finetuning.run import RunBox
from napari_sam_lora._qt.finetuning.training_table import TrainingTable
from napari_sam_lora._qt.finetuning.verdict import VerdictBox
from napari_sam_lora._qt.viewer.controller import controller_of
from napari_sam_lora._qt.widgets.controls import Notice
from napari_sam_lora._qt.widgets.layout import ScrollPanel, box


class FinetunePanel(ScrollPanel):
    """Panel that fine-tunes the model on the labels of a viewer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.controller = controller_of(napari_viewer)
        self.finetuning_controller = finetuning_controller_of(self.controller)
        self.model = Notice()
        self.table = TrainingTable(self.controller, self.finetuning_controller)
        self.form = TrainingForm(self.controller, self.finetuning_controller)
        self.run = RunBox(self.controller, self.finetuning_controller)
        self.verdict = VerdictBox(self.controller, self.finetuning_controller)
        self.next_step = NextStepBox(self.controller, self.finetuning_controller)
        self.column.addWidget(self.model)
        self.column.addWidget(box("Learn from", self.table))
        self.form_box = box("How thoroughly", self.form)
        self.column.addWidget(self.form_box)
        self.column.addWidget(box("Fine-tune", self.run, self.verdict, self.next_step))
        self.column.addStretch(1)
        self.controller.events.model_changed.connect(self._on_model)
        self.finetuning_controller.run_changed.connect(self._on_run)
        self._show_model()
        self._on_run()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """Attach the session to the window, and measure the speed of a loaded model for the estimated times."""
        super().showEvent(event)
        self.controller.attach(self)
        self.finetuning_controller.measure()

    def on_dock_closed(self) -> None:
        """Detach the panel from the controller; shortcuts end with the last panel."""
        self.controller.detach(self)

    def hideEvent(self, event: QHideEvent | None) -> None:  # noqa: N802 - Qt's name
        """Check whether the dock was closed, of which the panel gets no event, while a run is going on."""
        super().hideEvent(event)
        self.finetuning_controller.close_guard.check_soon(self)

    def _on_model(self) -> None:
        self._show_model()
        self.finetuning_controller.measure()

    def _show_model(self) -> None:
        model = self.controller.session.models.model
        if model is None:
            self.model.say("No model is loaded yet. The bundled one is loaded when you start.")
        else:
            size = model.predictor.input_size
            self.model.say(f"Model: {model.name}, input size {size} by {size} pixels, on {model.device.type}.")

    def _on_run(self) -> None:
        self.form_box.setEnabled(not self.finetuning_controller.is_running)

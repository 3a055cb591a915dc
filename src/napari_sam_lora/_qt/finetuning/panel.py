"""The fine-tune widget: learn from what was labelled, watch it, and switch to it."""

from __future__ import annotations

from typing import Any

from qtpy.QtGui import QHideEvent, QShowEvent

from napari_sam_lora._qt.finetuning.controller import finetuning_controller_of
from napari_sam_lora._qt.finetuning.parameters import TrainingForm
from napari_sam_lora._qt.finetuning.run import RunBox
from napari_sam_lora._qt.finetuning.training_table import TrainingTable
from napari_sam_lora._qt.finetuning.verdict import VerdictBox
from napari_sam_lora._qt.viewer.controller import controller_of
from napari_sam_lora._qt.widgets.controls import Notice, ScrollPanel, box


class FinetunePanel(ScrollPanel):
    """Fine-tune the model on the labels of this viewer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.controller = controller_of(napari_viewer)
        self.finetuning = finetuning_controller_of(self.controller)
        self.model = Notice()
        self.table = TrainingTable(self.controller, self.finetuning)
        self.form = TrainingForm(self.controller, self.finetuning)
        self.run = RunBox(self.controller, self.finetuning)
        self.verdict = VerdictBox(self.controller, self.finetuning)
        self.column.addWidget(self.model)
        self.column.addWidget(box("Learn from", self.table))
        self.form_box = box("How thoroughly", self.form)
        self.column.addWidget(self.form_box)
        self.column.addWidget(box("Fine-tune", self.run, self.verdict))
        self.column.addStretch(1)
        self.controller.model_changed.connect(self._on_model)
        self.finetuning.run_changed.connect(self._on_run)
        self._show_model()
        self._on_run()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """The session ends with the window; times are measured once a model is loaded."""
        super().showEvent(event)
        self.controller.attach(self)
        self.finetuning.measure()

    def leave(self) -> None:
        """Without any panel, keys do nothing."""
        self.controller.panel_left(self)

    def hideEvent(self, event: QHideEvent | None) -> None:  # noqa: N802 - Qt's name
        """A dock that is closed takes its panel away without telling it; a run may be going on."""
        super().hideEvent(event)
        self.finetuning.leaving.look_after(self)

    def _on_model(self) -> None:
        self._show_model()
        self.finetuning.measure()

    def _show_model(self) -> None:
        model = self.controller.session.model
        if model is None:
            self.model.say("No model is loaded yet: the bundled one is when you start.")
        else:
            size = model.predictor.input_size
            self.model.say(f"Model: {model.name}, input {size} by {size} pixels, on {model.device.type}.")

    def _on_run(self) -> None:
        self.form_box.setEnabled(not self.finetuning.is_running)

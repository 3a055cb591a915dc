"""Starting, watching and ending a fine-tuning run."""

from __future__ import annotations

import psutil
from qtpy.QtWidgets import QFormLayout, QLineEdit, QProgressBar, QVBoxLayout, QWidget

from napari_sam_lora._qt.finetuning.controller import FinetuningController
from napari_sam_lora._qt.finetuning.curve import CurveView
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import Notice, action, duration, row
from napari_sam_lora.session import TrainingEvent
from napari_sam_lora.text import pluralize

STATES = {
    "preparing": "Preparing",
    "running": "Learning",
    "paused": "Paused",
    "stopping": "Comparing with the base model",
}


class RunBox(QWidget):
    """A start button; while a run goes on, its course and what can be done with it.

    Parameters
    ----------
    controller : Controller
    finetuning : FinetuningController
    """

    def __init__(self, controller: Controller, finetuning: FinetuningController) -> None:
        super().__init__()
        self._controller, self._finetuning = controller, finetuning
        self._process = psutil.Process()
        self._wants_start = False
        self.name = QLineEdit()
        self.name.setPlaceholderText("Name of the adapter")
        self.name.setToolTip("The adapter is kept under this name; a number is added if it is taken.")
        self.start = action("Fine-tune", "Learn from the ticked labels, in the background.", self._start)
        self.curve = CurveView()
        self.bar = QProgressBar()
        self.state = Notice()
        self.pause = action("Pause", "Wait after the present step; press again to go on.", self._pause)
        self.stop = action(
            "Stop, keep best", "End after the present step, and check what was learned so far.", self._stop
        )
        self.discard = action("Discard", "End after the present step and forget what was learned.", self._discard)
        self._buttons = row(self.pause, self.stop, self.discard)
        form = QFormLayout()
        form.addRow("Name", self.name)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._setup = QWidget()
        self._setup.setLayout(form)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow(self.start)
        for widget in (self._setup, self.curve, self.bar, self.state, self._buttons):
            layout.addWidget(widget)
        finetuning.run_changed.connect(self.refresh)
        finetuning.set_changed.connect(self.refresh)
        controller.model_changed.connect(self._on_model)
        controller.failed.connect(self._on_failed)
        self.refresh()

    def refresh(self) -> None:
        """Show the run as it is now."""
        finetuning, event = self._finetuning, self._finetuning.latest
        running = finetuning.is_running
        objects = sum(pair.objects for pair in finetuning.included())
        self._setup.setVisible(not running)
        self.start.setText(f"Fine-tune on {pluralize(objects, 'object')}" if objects else "Fine-tune")
        self.start.setEnabled(bool(objects) and not self._wants_start)
        if not self.name.isModified():
            self.name.setText(self._suggestion())
        self.curve.setVisible(running or bool(finetuning.curve.losses))
        for widget in (self.bar, self._buttons):
            widget.setVisible(running)
        if running and event is not None:
            self._show_run(event)
        elif event is not None:
            self.state.say("" if event.state == "ended" else event.message)
        self.curve.show_curve(finetuning.curve)

    def _show_run(self, event: TrainingEvent) -> None:
        step = event.step
        waits = event.state == "stopping" or (event.state == "preparing" and step is None)
        self.bar.setRange(0, 0 if waits or step is None else step.steps)
        if step is not None and not waits:
            self.bar.setValue(step.step)
        said = [STATES.get(event.state, event.message)]
        if step is not None:
            if step.phase != "train":
                said.append(step.phase)
            said += [f"step {step.step} of {step.steps}", f"{pluralize(step.objects_seen, 'object')} seen"]
            if event.state == "running":
                said.append(f"{duration(step.seconds_left)} left")
        said.append(f"{self._process.memory_info().rss / 2**30:.1f} GiB of memory in use")
        self.state.say(", ".join(said) + ".")
        self.pause.setText("Go on" if event.state == "paused" else "Pause")
        self.pause.setEnabled(event.state in ("running", "paused"))
        self.stop.setEnabled(event.state in ("running", "paused"))
        self.discard.setEnabled(True)

    def _suggestion(self) -> str:
        included = self._finetuning.included()
        return included[0].image_name if included else ""

    def _start(self) -> None:
        if self._controller.session.model is None:
            self._wants_start = True
            self.state.say("Loading the model…")
            self.start.setEnabled(False)
            self._controller.ensure_model()
        else:
            self._finetuning.start(self.name.text())
            self.name.setModified(False)

    def _on_model(self) -> None:
        if self._wants_start:
            self._wants_start = False
            self._start()

    def _on_failed(self, words: str) -> None:
        if self._wants_start:
            self._wants_start = False
            self.state.say(words)
            self.refresh()

    def _pause(self) -> None:
        training, event = self._controller.session.training, self._finetuning.latest
        if training is not None and event is not None:
            (training.resume if event.state == "paused" else training.pause)()

    def _stop(self) -> None:
        self._controller.session.stop()
        self.stop.setEnabled(False)

    def _discard(self) -> None:
        self._controller.session.discard()
        self.discard.setEnabled(False)

"""Start, progress and end of a fine-tuning run."""

from __future__ import annotations

import psutil
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QFormLayout, QLineEdit, QVBoxLayout, QWidget

from napari_sam_lora._qt.finetuning.controller import FinetuningController
from napari_sam_lora._qt.finetuning.curve import CurveView
from napari_sam_lora._qt.viewer.close_guards import KEEP_BEST
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.progress import format_duration
from napari_sam_lora._qt.widgets.controls import Notice, button
from napari_sam_lora._qt.widgets.layout import row
from napari_sam_lora._qt.widgets.work_bar import WorkBar
from napari_sam_lora.session import TrainingEvent
from napari_sam_lora.text import pluralize

STATES = {
    "preparing": "Preparing",
    "running": "Learning",
    "paused": "Paused",
    "stopping": "Comparing with the base model",
}


class RunBox(QWidget):
    """Start button; during a run its curves and progress, and buttons to pause, stop or discard it.

    Parameters
    ----------
    controller : Controller
    finetuning_controller : FinetuningController
    """

    def __init__(self, controller: Controller, finetuning_controller: FinetuningController) -> None:
        super().__init__()
        self._controller, self._finetuning_controller = controller, finetuning_controller
        self._process = psutil.Process()
        self._is_waiting = False  # for a model
        self.name = QLineEdit()
        self.name.setPlaceholderText("Name of the adapter")
        self.name.setToolTip("The adapter is kept under this name; a number is added if the name is in use.")
        self.start = button("Fine-tune", "Learn from the ticked labels, in the background.", self._start)
        self.counts = Notice()
        self.curve = CurveView()
        self.bar = WorkBar()
        self.state = Notice()
        self.pause = button("Pause", "Wait after the current step; press again to go on.", self._pause)
        self.stop = button(
            KEEP_BEST,
            "End after the current step, and compare what was learned so far with the base model.",
            self._stop,
        )
        self.discard = button("Discard", "End after the current step and drop what was learned.", self._discard)
        self._buttons = row(self.pause, self.stop, self.discard)
        form = QFormLayout()
        form.addRow("Name", self.name)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._setup = QWidget()
        self._setup.setLayout(form)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow(self.start)
        form.addRow(self.counts)
        for widget in (self._setup, self.curve, self.bar, self.state, self._buttons):
            layout.addWidget(widget)
        finetuning_controller.run_changed.connect(self.refresh)
        finetuning_controller.set_changed.connect(self.refresh)
        finetuning_controller.counted.connect(self.refresh)
        for signal in (finetuning_controller.set_changed, finetuning_controller.settings_changed):
            signal.connect(self._count)
        finetuning_controller.run_changed.connect(self._count_again)
        self.refresh()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """Count the objects of the training set."""
        super().showEvent(event)
        self._finetuning_controller.count()

    def _count(self) -> None:
        if self.isVisible():
            self._finetuning_controller.count()

    def refresh(self) -> None:
        """Show the state of the run."""
        finetuning_controller, event = self._finetuning_controller, self._finetuning_controller.latest
        running = finetuning_controller.is_running
        objects, counts = sum(pair.objects for pair in finetuning_controller.included()), finetuning_controller.counts
        self._setup.setVisible(not running)
        self.start.setText(f"Fine-tune on {pluralize(counts.learned, 'object')}" if counts else "Fine-tune")
        self.counts.say("" if running or not objects else f"{counts or pluralize(objects, 'object')}.")
        self.start.setEnabled(bool(objects) and not self._is_waiting)
        if not self.name.isModified():
            self.name.setText(self._suggested_name())
        self.curve.setVisible(running or bool(finetuning_controller.curve.losses))
        for widget in (self.bar, self._buttons):
            widget.setVisible(running)
        if running and event is not None:
            self._show_run(event)
        elif event is not None:
            self.state.say("" if event.state == "ended" else event.message)
        self.curve.show_curve(finetuning_controller.curve)

    def _count_again(self) -> None:
        """Count once a run has ended: what it held out stays so."""
        event = self._finetuning_controller.latest
        if event is not None and event.is_final and self._finetuning_controller.counts is None:
            self._count()

    def _show_run(self, event: TrainingEvent) -> None:
        step = event.step
        is_waiting = event.state == "stopping" or (event.state == "preparing" and step is None)
        self.bar.setRange(0, 0 if is_waiting or step is None else step.steps)
        if step is not None and not is_waiting:
            self.bar.setValue(step.step)
        status = [STATES.get(event.state, event.message)]
        if step is not None:
            if step.phase != "train":
                status.append(step.phase)
            status += [f"step {step.step} of {step.steps}", f"{pluralize(step.objects_seen, 'object')} seen"]
            if event.state == "running":
                status.append(f"{format_duration(step.seconds_left)} left")
        status.append(f"{self._process.memory_info().rss / 2**30:.1f} GiB of memory used")
        self.state.say(", ".join(status) + ".")
        self.pause.setText("Go on" if event.state == "paused" else "Pause")
        self.pause.setEnabled(event.state in ("running", "paused"))
        self.stop.setEnabled(event.state in ("running", "paused"))
        self.discard.setEnabled(True)

    def _suggested_name(self) -> str:
        included = self._finetuning_controller.included()
        return included[0].image_name if included else ""

    def _start(self) -> None:
        self._is_waiting = True
        self.state.say("Loading the model…")
        self.start.setEnabled(False)
        self._controller.with_model(self._start_run, self, self._on_not_loaded)

    def _start_run(self) -> None:
        self._is_waiting = False
        self.state.say("")
        self._finetuning_controller.start(self.name.text())
        self.name.setModified(False)

    def _on_not_loaded(self, message: str) -> None:
        self._is_waiting = False
        self.refresh()
        self.state.say(message)

    def _pause(self) -> None:
        training, event = self._controller.session.training.job, self._finetuning_controller.latest
        if training is not None and event is not None:
            (training.resume if event.state == "paused" else training.pause)()

    def _stop(self) -> None:
        self._controller.session.training.stop()
        self.stop.setEnabled(False)

    def _discard(self) -> None:
        self._controller.session.training.discard()
        self.discard.setEnabled(False)

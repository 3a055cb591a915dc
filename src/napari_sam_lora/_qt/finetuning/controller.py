"""What fine-tuning needs to know beyond a panel, which may be closed and opened again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import QTimer, Signal

from napari_sam_lora._qt.finetuning.curve import RunCurve
from napari_sam_lora._qt.finetuning.estimates import Speed, estimate_seconds, measure_speed
from napari_sam_lora._qt.finetuning.presets import PRESETS
from napari_sam_lora._qt.finetuning.training_set import TrainingPair, find_pairs
from napari_sam_lora._qt.viewer.background_jobs import Background
from napari_sam_lora._qt.viewer.close_guards import ClosedPanelGuard
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.progress import activity_bar
from napari_sam_lora.session import AdapterEntry, TrainingEvent, TrainingPlane

if TYPE_CHECKING:
    from napari_sam_lora.training.config import TrainConfig

T = TypeVar("T")

COUNT_AFTER_MS = 400  # the training set is counted when painting has paused for so long
SHOW_EVERY_MS = 250


def finetuning_controller_of(controller: Controller) -> FinetuningController:
    """Return the viewer's controller of this panel, made on first use; it lives as long as its parent."""
    found = controller.findChild(FinetuningController)
    return found if isinstance(found, FinetuningController) else FinetuningController(controller)


class FinetuningController(Background):
    """The training set that was chosen, the settings, and the course of the run.

    Signals
    -------
    set_changed : ()
        Pairs, their objects, or which of them are included.
    settings_changed : ()
        The effort, `values` or the speed of the model.
    run_changed : ()
        Of the run, a few times a second at most, and at once when its state changes.

    Attributes
    ----------
    values : dict
        Settings of `TrainConfig` that differ from its defaults.
    preset : str
        Which of `PRESETS` they are; empty for settings of the user's own.
    resume_settings : str
        Name of the adapter to go on from; empty for the base model.
    only_checked : bool
        Whether only objects that were painted or approved are learned from; see `choose_checked`.
    curve : RunCurve
    latest : TrainingEvent or None
        The last event of the run.
    planes : tuple of TrainingPlane
        What the run is, or was, trained on.
    speed : Speed or None
        Of the loaded model on this machine, once measured.
    pace : float
        How much longer the last complete run took than was estimated.
    """

    set_changed = Signal()
    settings_changed = Signal()
    run_changed = Signal()

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._images: dict[str, str] = {}
        self._reads_adapters = False
        self._excluded: set[str] = set()
        self._pairs: list[TrainingPair] | None = None
        self.preset = "standard"
        self.values: dict[str, Any] = dict(PRESETS["standard"].values)
        self.curve = RunCurve()
        training = controller.session.training
        self.latest: TrainingEvent | None = None if training is None else training.event
        self.planes: tuple[TrainingPlane, ...] = ()
        self.speed: Speed | None = None
        self.pace = 1.0
        self._config: TrainConfig | None = None
        self.resume_settings, self.only_checked = "", False
        self._bar: Any = None
        self._counting, self._showing = self._timer(COUNT_AFTER_MS), self._timer(SHOW_EVERY_MS)
        self._counting.timeout.connect(self._count)
        self._showing.timeout.connect(self._show)
        for signal in (controller.images_changed, controller.labels_changed):
            signal.connect(self._count_soon)
        controller.objects_changed.connect(self._count_soon)
        controller.model_changed.connect(self._on_model)
        controller.training_changed.connect(self._on_training)
        controller.closed.connect(self.close)
        self.leaving = ClosedPanelGuard(self, lambda: self.is_running, controller.session)

    # Training set

    def pairs(self) -> list[TrainingPair]:
        """Labels with their images, counted lately; those without an image too."""
        if self._pairs is None:
            self._pairs = find_pairs(self._controller, self._images, self.only_checked)
        return self._pairs

    def is_included(self, pair: TrainingPair) -> bool:
        """Whether a pair is trained on."""
        return bool(pair.image) and pair.labels not in self._excluded

    def included(self) -> list[TrainingPair]:
        """The pairs that are trained on."""
        return [pair for pair in self.pairs() if self.is_included(pair)]

    def include(self, labels: str, included: bool) -> None:
        """Train on these labels, or not."""
        (self._excluded.discard if included else self._excluded.add)(labels)
        self.set_changed.emit()

    def choose_image(self, labels: str, image: str) -> None:
        """These labels belong to this image."""
        self._images[labels] = image
        self._count()

    def choose_checked(self, only_checked: bool) -> None:
        """Learn only from objects that were painted, corrected or approved, or from all."""
        self.only_checked = only_checked
        self._count()

    def snapshot(self) -> tuple[TrainingPlane, ...]:
        """Copies of what would be trained on now."""
        self._controller.flush()
        include = [(pair.image, pair.labels) for pair in self.included()]
        return self._controller.session.training_planes(include, self.only_checked)

    def mark_complete(self, labels: str, complete: bool) -> None:
        """All labelled planes of these labels are complete, or not."""
        known = self._controller.session.labels.get(labels)
        if known is not None:
            for plane in known.labelled_planes():
                known.mark_complete(plane, complete)
            self._count()

    def adapters(self) -> tuple[AdapterEntry, ...]:
        """The adapters; none while the folder is being read, after which ``adapters_changed`` follows."""
        library = self._controller.session.adapters
        if library.is_read:
            return library.entries()
        if not self._reads_adapters:
            self._reads_adapters = True
            report_errors = self._controller.adapters_changed
            self.in_background("library", lambda token: library.entries(), lambda _: report_errors.emit(), self)
        return ()

    # Settings

    def choose_preset(self, name: str) -> None:
        """Take the settings of an effort; what labels mean stays."""
        self.preset = name
        kept = {key: value for key, value in self.values.items() if key == "labels"}
        self.values = dict(PRESETS[name].values) | kept
        self.settings_changed.emit()

    def set_values(self, values: dict[str, Any]) -> None:
        """Take settings of the user's own; those of an effort are recognised."""
        self.values = values
        bare = {key: value for key, value in values.items() if key != "labels"}
        self.preset = next((name for name, preset in PRESETS.items() if preset.values == bare), "")
        self.settings_changed.emit()

    def config(self) -> TrainConfig:
        """The settings of the next run; raises an InputError if they make no sense."""
        from napari_sam_lora.training.config import TrainConfig  # noqa: PLC0415  torch is imported when it is needed

        return TrainConfig.from_dict(self.values)

    # The run

    @property
    def is_running(self) -> bool:
        """Whether a run is going on."""
        return self.latest is not None and not self.latest.is_final

    def start(self, name: str) -> None:
        """Start a run under a name; the model must be loaded. The user is told if that is not possible."""
        with self._controller.report_errors():
            self._controller.flush()
            self._count()
            config, include = self.config(), [(pair.image, pair.labels) for pair in self.included()]
            job = self._controller.session.start_training(
                config, include, free_name(name), self.resume_settings, self.only_checked
            )
            self.curve, self.planes, self._config = RunCurve(steps=config.steps), job.planes, config
            self._on_training(job.event)

    @property
    def meaning(self) -> str:
        """What labels meant in the run."""
        return "instances" if self._config is None else self._config.labels

    def close(self) -> None:
        """End all work of the desk; what runs ends by itself soon."""
        for timer in (self._counting, self._showing):
            timer.stop()
        self.leaving.forget()
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()
        self.end_background()

    def measure(self) -> None:
        """Measure the speed of the loaded model, unless it is known or a run goes on; `settings_changed` follows."""
        model = self._controller.session.model
        if model is not None and self.speed is None and not self.is_running:
            self.in_background("speed", lambda token: (model, measure_speed(token, model)), self._measured, self)

    def _measured(self, found: tuple[Any, Speed]) -> None:
        if found[0] is self._controller.session.model:
            self.speed = found[1]
            self.settings_changed.emit()

    def _on_model(self) -> None:
        self.speed, self.pace = None, 1.0
        self.settings_changed.emit()

    def _timer(self, milliseconds: int) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        return timer

    def _count_soon(self, *_: object) -> None:
        self._counting.start()

    def _count(self) -> None:
        self._counting.stop()
        self._pairs = None
        self.set_changed.emit()

    def _on_training(self, event: TrainingEvent) -> None:
        before, self.latest = self.latest, event
        self.curve.add(event)
        if before is None or before.state != event.state:
            self._showing.stop()
            self._show()
            self._report(event)
        elif not self._showing.isActive():
            self._showing.start()

    def _learn_pace(self, event: TrainingEvent) -> None:
        step, report, config = event.step, event.report, self._config
        if report is None or step is None or config is None or self.speed is None or step.step < config.steps:
            return
        objects = sum(len(np.unique(plane.labels)) - 1 for plane in self.planes)
        images = len({plane.plane.image for plane in self.planes})
        expected = estimate_seconds(config, self.speed, len(self.planes), objects, images)
        self.pace = report.seconds / expected if step.step == step.steps else self.pace
        self.settings_changed.emit()

    def _show(self) -> None:
        event = self.latest
        if event is not None and event.step is not None and not event.is_final:
            if self._bar is None:
                self._bar = activity_bar(event.step.steps, "Fine-tuning")
            self._bar.update(event.step.step - self._bar.n)
        elif self._bar is not None:
            bar, self._bar = self._bar, None  # napari processes events when a bar changes
            bar.close()
        self.run_changed.emit()

    def _report(self, event: TrainingEvent) -> None:
        """The end of a run is news also where the panel is closed."""
        self._learn_pace(event)
        if event.state == "failed":
            show_error(f"Fine-tuning ended: {event.message}")
        elif event.state == "ended" and event.report is not None:
            if event.activated:
                show_info(f"The adapter “{event.adapter}” is better than the model without it, and is in use now.")
            else:
                show_warning(f"The adapter “{event.adapter}” is kept but not in use. {event.message}")


def free_name(text: str) -> str:
    """A name that an adapter can have, made of what was typed; a number is added later if it is taken."""
    return re.sub(r"[^\w .()+-]", "_", text).strip(" .")[:70].lstrip("-+()") or "adapter"

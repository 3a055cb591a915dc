"""State of fine-tuning in one viewer: it outlives the panel, which may be closed and opened again."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import QTimer, Signal

from napari_sam_lora._qt.finetuning.curve import RunCurve
from napari_sam_lora._qt.finetuning.estimates import Speed, estimate_seconds, measure_speed
from napari_sam_lora._qt.finetuning.presets import PRESETS
from napari_sam_lora._qt.finetuning.training_set import TrainingPair, find_pairs
from napari_sam_lora._qt.viewer.background_jobs import BackgroundJobs
from napari_sam_lora._qt.viewer.close_guards import ClosedPanelGuard
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.progress import activity_bar
from napari_sam_lora.errors import SamLoraError
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.session import AdapterEntry, CancelToken, TrainingEvent, TrainingPlane

if TYPE_CHECKING:
    from napari_sam_lora.training.data.counts import ObjectCounts

COUNT_AFTER_MS = 400  # the training set is counted again once painting has paused for so long
SHOW_EVERY_MS = 250
MOST_COUNTED = 64_000_000  # pixels of labelled planes, which are copied


def finetuning_controller_of(controller: Controller) -> FinetuningController:
    """Return the fine-tuning controller of a viewer's controller; made on first use, it lives as long as its parent."""
    found = controller.findChild(FinetuningController)
    return found if isinstance(found, FinetuningController) else FinetuningController(controller)


class FinetuningController(BackgroundJobs):
    """Training set, settings and progress of a run.

    Signals
    -------
    set_changed : ()
        The pairs, their objects, or which of them are included, have changed.
    settings_changed : ()
        The preset, `values` or the measured speed have changed.
    counted : ()
        `counts` has changed.
    run_changed : ()
        The run has progressed (emitted a few times a second at most), or its state has changed (emitted at once).

    Parameters
    ----------
    controller : Controller

    Attributes
    ----------
    values : dict
        Settings of `TrainConfig` that differ from its defaults.
    preset : str
        Name in `PRESETS` of the preset with these values; empty if the user chose other ones.
    resume_from : str
        Name of the adapter that training goes on from; empty to start from the base model.
    only_checked : bool
        Whether to learn only from objects that were painted, corrected or approved; set by `choose_checked`.
    curve : RunCurve
        Losses and held-out IoU of the last run.
    latest : TrainingEvent or None
        The last event of the run.
    planes : tuple of TrainingPlane
        Training planes of the last run.
    speed : Speed or None
        Speed of the loaded model on this machine, once measured.
    pace : float
        Measured time of the last complete run, divided by the estimated one.
    counts : ObjectCounts or None
        What a run would learn, hold out and leave out; None if it is not counted, see `count`.
    close_guard : ClosedPanelGuard
        Asks what becomes of a run whose panel was closed.
    """

    set_changed = Signal()
    settings_changed = Signal()
    run_changed = Signal()
    counted = Signal()

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._images: dict[str, str] = {}
        self._is_reading_adapters = False
        self._excluded: set[str] = set()
        self._pairs: list[TrainingPair] | None = None
        self.preset = "standard"
        self.values: dict[str, Any] = dict(PRESETS["standard"].values)
        self.curve = RunCurve()
        training = controller.session.training.job
        self.latest: TrainingEvent | None = None if training is None else training.event
        self.planes: tuple[TrainingPlane, ...] = ()
        self.speed: Speed | None = None
        self.pace = 1.0
        self._config: TrainConfig | None = None
        self.resume_from, self.only_checked = "", False
        self.counts: ObjectCounts | None = None
        self._bar: Any = None
        self._count_timer, self._show_timer = self._single_shot(COUNT_AFTER_MS), self._single_shot(SHOW_EVERY_MS)
        self._count_timer.timeout.connect(self._recount)
        self._show_timer.timeout.connect(self._show_progress)
        for signal in (controller.layers.images_changed, controller.layers.labels_changed):
            signal.connect(self._recount_soon)
        controller.layers.objects_changed.connect(self._recount_soon)
        controller.events.model_changed.connect(self._on_model)
        controller.events.training_changed.connect(self._on_training)
        controller.closed.connect(self.close)
        self.close_guard = ClosedPanelGuard(self, lambda: self.is_running, controller.session)

    # Training set

    def pairs(self) -> list[TrainingPair]:
        """Return the labels layers with their images, as last counted; also those without an image."""
        if self._pairs is None:
            self._pairs = find_pairs(self._controller, self._images, self.only_checked)
        return self._pairs

    def is_included(self, pair: TrainingPair) -> bool:
        """Return whether a pair is trained on."""
        return bool(pair.image) and pair.labels not in self._excluded

    def included(self) -> list[TrainingPair]:
        """Return the pairs that are trained on."""
        return [pair for pair in self.pairs() if self.is_included(pair)]

    def include(self, labels: str, included: bool) -> None:
        """Include labels in the training set, or leave them out."""
        (self._excluded.discard if included else self._excluded.add)(labels)
        self.set_changed.emit()

    def choose_image(self, labels: str, image: str) -> None:
        """Set the image that labels belong to."""
        self._images[labels] = image
        self._recount()

    def choose_checked(self, only_checked: bool) -> None:
        """Choose whether to learn only from objects that were painted, corrected or approved, or from all."""
        self.only_checked = only_checked
        self._recount()

    def snapshot(self) -> tuple[TrainingPlane, ...]:
        """Copy the planes that would be trained on now."""
        self._controller.layers.flush()
        include = [(pair.image, pair.labels) for pair in self.included()]
        return self._controller.session.training.planes(include, self.only_checked)

    def count(self) -> None:
        """Count in the background what a run would learn; emits `counted`. Needs a model; not during a run.

        Larger training sets than `MOST_COUNTED` are counted only by their run, since all their planes are read.
        """
        session, included = self._controller.session, self.included()
        self.cancel("count")
        self._set_counts(None)
        pixels = sum(pair.planes * math.prod(session.labels[pair.labels].store.shape[-2:]) for pair in included)
        if session.models.model is None or self.is_running or not 0 < pixels <= MOST_COUNTED:
            return
        with suppress(SamLoraError):  # said when the run is started
            include = [(pair.image, pair.labels) for pair in included]
            counter = session.training.counter(self.config(), include, self.resume_from, self.only_checked)
            self.in_background("count", partial(_count, counter=counter), self._set_counts, self)

    def _set_counts(self, counts: ObjectCounts | None) -> None:
        self.counts = counts
        self.counted.emit()

    def mark_complete(self, labels: str, complete: bool) -> None:
        """Mark all labelled planes of a label image as complete, or as not complete."""
        label_set = self._controller.session.labels.get(labels)
        if label_set is not None:
            for plane in label_set.labelled_planes():
                label_set.mark_complete(plane, complete)
            self._recount()

    def adapters(self) -> tuple[AdapterEntry, ...]:
        """Return the adapters; none while their folder is being read, after which ``adapters_changed`` is emitted."""
        library = self._controller.session.models.adapters
        if library.is_read:
            return library.entries()
        if not self._is_reading_adapters:
            self._is_reading_adapters = True
            changed = self._controller.events.adapters_changed
            self.in_background("library", lambda token: library.entries(), lambda _: changed.emit(), self)
        return ()

    # Settings

    def choose_preset(self, name: str) -> None:
        """Use the settings of a preset; the meaning of the labels stays as it was chosen."""
        self.preset = name
        meaning = {key: value for key, value in self.values.items() if key == "labels"}
        self.values = dict(PRESETS[name].values) | meaning
        self.settings_changed.emit()

    def set_values(self, values: dict[str, Any]) -> None:
        """Use these settings; `preset` is set if they are those of one."""
        self.values = values
        without_meaning = {key: value for key, value in values.items() if key != "labels"}
        self.preset = next((name for name, preset in PRESETS.items() if preset.values == without_meaning), "")
        self.settings_changed.emit()

    def config(self) -> TrainConfig:
        """Return the settings of the next run.

        Raises
        ------
        InputError
            If a setting cannot be used.
        """
        return TrainConfig.from_dict(self.values)

    # The run

    @property
    def is_running(self) -> bool:
        """Return whether a run has started and not ended."""
        return self.latest is not None and not self.latest.is_final

    def start(self, name: str) -> None:
        """Start a run whose adapter gets this name; the model must be loaded. Errors are shown to the user."""
        with self._controller.report_errors():
            self._controller.layers.flush()
            self._recount()
            self.cancel("count")  # the run counts them, too
            config, include = self.config(), [(pair.image, pair.labels) for pair in self.included()]
            job = self._controller.session.training.start(
                config, include, valid_name(name), self.resume_from, self.only_checked
            )
            self.curve, self.planes, self._config = RunCurve(steps=config.steps), job.planes, config
            self._on_training(job.event)

    @property
    def meaning(self) -> str:
        """Meaning of the labels in the last run, see `TrainConfig.labels`."""
        return "instances" if self._config is None else self._config.labels

    def close(self) -> None:
        """Stop timers and background work; a job that is running ends by itself soon."""
        for timer in (self._count_timer, self._show_timer):
            timer.stop()
        self.close_guard.forget()
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()
        self.end_background()

    def measure(self) -> None:
        """Measure the speed of the loaded model, unless it is known or a run is going on; emits `settings_changed`."""
        model = self._controller.session.models.model
        if model is not None and self.speed is None and not self.is_running:
            self.in_background("speed", lambda token: (model, measure_speed(token, model)), self._on_measured, self)

    def _on_measured(self, result: tuple[Any, Speed]) -> None:
        model, speed = result
        if model is self._controller.session.models.model:
            self.speed = speed
            self.settings_changed.emit()

    def _on_model(self) -> None:
        self.speed, self.pace = None, 1.0
        self.settings_changed.emit()

    def _single_shot(self, milliseconds: int) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        return timer

    def _recount_soon(self, *_: object) -> None:
        self._count_timer.start()

    def _recount(self) -> None:
        self._count_timer.stop()
        self._pairs = None
        self.set_changed.emit()

    def _on_training(self, event: TrainingEvent) -> None:
        previous, self.latest = self.latest, event
        self.curve.add(event)
        if previous is None or previous.state != event.state:
            self._show_timer.stop()
            self._show_progress()
            self._notify(event)
        elif not self._show_timer.isActive():
            self._show_timer.start()

    def _update_pace(self, event: TrainingEvent) -> None:
        step, report, config = event.step, event.report, self._config
        if report is None or step is None or config is None or self.speed is None or step.step < config.steps:
            return
        objects = sum(len(np.unique(plane.labels)) - 1 for plane in self.planes)
        images = len({plane.plane.image for plane in self.planes})
        expected = estimate_seconds(config, self.speed, len(self.planes), objects, images)
        self.pace = report.seconds / expected if step.step == step.steps else self.pace
        self.settings_changed.emit()

    def _show_progress(self) -> None:
        event = self.latest
        if event is not None and event.step is not None and not event.is_final:
            if self._bar is None:
                self._bar = activity_bar(event.step.steps, "Fine-tuning")
            self._bar.update(event.step.step - self._bar.n)
        elif self._bar is not None:
            bar, self._bar = self._bar, None  # napari processes events when a bar changes
            bar.close()
        self.run_changed.emit()

    def _notify(self, event: TrainingEvent) -> None:
        """Show a notification when a run ends, also if the panel is closed."""
        self._update_pace(event)
        if event.state == "failed":
            show_error(f"Fine-tuning failed: {event.message}")
        elif event.state == "ended" and event.report is not None:
            if event.activated:
                show_info(f"The adapter “{event.adapter}” is better than the base model and is in use now.")
            elif event.report.verdict == "better":
                show_info(f"The adapter “{event.adapter}” is kept but not in use yet. {event.message}")
            else:
                show_warning(f"The adapter “{event.adapter}” is kept but not in use. {event.message}")


def _count(token: CancelToken, counter: Callable[[], ObjectCounts]) -> ObjectCounts | None:
    with suppress(SamLoraError):  # nothing is large enough, for example
        return counter()
    return None


def valid_name(text: str) -> str:
    """Turn typed text into a valid adapter name; the library adds a number if the name is in use."""
    return re.sub(r"[^\w .()+-]", "_", text).strip(" .")[:70].lstrip("-+()") or "adapter"

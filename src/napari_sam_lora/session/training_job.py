"""Fine-tuning in a thread of its own, on a snapshot of the labels."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from psygnal import Signal

from napari_sam_lora.errors import TrainingError
from napari_sam_lora.images import StackPosition
from napari_sam_lora.io.tables.classes import ObjectClasses
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.session.jobs.openmp import release_pools
from napari_sam_lora.session.jobs.user_messages import user_message
from napari_sam_lora.session.jobs.worker import TorchThread, emit_safely
from napari_sam_lora.session.labels.records import StoredPrompts
from napari_sam_lora.session.labels.stores import Pixels
from napari_sam_lora.session.plane_key import ImageSource, PlaneKey
from napari_sam_lora.session.prompting.draft import combine

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.lora.adapter import Adapter
    from napari_sam_lora.training.data.samples import TrainingPair
    from napari_sam_lora.training.run import FineTuneReport, StepReport

TrainingState = Literal["preparing", "running", "paused", "stopping", "ended", "discarded", "failed"]


@dataclass(frozen=True, eq=False)
class TrainingPlane:
    """Labelled plane of a training set; labels and prompts are copies.

    Attributes
    ----------
    plane : PlaneKey
    source : ImageSource
        Source of the pixels, which are read in the training thread when the run begins.
    labels : int (y, x)
    prompts : dict of int to tuple of StoredPrompts
        The user's prompts of each object of the plane; objects without prompts are left out.
    complete : bool
        Whether the plane was marked as complete and none of its objects is left out: its unlabelled pixels are
        background, from which the dense head learns; `evaluate_everything` is for complete planes only.
    classes : ObjectClasses
        Classes of its objects, and their names. The same class has the same id in all planes.
    """

    plane: PlaneKey
    source: ImageSource
    labels: Pixels
    prompts: dict[int, tuple[StoredPrompts, ...]]
    complete: bool
    classes: ObjectClasses = field(default_factory=ObjectClasses)

    @property
    def position(self) -> StackPosition | None:
        """Position in the stack; None for a single plane. All label images of an image share its stack."""
        key = self.plane
        return StackPosition(key.image, key.index, key.axes) if key.index else None


@dataclass(frozen=True)
class TrainingEvent:
    """State of a training run at one moment.

    Attributes
    ----------
    state : str
        "preparing", "running", "paused", "stopping", and at the end "ended", "discarded" or "failed".
    message : str
        One sentence for a person.
    step : StepReport or None
        Last step.
    report : FineTuneReport or None
        Report of the run, if it has "ended".
    adapter : str
        Name of the adapter in the library, if the run has "ended".
    activated : bool
        Whether the adapter was activated, if the run has "ended"; see `FineTuneReport.use_at_once`.
    """

    state: TrainingState
    message: str
    step: StepReport | None = None
    report: FineTuneReport | None = None
    adapter: str = ""
    activated: bool = False

    @property
    def is_final(self) -> bool:
        """Return whether the run is over."""
        return self.state in ("ended", "discarded", "failed")


class TrainingJob:
    """Training run in a thread of its own. All methods except `wait` return at once and may be called from any thread.

    Events (emitted from the training thread)
    -----------------------------------------
    changed : (TrainingEvent)
        After every step and at every change of state; limit the rate if you draw it. Exactly one event is final, the
        last.

    Made by `Training.start`, which starts it.

    Parameters
    ----------
    model : Model
        Model to fine-tune; it is not changed.
    planes : sequence of TrainingPlane
    config : TrainConfig, optional
    held_out : sequence of str
        Units that earlier runs held out.
    keep : callable
        Called in the training thread with the adapter and its report; stores the adapter and returns its name and
        whether it was activated.
    thread : TorchThread
        Thread in which it runs.
    start : Adapter, optional
        Adapter from which training continues; by default it starts from the base model.
    unchecked : int
        Number of objects that are left out of the planes because nobody has checked them, for the report.
    """

    changed = Signal(object)

    def __init__(
        self,
        model: Model,
        planes: Sequence[TrainingPlane],
        config: TrainConfig | None,
        held_out: Sequence[str],
        keep: Callable[[Adapter, FineTuneReport], tuple[str, bool]],
        thread: TorchThread,
        start: Adapter | None = None,
        unchecked: int = 0,
    ) -> None:
        self._model, self._planes, self._config = model, tuple(planes), config
        self._held_out, self._keep, self._thread = tuple(held_out), keep, thread
        self._start, self._unchecked = start, unchecked
        self._requested = threading.Condition()
        self._paused = self._stopped = self._discarded = False
        self._event = TrainingEvent("preparing", "Reading the images and encoding them.")
        self._future: Future[None] | None = None

    def start(self) -> None:
        """Start the run; a second call does nothing."""
        if self._future is None:
            self._future = self._thread.submit("training", lambda _: self._run())
            self._future.add_done_callback(self._on_done)

    @property
    def event(self) -> TrainingEvent:
        """Latest event."""
        return self._event

    @property
    def planes(self) -> tuple[TrainingPlane, ...]:
        """Planes of the training set; `ObjectScore.plane` is a position in this tuple."""
        return self._planes

    def pause(self) -> None:
        """Pause after the present step until `resume`."""
        self._request(paused=True)

    def resume(self) -> None:
        """Continue a paused run."""
        self._request(paused=False)

    def stop(self) -> None:
        """End after the present step and keep what was learned; it is evaluated like a complete run."""
        self._request(stopped=True)

    def discard(self) -> None:
        """End after the present step and keep nothing."""
        self._request(discarded=True)

    def wait(self, timeout: float | None = None) -> TrainingEvent:
        """Wait for the end and return the latest event. Do not call it on a GUI thread."""
        if self._future is not None and not self._thread.is_current:
            wait([self._future], timeout)
        return self._event

    def _request(self, paused: bool = False, stopped: bool = False, discarded: bool = False) -> None:
        """Ask the run to pause, to go on, or to end."""
        with self._requested:
            self._paused = paused
            self._stopped |= stopped
            self._discarded |= discarded
            self._requested.notify_all()

    def _on_done(self, future: Future[None]) -> None:
        if future.cancelled():  # the thread was closed before the run began
            self._report("discarded", "The training was discarded; nothing was changed.")

    def _run(self) -> None:
        """Train, and report every way in which a run can end."""
        try:
            self._report("preparing", self._event.message)
            self._train()
        except _DiscardedError:
            self._report("discarded", "The training was discarded; nothing was changed.")
        except Exception as error:  # every run must end with a final event
            self._report("failed", user_message(error))

    def _train(self) -> None:
        from napari_sam_lora.api import iter_fine_tune  # noqa: PLC0415

        config = self._config or TrainConfig()
        run = iter_fine_tune(
            self._model,
            self._pairs(config),
            config,
            held_out=self._held_out,
            start=self._start,
            class_names={number: name for plane in self._planes for number, name in plane.classes.names.items()},
        )
        try:
            step: StepReport | None = None
            for step in run:
                self._report("running", f"Step {step.step} of {step.steps}.", step)
                self._wait_while_paused(step)
                if self._stopped:
                    run.stop()
                    break
            self._check()
            self._report("stopping", "Comparing with the base model on objects that were held out.", step)
            adapter, report = run.result()
            self._check()
        except BaseException:
            run.discard()  # frees memory at once
            raise
        if self._unchecked:
            report = replace(report, counts=replace(report.counts, unchecked=self._unchecked))
            adapter = adapter.with_metrics(report.metrics())
        name, activated = self._keep(adapter, report)
        self._report("ended", report.reason, step, report, name, activated)

    def _pairs(self, config: TrainConfig) -> Iterator[TrainingPair]:
        """Yield the training pair of each plane."""
        for plane in self._planes:
            self._check()
            yield training_pair(plane, config)

    def _wait_while_paused(self, step: StepReport) -> None:
        self._check()
        if self._paused and not self._stopped:
            self._report("paused", f"Paused after step {step.step} of {step.steps}.", step)
            release_pools()  # so that other threads compute at full speed meanwhile
            with self._requested:
                self._requested.wait_for(lambda: not self._paused or self._stopped or self._discarded)
            self._check()
            self._report("running", f"Step {step.step} of {step.steps}.", step)

    def _check(self) -> None:
        """Raise if the run was discarded."""
        if self._discarded:
            raise _DiscardedError(code="discarded")

    def _report(
        self,
        state: TrainingState,
        message: str,
        step: StepReport | None = None,
        report: FineTuneReport | None = None,
        adapter: str = "",
        activated: bool = False,
    ) -> None:
        """Emit a new event, with the last step if there is no newer one."""
        self._event = TrainingEvent(state, message, step or self._event.step, report, adapter, activated)
        emit_safely(self.changed, self._event)


def training_pair(plane: TrainingPlane, config: TrainConfig) -> TrainingPair:
    """Read the pixels of a plane and return it as a run takes it."""
    from napari_sam_lora.training.data.samples import TrainingPair  # noqa: PLC0415

    # Prompts belong to single objects, which the ids of a semantic label image are not.
    prompts = user_prompts(plane) if config.labels == "instances" else {}
    background, classes = plane.complete or None, plane.classes.by_object
    pixels = plane.source.read(plane.plane)
    return TrainingPair(pixels, plane.labels, prompts, plane.position, background, classes)


def user_prompts(plane: TrainingPlane) -> dict[int, Prompts]:
    """Merge the prompts of each object of a plane, over all its commits, into one row of prompts."""
    prompts = {}
    for label in np.intersect1d(plane.labels, list(plane.prompts)):
        row = tuple(item for stored in plane.prompts[int(label)] for item in stored.row)
        combined = combine(row)
        if combined is not None:
            prompts[int(label)] = combined.as_prompts((plane.labels.shape[0], plane.labels.shape[1]))
    return prompts


class _DiscardedError(TrainingError):
    """Ends a run that was discarded."""

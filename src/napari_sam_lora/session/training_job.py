"""Fine-tuning in a thread of its own, on a snapshot of what was labelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_sam_lora.errors import TrainingError
from napari_sam_lora.images import StackPosition
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.session.jobs.openmp import release_pools
from napari_sam_lora.session.jobs.user_messages import user_message
from napari_sam_lora.session.jobs.worker import TorchThread, emit_safely
from napari_sam_lora.session.labels.records import StoredPrompts
from napari_sam_lora.session.plane_key import ImageSource, PlaneKey
from napari_sam_lora.session.prompting.draft import group_rows

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.lora.adapter import Adapter
    from napari_sam_lora.training.config import TrainConfig
    from napari_sam_lora.training.run import FineTuneReport, StepReport

TrainingState = Literal["preparing", "running", "paused", "stopping", "ended", "discarded", "failed"]


@dataclass(frozen=True, eq=False)
class TrainingPlane:
    """A labelled plane of a training set; labels and prompts are copies.

    Attributes
    ----------
    plane : PlaneKey
    source : ImageSource
        Its pixels are read when the run begins, in the training thread.
    labels : int64 (y, x)
    prompts : dict of int to tuple of StoredPrompts
        What the user gave for each object of the plane, where there is something.
    complete : bool
        Whether the plane was marked as complete. Training needs no mark, since what is not labelled is never a mistake;
        `evaluate_everything` is for complete planes only.
    """

    plane: PlaneKey
    source: ImageSource
    labels: NDArray[np.int64]
    prompts: dict[int, tuple[StoredPrompts, ...]]
    complete: bool

    @property
    def position(self) -> StackPosition | None:
        """Where it lies in its stack; None for a single plane. All label images of an image share its stack."""
        key = self.plane
        return StackPosition(key.image, key.index, key.axes) if key.index else None


@dataclass(frozen=True)
class TrainingEvent:
    """How a run stands.

    Attributes
    ----------
    state : str
        "preparing", "running", "paused", "stopping", and at the end "ended", "discarded" or "failed".
    message : str
        One sentence for a person.
    step : StepReport or None
        The last step.
    report : FineTuneReport or None
        With "ended".
    adapter : str
        With "ended": the name in the library.
    activated : bool
        With "ended": whether the adapter was activated, which it is only if it is better.
    """

    state: TrainingState
    message: str
    step: StepReport | None = None
    report: FineTuneReport | None = None
    adapter: str = ""
    activated: bool = False

    @property
    def is_final(self) -> bool:
        """Whether the run is over."""
        return self.state in ("ended", "discarded", "failed")


class TrainingJob:
    """A run in a thread for training. All methods may be called from any thread and return at once, `wait` excepted.

    Events (emitted from the training thread)
    -----------------------------------------
    changed : (TrainingEvent)
        After every step and at every change of state; limit the rate where you draw. The last one is final, and exactly
        one is.

    Made by `Session.start_training`, which starts it.

    Parameters
    ----------
    model : Model
        Not changed.
    planes : sequence of TrainingPlane
    config : TrainConfig, optional
    held_out : sequence of str
        What earlier runs held out.
    keep : callable
        Called in the training thread with the adapter and its report; returns the name that it was kept under and
        whether it was activated.
    thread : TorchThread
        Where it runs.
    start : Adapter, optional
        Go on from it.
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
    ) -> None:
        self._model, self._planes, self._config = model, tuple(planes), config
        self._held_out, self._keep, self._thread = tuple(held_out), keep, thread
        self._start = start
        self._asked = threading.Condition()
        self._paused = self._stopped = self._discarded = False
        self._event = TrainingEvent("preparing", "Reading the images and encoding them.")
        self._future: Future[None] | None = None

    def start(self) -> None:
        """Begin; once only."""
        if self._future is None:
            self._future = self._thread.submit("training", lambda _: self._run())
            self._future.add_done_callback(self._on_done)

    @property
    def event(self) -> TrainingEvent:
        """The latest event."""
        return self._event

    @property
    def planes(self) -> tuple[TrainingPlane, ...]:
        """What is trained on; `ObjectScore.plane` counts them."""
        return self._planes

    def pause(self) -> None:
        """Wait after the present step until `resume`."""
        self._ask(paused=True)

    def resume(self) -> None:
        """Go on."""
        self._ask(paused=False)

    def stop(self) -> None:
        """End after the present step and keep what was learned; it is judged as after a complete run."""
        self._ask(stopped=True)

    def discard(self) -> None:
        """End after the present step and keep nothing."""
        self._ask(discarded=True)

    def wait(self, timeout: float | None = None) -> TrainingEvent:
        """Wait for the end and return the latest event. Do not call it on a GUI thread."""
        if self._future is not None and not self._thread.is_current:
            wait([self._future], timeout)
        return self._event

    def _ask(self, paused: bool = False, stopped: bool = False, discarded: bool = False) -> None:
        with self._asked:
            self._paused = paused
            self._stopped |= stopped
            self._discarded |= discarded
            self._asked.notify_all()

    def _on_done(self, future: Future[None]) -> None:
        if future.cancelled():  # the thread was closed before the run began
            self._say("discarded", "The training was discarded; nothing was changed.")

    def _run(self) -> None:
        try:
            self._say("preparing", self._event.message)
            self._train()
        except _DiscardedError:
            self._say("discarded", "The training was discarded; nothing was changed.")
        except Exception as error:  # told to the user in every case; the thread must end with a final event
            self._say("failed", user_message(error))

    def _train(self) -> None:
        from napari_sam_lora.api import iter_fine_tune  # noqa: PLC0415
        from napari_sam_lora.training.config import TrainConfig  # noqa: PLC0415

        config = self._config or TrainConfig()
        run = iter_fine_tune(self._model, self._pairs(config), config, held_out=self._held_out, start=self._start)
        try:
            step: StepReport | None = None
            for step in run:
                self._say("running", f"Step {step.step} of {step.steps}.", step)
                self._wait_while_paused(step)
                if self._stopped:
                    run.stop()
                    break
            self._check()
            self._say("stopping", "Comparing with the base model on objects that were held out.", step)
            adapter, report = run.result()
            self._check()
        except BaseException:
            run.discard()  # frees its memory at once
            raise
        name, activated = self._keep(adapter, report)
        self._say("ended", report.reason, step, report, name, activated)

    def _pairs(
        self, config: TrainConfig
    ) -> Iterator[tuple[NDArray[Any], NDArray[np.int64], dict[int, Prompts], StackPosition | None]]:
        for plane in self._planes:
            self._check()
            # Prompts belong to single objects, which the ids of a semantic label image are not.
            given = user_prompts(plane) if config.labels == "instances" else {}
            yield plane.source.read(plane.plane), plane.labels, given, plane.position

    def _wait_while_paused(self, step: StepReport) -> None:
        self._check()
        if self._paused and not self._stopped:
            self._say("paused", f"Paused after step {step.step} of {step.steps}.", step)
            release_pools()  # for what is computed meanwhile
            with self._asked:
                self._asked.wait_for(lambda: not self._paused or self._stopped or self._discarded)
            self._check()
            self._say("running", f"Step {step.step} of {step.steps}.", step)

    def _check(self) -> None:
        if self._discarded:
            raise _DiscardedError

    def _say(
        self,
        state: TrainingState,
        message: str,
        step: StepReport | None = None,
        report: FineTuneReport | None = None,
        adapter: str = "",
        activated: bool = False,
    ) -> None:
        self._event = TrainingEvent(state, message, step or self._event.step, report, adapter, activated)
        emit_safely(self.changed, self._event)


def user_prompts(plane: TrainingPlane) -> dict[int, Prompts]:
    """The prompts of each object of a plane, those of all its parts together, as one row."""
    given = {}
    for label in np.intersect1d(plane.labels, list(plane.prompts)):
        row = tuple(item for stored in plane.prompts[int(label)] for item in stored.row)
        for group in group_rows([row], (plane.labels.shape[0], plane.labels.shape[1])):
            given[int(label)] = group.prompts
    return given


class _DiscardedError(TrainingError):
    """Ends a run from within."""

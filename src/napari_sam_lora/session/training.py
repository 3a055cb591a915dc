"""Fine-tuning in a thread of its own, on a snapshot of what was labelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_sam_lora.session.planes import ImageSource, PlaneKey
from napari_sam_lora.session.records import StoredPrompts

if TYPE_CHECKING:
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
        Whether the plane was marked as complete.
    """

    plane: PlaneKey
    source: ImageSource
    labels: NDArray[np.int64]
    prompts: dict[int, tuple[StoredPrompts, ...]]
    complete: bool


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
    """A run in its own thread. All methods may be called from any thread and return at once, `wait` excepted.

    Events (emitted from the training thread)
    -----------------------------------------
    changed : (TrainingEvent)
        After every step and at every change of state; limit the rate where you draw. The last one is final, and exactly
        one is.

    Made by `Session.start_training`.
    """

    changed = Signal(object)

    @property
    def event(self) -> TrainingEvent:
        """The latest event."""
        raise NotImplementedError

    def pause(self) -> None:
        """Wait after the present step until `resume`."""
        raise NotImplementedError

    def resume(self) -> None:
        """Go on."""
        raise NotImplementedError

    def stop(self) -> None:
        """End after the present step and keep what was learned; it is judged as after a complete run."""
        raise NotImplementedError

    def discard(self) -> None:
        """End after the present step and keep nothing."""
        raise NotImplementedError

    def wait(self, timeout: float | None = None) -> TrainingEvent:
        """Wait for the end and return the latest event. Do not call it on a GUI thread."""
        raise NotImplementedError

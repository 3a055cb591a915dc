"""What a caller sees of a run: after each step, and at its end."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from napari_sam_lora.training.evaluation.acceptance import Verdict
from napari_sam_lora.training.evaluation.found import FoundPair
from napari_sam_lora.training.evaluation.metrics import Figures, ObjectScore


@dataclass(frozen=True)
class StepReport:
    """What a caller sees of a run after each step.

    Attributes
    ----------
    step, steps : int
        Steps done and planned, cross-validation included.
    loss : float
    learning_rate : float
    objects_seen : int
        Objects seen so far, repetitions counted.
    seconds, seconds_left : float
        Time since the run began, and an estimate of the rest; judging is not included.
    phase : str
        "train"; then, where there are too few objects to hold out, "check 1 of 3" and so on.
    held_out_iou : float, optional
        Mean IoU of some held-out objects, where they were looked at after this step.
    base_iou : float, optional
        The same of the base model; with every step once it is known.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    objects_seen: int
    seconds: float
    seconds_left: float
    phase: str
    held_out_iou: float | None = None
    base_iou: float | None = None


@dataclass(frozen=True)
class FineTuneReport:
    """How a run ended.

    Attributes
    ----------
    verdict : str
        "better", "not better" or "too few".
    reason : str
        The verdict in plain words.
    base, adapted : Figures
        Held-out figures of both models.
    base_objects, adapted_objects : tuple of ObjectScore
        The same object by object, in the same order.
    train_count : int
        Objects trained on.
    cross_validated : bool
        Whether the figures are those of adapters trained on parts of the objects, because there were too few to
        hold out; the returned adapter then learned from all of them.
    held_out : tuple of str
        Pass it to the next run so that held-out objects stay held out.
    losses : tuple of float
        Of the steps of the run whose adapter is returned.
    seconds : float
    curve : tuple of (int, float)
        Steps and held-out IoU of the looks at some held-out objects; step 0 is the base model.
    best_step : int
        The step after which the returned adapter was as it is.
    warnings : tuple of str
        What else a user should know, in plain words: labels that were left out, memory that ran out.
    found : FoundPair, optional
        What both models find of the held-out objects without prompts, where a dense head was trained.
    """

    verdict: Verdict
    reason: str
    base: Figures
    adapted: Figures
    base_objects: tuple[ObjectScore, ...]
    adapted_objects: tuple[ObjectScore, ...]
    train_count: int
    cross_validated: bool
    held_out: tuple[str, ...]
    losses: tuple[float, ...]
    seconds: float
    curve: tuple[tuple[int, float], ...] = ()
    best_step: int = 0
    warnings: tuple[str, ...] = ()
    found: FoundPair | None = None

    def metrics(self) -> dict[str, Any]:
        """Figures for an adapter's metadata; those of no objects are left out."""
        both = (("base", self.base), ("adapted", self.adapted))
        found = {} if self.found is None else {"found": asdict(self.found)}
        return (
            {
                "verdict": self.verdict,
                "reason": self.reason,
                "cross_validated": self.cross_validated,
            }
            | {name: asdict(figures) for name, figures in both if figures.count}
            | found
        )

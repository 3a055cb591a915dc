"""Reports of a run: after each step, and at its end."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from napari_sam_lora.text import Caution
from napari_sam_lora.training.data.counts import ObjectCounts
from napari_sam_lora.training.evaluation.acceptance import Verdict
from napari_sam_lora.training.evaluation.found import FoundPair
from napari_sam_lora.training.evaluation.metrics import Figures, ObjectScore
from napari_sam_lora.training.training_set import CheckedOn


@dataclass(frozen=True)
class StepReport:
    """Progress of a run after a step.

    Attributes
    ----------
    step, steps : int
        Steps done and planned, including cross-validation.
    loss : float
    learning_rate : float
    objects_seen : int
        Objects seen so far, repetitions included.
    seconds, seconds_left : float
        Time since the start of the run, and an estimate of the rest without the final comparison.
    phase : str
        "train"; then, where few objects are held out, "check 1 of 2" and so on.
    held_out_iou : float, optional
        Mean IoU of some held-out objects, if they were checked after this step.
    base_iou : float, optional
        The same for the base model, in all reports from the first check on.
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
    """Result of a run.

    Attributes
    ----------
    verdict : str
        "better", "not better" or "too few".
    reason : str
        The reason of the verdict in plain words.
    base, adapted : Figures
        Mean scores of both models on held-out objects.
    base_objects, adapted_objects : tuple of ObjectScore
        Scores of each object, in the same order.
    train_count : int
        Objects trained on.
    counts : ObjectCounts
        Objects that were learned, held out, checked and left out.
    checked_on : str
        "other images" if held-out objects are of other images or stacks than those learned, "same images" if parts of
        the same ones were held out, and "one image" if all objects are of one image or stack.
    cross_validated : bool
        Few objects could be held out, so other adapters were trained too, each without some of the objects, and tested
        on these. The scores are theirs and those of the returned adapter on what it was not trained on, if anything.
    held_out : tuple of str
        Pass it to the next run so that held-out objects stay held out.
    losses : tuple of float
        Loss of each step in training the returned adapter.
    seconds : float
    curve : tuple of (int, float)
        Step and held-out IoU of each check of some held-out objects; step 0 is the base model.
    best_step : int
        The step whose state is the returned adapter.
    warnings : tuple of Caution
        What else a user should know: labels that were left out, memory that ran out. A `Caution` is a string.
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
    counts: ObjectCounts
    checked_on: CheckedOn
    cross_validated: bool
    held_out: tuple[str, ...]
    losses: tuple[float, ...]
    seconds: float
    curve: tuple[tuple[int, float], ...] = ()
    best_step: int = 0
    warnings: tuple[Caution, ...] = ()
    found: FoundPair | None = None

    @property
    def use_at_once(self) -> bool:
        """True if an application may use the adapter unasked: it is better, and not only on one image."""
        return self.verdict == "better" and self.checked_on != "one image"

    def metrics(self) -> dict[str, Any]:
        """Return the figures for an adapter's metadata; those of no objects are left out."""
        both = (("base", self.base), ("adapted", self.adapted))
        found = {}
        if self.found is not None:
            base = self.found.base
            found["found"] = {"base": base and asdict(base), "adapted": asdict(self.found.adapted)}
        return (
            {
                "verdict": self.verdict,
                "reason": self.reason,
                "cross_validated": self.cross_validated,
                "checked_on": self.checked_on,
                "objects": asdict(self.counts),
            }
            | {name: asdict(figures) for name, figures in both if figures.count}
            | found
        )

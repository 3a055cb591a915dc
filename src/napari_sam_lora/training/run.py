"""A fine-tuning run from labelled planes to a judged adapter, one step at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor

from napari_sam_lora.errors import TrainingError
from napari_sam_lora.images import Preprocessing
from napari_sam_lora.lora.adapted import predictor_for
from napari_sam_lora.lora.adapter import Adapter, AdapterInfo
from napari_sam_lora.lora.inject import encoder_split
from napari_sam_lora.model.checkpoints import LoadedModel
from napari_sam_lora.model.embeddings import EmbeddingCache
from napari_sam_lora.model.input_size import mask_stride
from napari_sam_lora.training.cache import PrefixCache
from napari_sam_lora.training.config import TrainConfig
from napari_sam_lora.training.gate import Verdict, decide
from napari_sam_lora.training.loop import Trainer, lora_config
from napari_sam_lora.training.metrics import Figures, ObjectScore, score_objects, summarise
from napari_sam_lora.training.samples import (
    FEWEST_HELD_OUT,
    FEWEST_OBJECTS,
    ObjectRef,
    Split,
    cross_validation,
    list_objects,
    snapshot,
    split_objects,
)

MOST_JUDGED = 60


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
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    objects_seen: int
    seconds: float
    seconds_left: float
    phase: str


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
        Of the steps that led to the returned adapter.
    seconds : float
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


class FineTuneRun(Iterator[StepReport]):
    """A run that advances by one optimisation step each time it is asked for the next report.

    Pausing is not asking; `stop` ends it early and keeps what was learned; dropping the object discards it. The base
    model is not changed at any time.

    Parameters
    ----------
    loaded : LoadedModel
    pairs : iterable of (image, labels)
        See `snapshot`; the arrays are copied.
    config : TrainConfig
    preprocessing : Preprocessing
    held_out : sequence of str
        From an earlier report.

    Raises
    ------
    InputError, TrainingError
        If there is nothing to learn from.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        pairs: Iterable[tuple[ArrayLike, ArrayLike]],
        config: TrainConfig,
        preprocessing: Preprocessing | None = None,
        held_out: Sequence[str] = (),
    ) -> None:
        self._loaded, self._config = loaded, config
        self._preprocessing = preprocessing or Preprocessing()
        self._input_size = int(loaded.sam.image_encoder.img_size)
        self._planes = snapshot(pairs, self._input_size, mask_stride(loaded.sam), self._preprocessing)
        self._objects = list_objects(self._planes)
        self._split = split_objects(self._objects, config.validation_share, held_out)
        self._folds = self._plan_folds()
        self._cache = EmbeddingCache()
        split = encoder_split(loaded.sam, lora_config(loaded.sam, config))
        self._prefixes = PrefixCache(loaded.sam, split, config.cache_bytes, config.half_cache)
        self._steps = config.steps * (1 + len(self._folds))
        self._losses: list[float] = []
        self._checked: tuple[list[ObjectScore], list[ObjectScore]] = ([], [])
        self._trainer: Trainer | None = None
        self._checker: Trainer | None = None
        self._seen = 0
        self._stopped = False
        self._ended = False
        self._begun = time.monotonic()
        self._reports = self._train()

    def __next__(self) -> StepReport:
        try:
            return next(self._reports)
        except StopIteration:
            self._ended = True
            raise

    def stop(self) -> None:
        """End after the present step; `result` gives the adapter as it is then."""
        self._stopped = True

    def result(self) -> tuple[Adapter, FineTuneReport]:
        """The adapter and how it was judged, once the run has ended or was stopped.

        Raises
        ------
        TrainingError
            If the run is still going on, or was stopped before its first step.
        """
        if not (self._ended or self._stopped):
            raise TrainingError("The run has not ended yet: go on, or stop it first.")
        if self._trainer is None or not self._losses:
            raise TrainingError("The run was stopped before it had learned anything.")
        adapter = Adapter(self._trainer.tensors(), self._describe())
        base, adapted = self._checked if self._folds else self._judge(adapter.tensors, self._split)
        decision = decide(base, adapted)
        report = FineTuneReport(
            verdict=decision.verdict,
            reason=decision.reason,
            base=summarise(base),
            adapted=summarise(adapted),
            base_objects=tuple(base),
            adapted_objects=tuple(adapted),
            train_count=len(self._train_objects),
            cross_validated=bool(self._folds),
            held_out=self._split.held_out,
            losses=tuple(self._losses),
            seconds=time.monotonic() - self._begun,
        )
        return adapter.with_metrics(_metrics(report)), report

    @property
    def _train_objects(self) -> tuple[ObjectRef, ...]:
        return self._objects if self._folds else self._split.train

    def _plan_folds(self) -> list[Split]:
        if self._config.validation_share == 0 or len(self._split.test) >= FEWEST_HELD_OUT:
            return []
        return cross_validation(self._objects) if len(self._objects) >= FEWEST_OBJECTS else []

    def _train(self) -> Iterator[StepReport]:
        yield from self._optimise(self._train_objects, 0, "train", final=True)
        for number, fold in enumerate(self._folds, start=1):
            if self._stopped:
                return
            yield from self._optimise(fold.train, number, f"check {number} of {len(self._folds)}", final=False)
            if not self._stopped and self._checker is not None:
                self._add_scores(self._judge(self._checker.tensors(), fold))

    def _optimise(self, objects: Sequence[ObjectRef], number: int, phase: str, final: bool) -> Iterator[StepReport]:
        """Train one adapter: the one that is returned, or one that only checks the settings on a fold."""
        trainer = Trainer(self._loaded.sam, self._planes, objects, self._config, self._prefixes)
        if final:
            self._trainer = trainer
        else:
            self._checker = trainer
        for local in range(1, self._config.steps + 1):
            if self._stopped:
                return
            result = trainer.step()
            self._seen += result.objects
            if final:
                self._losses.append(result.loss)
            step = number * self._config.steps + local
            passed = time.monotonic() - self._begun
            yield StepReport(
                step=step,
                steps=self._steps,
                loss=result.loss,
                learning_rate=result.learning_rate,
                objects_seen=self._seen,
                seconds=passed,
                seconds_left=passed / step * (self._steps - step),
                phase=phase,
            )

    def _add_scores(self, scores: tuple[list[ObjectScore], list[ObjectScore]]) -> None:
        for known, more in zip(self._checked, scores, strict=True):
            known.extend(more)

    def _judge(self, tensors: dict[str, Tensor], split: Split) -> tuple[list[ObjectScore], list[ObjectScore]]:
        """Held-out scores of the base model and of an adapter with these tensors."""
        objects = split.test[:MOST_JUDGED]
        if not objects:
            return [], []
        adapter = Adapter(tensors, self._describe())
        base = predictor_for(self._loaded, cache=self._cache, preprocessing=self._preprocessing)
        adapted = predictor_for(self._loaded, adapter, cache=self._cache)
        return score_objects(base, self._planes, objects), score_objects(adapted, self._planes, objects)

    def _describe(self) -> AdapterInfo:
        return AdapterInfo(
            base_name=self._loaded.name,
            base_hash=self._loaded.weights_hash,
            lora=lora_config(self._loaded.sam, self._config),
            mode=self._config.mode,
            input_size=self._input_size,
            preprocessing=self._preprocessing,
            training=self._config.as_dict()
            | {
                "images": len(self._planes),
                "objects_trained_on": len(self._train_objects),
                "steps_done": len(self._losses),
                "held_out": list(self._split.held_out),
            },
        )


def _metrics(report: FineTuneReport) -> dict[str, Any]:
    """Figures for the adapter's metadata; those of no objects are left out."""
    return {
        "verdict": report.verdict,
        "reason": report.reason,
        "cross_validated": report.cross_validated,
    } | {
        name: asdict(figures) for name, figures in (("base", report.base), ("adapted", report.adapted)) if figures.count
    }

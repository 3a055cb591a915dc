"""A fine-tuning run, from labelled planes to an adapter with a verdict, one step at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from segment_anything.modeling import Sam

from napari_sam_lora.errors import TrainingError, is_out_of_memory
from napari_sam_lora.images import Preprocessing
from napari_sam_lora.lora.adapted import predictor_for
from napari_sam_lora.lora.adapter import Adapter, AdapterInfo
from napari_sam_lora.model.checkpoints import LoadedModel
from napari_sam_lora.model.dense.dense_model import DenseModel
from napari_sam_lora.model.dense.head import DenseHead, DenseHeadConfig, with_classes
from napari_sam_lora.model.embeddings import EmbeddingCache
from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.text import Caution
from napari_sam_lora.training.data.classes import classes_to_learn, too_many_classes
from napari_sam_lora.training.data.counts import ObjectCounts
from napari_sam_lora.training.data.samples import Labelled, ObjectRef, unused_labels
from napari_sam_lora.training.evaluation.acceptance import Decision, Judge
from napari_sam_lora.training.evaluation.found import FoundPair, FoundWatch, adjusted, held_out_maps, smallest_size
from napari_sam_lora.training.evaluation.metrics import ObjectScore, summarise
from napari_sam_lora.training.evaluation.validation import Validator
from napari_sam_lora.training.loop import State, StepResult, Trainer, lora_config, prefix_cache
from napari_sam_lora.training.memory import AdaptiveChunks, MemoryFallback
from napari_sam_lora.training.report import FineTuneReport, StepReport
from napari_sam_lora.training.resume import resume_settings
from napari_sam_lora.training.training_set import TrainingSet

ONE_IMAGE = "All labelled objects are of one image or stack, so it is not checked on another one."

__all__ = ["FineTuneReport", "FineTuneRun", "StepReport"]


class FineTuneRun(Iterator[StepReport]):
    """A run that does one optimisation step for each report that is requested from it.

    To pause it, request no report; `stop` ends it early and keeps the adapter; `discard` ends it and keeps nothing. The
    base model is never changed. `stop` and `discard` may be called from any thread.

    Parameters
    ----------
    loaded : LoadedModel
    pairs : iterable of TrainingPair, or of tuples of its first fields
        See `snapshot`; the arrays are copied.
    config : TrainConfig
    preprocessing : Preprocessing
    held_out : sequence of str
        `FineTuneReport.held_out` of an earlier run.
    start : Adapter, optional
        Continue from this adapter, with its layers.
    class_names : mapping of int to str, optional
        Names of classes by id, for the adapter.

    Raises
    ------
    InputError, TrainingError
        If there is nothing to learn from.
    AdapterError
        If ``start`` belongs to another base model.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        pairs: Iterable[Labelled],
        config: TrainConfig,
        preprocessing: Preprocessing | None = None,
        held_out: Sequence[str] = (),
        start: Adapter | None = None,
        class_names: Mapping[int, str] | None = None,
    ) -> None:
        config, held_out = resume_settings(start, loaded, config, held_out)
        self._loaded, self._config, self._start = loaded, config, start
        self._preprocessing = preprocessing or Preprocessing()
        self._input_size = int(loaded.sam.image_encoder.img_size)
        self._set = TrainingSet.of(loaded, pairs, config, self._preprocessing, held_out, start is not None)
        self._planes, self._split, self._plan = self._set.planes, self._set.split, self._set.plan
        watched, self._judged, self._choosing = self._set.watched, self._set.judged, self._set.is_choosing
        self._classes = classes_to_learn(self._planes, self._train_objects, config, class_names or {})
        self._prefixes = prefix_cache(loaded.sam, config)
        self._embeddings = EmbeddingCache()
        self._chunks = AdaptiveChunks((self._prefixes.shrink, self._embeddings.shrink))
        self._judge = Judge(loaded, self._planes, self._preprocessing, self._chunks, self._embeddings)
        watching = bool(watched)
        self._validator = Validator(self._planes, watched, self._prefixes, self._chunks) if watching else None
        self._fallback = MemoryFallback(config)
        self._steps = config.steps + sum(self._plan.fold_steps(config.steps))
        self._losses: list[float] = []
        self._curve: list[tuple[int, float]] = []
        self._checked: tuple[list[ObjectScore], list[ObjectScore]] = ([], [])
        self._checked_found: list[FoundPair] = []
        self._found_watch = FoundWatch(self._planes, watched) if watching else None
        self._choices: list[float] = []
        self._warnings = [*unused_labels(self._planes), *self._split.cautions]
        if config.patience and not self._choosing:
            message = "Too few objects are held out to decide when to stop early: all steps are run."
            self._warnings.append(Caution(message, "no-early-stop"))
        self._warnings += too_many_classes(self._planes, config)
        self._trainer: Trainer | None = None
        self._checker: Trainer | None = None
        self._best: State | None = None
        self._seen = 0
        self._stopped = self._discarded = self._ended = False
        self._begun = time.monotonic()
        self._reports = self._train()

    def __next__(self) -> StepReport:
        try:
            return next(self._reports)
        except BaseException:  # at the end; and after an error, when the result so far is still there
            self._ended = True
            raise

    @property
    def warnings(self) -> tuple[Caution, ...]:
        """Cautions so far: labels that are left out, memory that ran out, a loss that was not finite."""
        trainers = [trainer for trainer in (self._trainer, self._checker) if trainer is not None]
        found = self._warnings + [warning for trainer in trainers for warning in trainer.warnings]
        found += self._chunks.warnings
        return tuple(dict.fromkeys(found))

    @property
    def counts(self) -> ObjectCounts:
        """Numbers of objects that are learned, held out and left out; known before the first step."""
        return self._set.counts

    def stop(self) -> None:
        """End after the current step; `result` returns the best adapter so far."""
        self._stopped = True

    def discard(self) -> None:
        """End after the current step and keep nothing; there is no result."""
        self._stopped = self._discarded = True
        with suppress(ValueError):  # a step is running in another thread, which cleans up at its end
            self._reports.close()  # type: ignore[attr-defined]
            self._forget()

    def result(self) -> tuple[Adapter, FineTuneReport]:
        """Return the adapter and its report, once the run has ended or was stopped.

        Raises
        ------
        TrainingError
            If the run has not ended, was stopped before its first step, or was discarded.
        """
        if self._discarded:
            raise TrainingError("The run was discarded: it has no result.", code="run-discarded")
        if not (self._ended or self._stopped):
            raise TrainingError("The run has not ended yet: wait for its end, or stop it first.", code="run-not-ended")
        if self._trainer is None or not self._losses:
            raise TrainingError("The run was stopped before its first step: it has no result.", code="run-without-step")
        state = self._final_state(self._trainer)
        self._prefixes.close()
        adapter = self._adjusted(self._adapter(state, self._train_objects))
        own = self._judge.compare(adapter, self._judged)
        base, adapted = ([*mine, *checked] for mine, checked in zip(own, self._checked, strict=True))
        own_found = self._judge.compare_found(adapter, self._judged)
        found_pairs = [*([] if own_found is None else [own_found]), *self._checked_found]
        found = sum(found_pairs[1:], start=found_pairs[0]) if found_pairs else None
        decision = self._judge.decide(base, adapted, found)
        report = FineTuneReport(
            verdict=decision.verdict,
            reason=self._reason(decision),
            base=summarise(base),
            adapted=summarise(adapted),
            base_objects=tuple(base),
            adapted_objects=tuple(adapted),
            train_count=len(self._train_objects),
            counts=replace(self.counts, checked=len(base)),
            checked_on=self._set.checked_on,
            cross_validated=bool(self._plan.folds),
            held_out=self._split.held_out,
            losses=tuple(self._losses),
            seconds=time.monotonic() - self._begun,
            curve=tuple(self._curve),
            best_step=state.step,
            warnings=self.warnings,
            found=found,
        )
        return adapter.with_metrics(report.metrics()), report

    def _reason(self, decision: Decision) -> str:
        """Return the reason of a verdict, which says more for an adapter if it was checked on another image."""
        if decision.verdict != "better" or self._set.checked_on != "one image":
            return decision.reason
        return f"{decision.reason} {ONE_IMAGE}"

    @property
    def _train_objects(self) -> tuple[ObjectRef, ...]:
        return self._plan.main.train

    def _train(self) -> Iterator[StepReport]:
        try:
            yield from self._learn()
            for number in range(len(self._plan.folds)):
                if self._stopped:
                    break
                yield from self._check(number)
        finally:
            if self._discarded:
                self._forget()
            elif not self._stopped:  # a stopped run may check held-out objects once more
                self._prefixes.close()

    def _learn(self) -> Iterator[StepReport]:
        """Train the adapter that is returned, and check held-out objects at intervals."""
        trainer = self._trainer = self._new_trainer(self._train_objects, self._config, self._start_head())
        if self._start is not None:
            trainer.begin_at(self._start.tensors)
        base = self._measure(self._loaded.sam)
        if base is not None:
            self._curve.append((0, base))
        for step in range(1, self._config.steps + 1):
            if self._stopped:
                return
            result = trainer.step()
            self._losses.append(result.loss)
            every = self._config.check_every
            looked = self._look(trainer) if every and (step % every == 0 or step == self._config.steps) else None
            yield self._report(result, step, "train", looked)
            if self._choosing and self._lost_patience():
                self._steps = step + sum(self._plan.fold_steps(step))
                return

    def _check(self, number: int) -> Iterator[StepReport]:
        """Train an adapter without a fold of the objects, only for cross-validation, and test it on that fold.

        It starts from the base model, because an adapter to continue from may have seen the fold.
        """
        fold, folds, done = self._plan.folds[number], len(self._plan.folds), len(self._losses)
        steps = self._plan.fold_steps(done)
        config = replace(self._config, steps=steps[number])
        trainer = self._checker = self._new_trainer(fold.train, config, self._loaded.dense)
        for step in range(1, config.steps + 1):
            if self._stopped:
                return
            result = trainer.step()
            yield self._report(result, done + sum(steps[:number]) + step, f"check {number + 1} of {folds}")
        if not self._stopped:
            adapter = self._adapter(trainer.state(), fold.train)
            for scores, more in zip(self._checked, self._judge.compare(adapter, fold.test), strict=True):
                scores.extend(more)
            found = self._judge.compare_found(adapter, fold.test)
            if found is not None:
                self._checked_found.append(found)
        self._warnings += [warning for warning in trainer.warnings if warning not in self._warnings]

    def _new_trainer(self, objects: Sequence[ObjectRef], config: TrainConfig, dense: DenseModel | None) -> Trainer:
        head = None if dense is None else dense.trainable
        if head is not None and dense is not None and dict(dense.classes) != self._classes:
            head = with_classes(head, 0)  # its layer is for other classes
        return Trainer(
            self._loaded.sam,
            self._planes,
            objects,
            config,
            self._prefixes,
            self._fallback,
            head,
            tuple(self._classes),
        )

    def _start_head(self) -> DenseModel | None:
        """Return the dense head that the run starts from: that of the start adapter, or of the base model.

        A published decoder is not one: it has maps of its own, so a new head is trained and compared with it.
        """
        dense = (self._start and self._start.dense) or self._loaded.dense
        return dense if dense is not None and dense.trainable is not None else None

    def _look(self, trainer: Trainer) -> float | None:
        """Measure validation objects, and keep the adapter if it is the best one so far."""
        iou = self._measure(trainer.tree)
        if iou is None:
            return None
        self._curve.append((trainer.done, iou))
        value = self._value(trainer, iou) if self._choosing else iou
        if self._choosing and value > max(self._choices, default=-1.0):
            self._best = trainer.state()
        self._choices.append(value)
        return iou

    def _value(self, trainer: Trainer, iou: float) -> float:
        """Return the figure by which states are compared: IoU with prompts, and objects found without prompts."""
        if trainer.dense is None or self._found_watch is None:
            return iou
        dense = self._start_head()
        instances = InstanceConfig() if dense is None else dense.instances
        try:
            precision = self._found_watch.measure(trainer.tree, trainer.dense.head, instances)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._found_watch = None
            return iou
        return (iou + precision) / 2 if math.isfinite(precision) else iou

    def _measure(self, tree: Sam) -> float | None:
        """Measure validation objects; return None if there are none, or if memory is not enough, then or earlier."""
        if self._validator is None:
            return None
        try:
            return self._validator.measure(tree)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        self._validator = None
        message = "There is not enough memory to check held-out objects: the run goes on without checks."
        self._warnings.append(Caution(message, "no-checks"))
        return None

    def _lost_patience(self) -> bool:
        """Return whether the last checks have shown no gain."""
        if self._best is None or not self._config.patience:
            return False
        since = sum(step > self._best.step for step, _ in self._curve)
        return since >= self._config.patience

    def _final_state(self, trainer: Trainer) -> State:
        """Return the best state of all checks, including the last state, or the last state if none may be chosen."""
        if self._choosing and self._curve and trainer.done > self._curve[-1][0]:
            self._look(trainer)
        return self._best or trainer.state()

    def _report(self, result: StepResult, step: int, phase: str, looked: float | None = None) -> StepReport:
        self._seen += result.objects
        passed = time.monotonic() - self._begun
        return StepReport(
            step=step,
            steps=self._steps,
            loss=result.loss,
            learning_rate=result.learning_rate,
            objects_seen=self._seen,
            seconds=passed,
            seconds_left=passed / step * (self._steps - step),
            phase=phase,
            held_out_iou=looked,
            base_iou=self._curve[0][1] if self._curve else None,
        )

    def _adapter(self, state: State, objects: Sequence[ObjectRef]) -> Adapter:
        """Make the adapter of a state that has learned from these objects.

        Its dense head has the parameters that the run started with.
        """
        info, start = self._describe(state.step), self._start_head()
        if state.dense is None:
            return Adapter(state.tensors, info)
        learned: dict[int, list[int]] = {}
        for ref in objects:
            learned.setdefault(ref.plane, []).append(ref.label)
        instances = InstanceConfig() if start is None else start.instances
        head = DenseHead(DenseHeadConfig.for_sam(self._loaded.sam, len(self._classes)))
        head.load_state_dict(state.dense)
        instances = replace(instances, smallest=smallest_size(self._planes, learned))
        model = DenseModel(head, instances, classes=self._classes)
        # In half precision, as in the file: an adapter does the same before and after it was saved.
        return Adapter(state.tensors, info, DenseModel.from_parts(model.describe(), model.tensors()))

    def _adjusted(self, adapter: Adapter) -> Adapter:
        """Return the adapter with the parameters of the dense head that are best on held-out objects."""
        if adapter.dense is None:
            return adapter
        predictor = predictor_for(self._loaded, adapter, cache=self._embeddings)
        try:
            held = list(held_out_maps(predictor, self._planes, self._split.test))
            return replace(adapter, dense=adjusted(predictor, held, adapter.dense))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        message = "There is not enough memory to choose thresholds for Find everything on held-out objects."
        self._warnings.append(Caution(message, "no-chosen-thresholds"))
        return adapter

    def _describe(self, best_step: int) -> AdapterInfo:
        return AdapterInfo(
            base_name=self._loaded.name,
            base_hash=self._loaded.weights_hash,
            lora=lora_config(self._loaded.sam, self._config),
            mode=self._config.mode,
            input_size=self._input_size,
            preprocessing=self._preprocessing,
            training=self._config.as_dict()
            | {
                "images": len({plane.image for plane in self._planes if plane.objects}),
                "objects_trained_on": len(self._train_objects),
                "classes": sorted({number for plane in self._planes for number in plane.classes.values()}),
                "steps_done": len(self._losses),
                "best_step": best_step,
                "held_out": list(self._split.held_out),
            },
        )

    def _forget(self) -> None:
        self._trainer = self._checker = self._best = None
        self._prefixes.close()
        self._embeddings.clear()

"""Run of one propagation in the worker thread, one plane at a time, so that prompts are answered in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_sam_lora.errors import InputError
from napari_sam_lora.masks import MaskOptions
from napari_sam_lora.overlap import region_iou
from napari_sam_lora.prompts import ObjectPrompts
from napari_sam_lora.regions import Region
from napari_sam_lora.session.jobs.worker import CancelToken
from napari_sam_lora.session.labels.proposals import DoubtfulMask, Proposal, ProposedChange, place_changes
from napari_sam_lora.session.labels.records import StoredPrompts
from napari_sam_lora.session.prompting.draft import PromptItem, make_item
from napari_sam_lora.session.prompting.engine import Engine
from napari_sam_lora.session.prompting.replay import ReplayPlane, replay_plane
from napari_sam_lora.session.propagation.snapshot import StackPlanes

if TYPE_CHECKING:
    from napari_sam_lora.model.predictor import Predictor
    from napari_sam_lora.parameters.propagation import PropagationConfig
    from napari_sam_lora.stacks.propagation.state import PropagatedPlane

_EMPTY = Region.empty()


@dataclass(frozen=True)
class _PredictorHolder:
    """Model as `propagate` needs it."""

    predictor: Predictor


@dataclass(frozen=True)
class _Step:
    """Changes of one plane, and the progress after it; a total of 0 means unknown."""

    changes: Sequence[ProposedChange]
    done: int
    total: int


class PropagationRun:
    """One propagation, step by step in the worker, until it ends or is stopped; a stopped one can be continued.

    Attributes
    ----------
    future : Future of Proposal
        Proposal with everything that was done when the run ended or was stopped.

    Parameters
    ----------
    submit : callable
        Queues a step.
    engine : Engine
        Model and adapter, which stay the same to the end.
    planes : StackPlanes
    ids : sequence of int
        Objects to follow.
    config : PropagationConfig, optional
    report : callable
        Called in the worker thread with the changes of each plane.
    """

    def __init__(
        self,
        submit: Callable[[Callable[[CancelToken], bool]], Future[bool]],
        engine: Engine,
        planes: StackPlanes,
        ids: Sequence[int],
        config: PropagationConfig | None,
        report: Callable[[Proposal], None],
    ) -> None:
        self.future: Future[Proposal] = Future()
        self._submit, self._engine, self._planes, self._report = submit, engine, planes, report
        self._ids, self._config = tuple(ids), config
        self._steps: Iterator[_Step] | None = None
        self._changes: list[ProposedChange] = []
        self._doubtful: list[DoubtfulMask] = []
        self._unchanged = 0
        self._redone = dict(planes.redone)
        self._stopping = threading.Event()
        self._has_ended = False

    def start(self) -> Future[Proposal]:
        """Start the run, or continue it after it was stopped.

        Returns
        -------
        Future of Proposal
            Everything that was done when the run ended or was stopped.

        Raises
        ------
        InputError
            If the run has ended or failed.
        """
        if self._has_ended:
            raise InputError("This propagation has ended: start another one.", code="propagation-ended")
        self.future = Future()
        self._stopping.clear()
        self._queue()
        return self.future

    def stop(self) -> None:
        """Stop after the present plane."""
        self._stopping.set()

    @property
    def is_unfinished(self) -> bool:
        """Return whether it was stopped before its end, so that `start` continues it."""
        return self.future.done() and not self._has_ended

    @property
    def closed(self) -> int:
        """Number of planes within the bounds that are marked as complete."""
        return len(self._planes.closed)

    @property
    def proposal(self) -> Proposal:
        """Proposal with everything that was done so far."""
        return self._proposal(tuple(self._changes))

    def _queue(self) -> None:
        """Queue the next step."""
        try:
            self._submit(self._step).add_done_callback(self._on_step_done)
        except RuntimeError:  # the session was closed
            self._finish(complete=False)

    def _step(self, token: CancelToken) -> bool:
        """Process one plane; return whether there may be another."""
        if self._steps is None:
            self._steps = self._all_steps()
        one = next(self._steps, None)
        if one is None:
            return False
        self._changes.extend(one.changes)
        if one.changes:
            self._report(self._proposal(one.changes))
        if one.total and not token.is_cancelled:
            token.progress(one.done, one.total)
        token.check()
        return True

    def _on_step_done(self, step: Future[bool]) -> None:
        """Queue the next step, or finish the run."""
        error = CancelledError() if step.cancelled() else step.exception()
        if error is None and not step.result():
            self._finish(complete=True)
        elif isinstance(error, CancelledError) or (error is None and self._stopping.is_set()):
            self._finish(complete=False)
        elif error is None:
            self._queue()
        else:
            self._has_ended = True
            if not self.future.done():
                self.future.set_exception(error)

    def _all_steps(self) -> Iterator[_Step]:
        """Replay the prompts of key planes, then propagate the objects; yield a step for each plane."""
        from napari_sam_lora.stacks.propagation.propagate import propagate  # noqa: PLC0415

        planes, replay_count = self._planes, len(self._planes.replayed)
        for number, index in enumerate(sorted(planes.replayed), start=1):
            changes, planes = self._replay(planes, index)
            yield _Step(changes, number, replay_count)
        labels = planes.with_objects(self._ids)
        model = _PredictorHolder(self._engine.predictor())
        for one in propagate(
            model, planes, labels, config=self._config, ids=self._ids, finished=labels, closed=planes.closed
        ):
            changes = [] if one.is_seed else self._propagated_changes(one)
            yield _Step(changes, replay_count + one.done, replay_count + one.total if one.total else 0)

    def _replay(self, planes: StackPlanes, index: int) -> tuple[list[ProposedChange], StackPlanes]:
        """Replay the prompts of one plane; return the changes, and the planes with the new masks in place."""
        labels = planes.labels(index)
        replayed = replay_plane(
            self._engine, ReplayPlane(planes.at(index), planes.source, labels, planes.replayed[index])
        )
        self._unchanged += sum(change.iou == 1 for change in replayed)
        changes = [replace(change, is_replayed=True) for change in replayed if change.new.area and change.iou < 1]
        placed, pixels = place_changes(labels, changes, 0)
        return [change for _, change in placed], planes.with_labels(index, pixels)

    def _propagated_changes(self, one: PropagatedPlane) -> list[ProposedChange]:
        """Compare the propagated masks of a plane with those that they replace."""
        plane, changes = self._planes.at(one.index), []
        self._doubtful += [
            DoubtfulMask(plane, one.index, label, one.objects[label], doubt) for label, doubt in one.doubts.items()
        ]
        for label, region in one.objects.items():
            old = self._redone.pop((one.index, label), _EMPTY)
            iou = region_iou(old, region)
            if iou == 1:
                self._unchanged += 1
                continue
            prompts = _stored_prompts(one.prompts[label], one.shape)
            score = float(one.scores[label])
            changes.append(ProposedChange(plane, label, old, region, score, iou, (prompts,)))
        return changes

    def _finish(self, complete: bool) -> None:
        """Give the future its result."""
        if complete:  # masks of an earlier propagation that were not found again are removed
            self._has_ended = True
            for (index, label), old in sorted(self._redone.items()):
                self._changes.append(ProposedChange(self._planes.at(index), label, old, _EMPTY, 0.0, 0.0))
        if not self.future.done():
            self.future.set_result(self.proposal)

    def _proposal(self, changes: Sequence[ProposedChange]) -> Proposal:
        doubtful = tuple(self._doubtful)
        return Proposal(tuple(changes), "propagated", self._engine.name, unchanged=self._unchanged, doubtful=doubtful)


def _stored_prompts(prompts: ObjectPrompts, shape: tuple[int, int]) -> StoredPrompts:
    """Convert the prompts of a propagated mask to those that are stored with an object."""
    items: list[PromptItem] = []
    if prompts.box is not None:
        items.append(make_item(len(items), "box", prompts.box, True, shape))
    if prompts.points is not None and prompts.point_labels is not None:
        for point, positive in zip(prompts.points, prompts.point_labels, strict=True):
            items.append(make_item(len(items), "point", point, bool(positive), shape))
    if prompts.mask is not None:
        items.append(PromptItem(len(items), "mask", True, np.empty((0, 2)), prompts.mask))
    return StoredPrompts(tuple(items), MaskOptions())

"""Objects followed through a stack in the worker thread, a plane at a time, so that prompts are answered in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal

from napari_sam_lora.errors import InputError
from napari_sam_lora.labels import find_objects
from napari_sam_lora.session.content import ContentSession
from napari_sam_lora.session.engine import Engine
from napari_sam_lora.session.planes import PlaneKey, check_plane
from napari_sam_lora.session.preview import MaskOptions
from napari_sam_lora.session.prompts import PromptItem, make_item
from napari_sam_lora.session.proposals import Proposal, ProposedChange
from napari_sam_lora.session.records import StoredPrompts
from napari_sam_lora.session.regions import Region
from napari_sam_lora.session.stack_planes import StackPlanes, snapshot_planes
from napari_sam_lora.session.worker import CancelToken, Priority, emit_safely

if TYPE_CHECKING:
    from napari_sam_lora.model.predictor import Predictor
    from napari_sam_lora.stacks.config import PropagationConfig
    from napari_sam_lora.stacks.placed import Asked
    from napari_sam_lora.stacks.propagated import PropagatedPlane

_EMPTY = Region((0, 0), np.zeros((0, 0), np.bool_))


@dataclass(frozen=True)
class _Serving:
    predictor: Predictor


class PropagationRun:
    """One propagation: step after step in the worker, until it ends or is cancelled.

    Parameters
    ----------
    submit : callable
        Queues a step.
    engine : Engine
    planes : StackPlanes
    ids : sequence of int
        Objects to follow.
    config : PropagationConfig, optional
    tell : callable
        Called in the worker thread with the changes of each plane.
    """

    def __init__(
        self,
        submit: Callable[[Callable[[CancelToken], bool]], Future[bool]],
        engine: Engine,
        planes: StackPlanes,
        ids: Sequence[int],
        config: PropagationConfig | None,
        tell: Callable[[Proposal], None],
    ) -> None:
        self.future: Future[Proposal] = Future()
        self._submit, self._engine, self._planes, self._tell = submit, engine, planes, tell
        self._ids, self._config = tuple(ids), config
        self._steps: Iterator[PropagatedPlane] | None = None
        self._changes: list[ProposedChange] = []
        self._unchanged = 0
        self._redone = dict(planes.redone)

    def start(self) -> Future[Proposal]:
        """Queue the first step; the result is what was done when it ended or was cancelled."""
        self._queue()
        return self.future

    def _queue(self) -> None:
        try:
            self._submit(self._step).add_done_callback(self._after)
        except RuntimeError:  # the session was closed
            self._finish(complete=False)

    def _step(self, token: CancelToken) -> bool:
        """Do a plane; whether there may be another."""
        if self._steps is None:
            self._steps = self._propagate()
        one = next(self._steps, None)
        if one is None:
            return False
        if one.total and not token.is_cancelled:
            token.progress(one.done, one.total)
        if not one.is_seed:
            before = len(self._changes)
            self._note(one)
            if len(self._changes) > before:
                self._tell(self._proposal(self._changes[before:]))
        token.check()
        return True

    def _after(self, step: Future[bool]) -> None:
        error = CancelledError() if step.cancelled() else step.exception()
        if error is None and step.result():
            self._queue()
        elif error is None:
            self._finish(complete=True)
        elif isinstance(error, CancelledError):
            self._finish(complete=False)
        else:
            self.future.set_exception(error)

    def _propagate(self) -> Iterator[PropagatedPlane]:
        from napari_sam_lora.stacks.propagation import propagate  # noqa: PLC0415

        planes = self._planes
        labels = planes.with_objects(self._ids)
        return propagate(
            _Serving(self._engine.predictor()),
            planes,
            labels,
            config=self._config,
            ids=self._ids,
            finished=labels,
            closed=planes.closed,
        )

    def _note(self, one: PropagatedPlane) -> None:
        from napari_sam_lora.stacks.contest import overlap  # noqa: PLC0415

        for label, region in one.objects.items():
            old = self._redone.pop((one.index, label), _EMPTY)
            iou = overlap(old, region)
            if iou == 1:
                self._unchanged += 1
                continue
            prompts = _stored(one.prompts[label], one.shape)
            score = float(one.scores[label])
            self._changes.append(ProposedChange(self._planes.at(one.index), label, old, region, score, iou, (prompts,)))

    def _finish(self, complete: bool) -> None:
        if complete:  # what was there before and was not found again goes
            for (index, label), old in sorted(self._redone.items()):
                self._changes.append(ProposedChange(self._planes.at(index), label, old, _EMPTY, 0.0, 0.0))
        if not self.future.done():
            self.future.set_result(self._proposal(self._changes))

    def _proposal(self, changes: Sequence[ProposedChange]) -> Proposal:
        return Proposal(tuple(changes), "propagated", self._engine.name, unchanged=self._unchanged)


class StackSession(ContentSession):
    """The part of `Session` that works through stacks.

    Events that may come from a worker thread
    -----------------------------------------
    propagated : (Proposal)
        The changes of one plane of the propagation that is going on; ``progressed`` has the key ("propagate", …).
    """

    propagated = Signal(object)

    def propagate(
        self,
        plane: PlaneKey,
        ids: Sequence[int] | None = None,
        config: PropagationConfig | None = None,
        *,
        labels: str | None = None,
        axis: int = -1,
        redo: bool = False,
    ) -> Future[Proposal]:
        """Follow objects from the planes they are in through the stack; changes nothing by itself.

        Every plane in which an object is already is a key plane of it. Pixels of other objects are not taken, and
        planes marked as complete not changed. ``cancel("propagate")`` ends it, and the result is what was done until
        then; give it to `LabelSet.apply`, and call this again to go on from there.

        Parameters
        ----------
        plane : PlaneKey
            A plane of the stack.
        ids : sequence of int, optional
            Which objects; by default those of the plane.
        config : PropagationConfig, optional
        labels : str, optional
            Id of the label image; by default `target`.
        axis : int
            Position in ``plane.index`` of the axis to go along.
        redo : bool
            Whether masks that an earlier propagation made are made anew; what is drawn, corrected or approved, and
            what was prompted, is kept.

        Raises
        ------
        InputError
            If there is no stack, or no object to follow, or image and labels do not fit.
        """
        source, chosen = self._need_image(plane.image), self._need_labels(labels)
        check_plane(plane, source.shape)
        if source.shape != chosen.store.shape:
            raise InputError(f"The labels are {chosen.store.shape}, the image is {source.shape}; they must fit.")
        if not plane.index:
            raise InputError("This image is a single plane: there is nothing to propagate through.")
        if ids is None:
            ids = [one.label for one in find_objects(chosen.store.read(plane))]
        if not ids:
            raise InputError("There is no object in this plane: add one first, then propagate it.")
        planes = snapshot_planes(chosen, source, plane, axis % len(plane.index), ids, redo)
        number = next(self._edits)

        def submit(step: Callable[[CancelToken], bool]) -> Future[bool]:
            return self._worker.submit_with(Priority.NORMAL, ("propagate", number), step)

        run = PropagationRun(
            submit, self._engine(), planes, ids, config, lambda done: emit_safely(self.propagated, done)
        )
        future = run.start()
        future.add_done_callback(self._report_failure)
        return future

    def resegment_stack(
        self, plane: PlaneKey, config: PropagationConfig | None = None, *, labels: str | None = None, axis: int = -1
    ) -> Future[Proposal]:
        """`propagate` all objects anew with the active adapter, from all that was drawn, corrected or prompted."""
        ids = [record.id for record in self._need_labels(labels).records()]
        return self.propagate(plane, ids, config, labels=labels, axis=axis, redo=True)


def _stored(asked: Asked, shape: tuple[int, int]) -> StoredPrompts:
    """The prompts of a mask as they are kept with an object."""
    items: list[PromptItem] = []
    if asked.box is not None:
        items.append(make_item(len(items), "box", asked.box, True, shape))
    if asked.points is not None and asked.point_labels is not None:
        for point, positive in zip(asked.points, asked.point_labels, strict=True):
            items.append(make_item(len(items), "point", point, bool(positive), shape))
    if asked.mask is not None:
        items.append(PromptItem(len(items), "mask", True, np.empty((0, 2)), asked.mask))
    return StoredPrompts(tuple(items), MaskOptions())

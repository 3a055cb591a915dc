"""Objects followed through a stack, previewed before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_sam_lora.errors import InputError
from napari_sam_lora.labels import areas_in
from napari_sam_lora.session.content_session import ContentSession
from napari_sam_lora.session.jobs.worker import CancelToken, Priority, emit_safely
from napari_sam_lora.session.labels.proposals import Proposal
from napari_sam_lora.session.plane_key import PlaneKey, check_plane
from napari_sam_lora.session.propagation.run import PropagationRun
from napari_sam_lora.session.propagation.snapshot import snapshot_planes

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.stacks.propagation.config import PropagationConfig


class StackSession(ContentSession):
    """The part of `Session` that works through stacks.

    Events that may come from a worker thread
    -----------------------------------------
    propagated : (Proposal)
        The changes of one plane of the propagation that is going on; ``progressed`` has the key ("propagate", …).
    """

    propagated = Signal(object)

    def __init__(
        self, model: Model | None = None, *, adapters_folder: Path | None = None, threads: int | None = None
    ) -> None:
        super().__init__(model, adapters_folder=adapters_folder, threads=threads)
        self._propagation: PropagationRun | None = None

    def propagate(
        self,
        plane: PlaneKey,
        ids: Sequence[int] | None = None,
        config: PropagationConfig | None = None,
        *,
        labels: str | None = None,
        axis: int = -1,
        redo: bool = False,
        replay: bool = False,
    ) -> Future[Proposal]:
        """Follow objects from the planes they are in through the stack; changes nothing by itself.

        Every plane in which an object is already is a key plane of it. Pixels of other objects are not taken, and
        planes marked as complete not changed. ``cancel("propagate")`` ends it, and the result is what was done until
        then: give it to `LabelSet.apply`, or let `propagation` go on.

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
            Whether masks that an earlier propagation made are made anew, within the bounds and in the direction that
            is gone; what is drawn, corrected or approved, and what was prompted, is kept.
        replay : bool
            Whether the prompts of key planes are replayed first, where nobody has corrected or approved the mask.

        Raises
        ------
        InputError
            If there is no stack, axis or object to follow, or image and labels do not fit.
        """
        source, chosen = self._need_image(plane.image), self._need_labels(labels)
        check_plane(plane, source.shape)
        if source.shape != chosen.store.shape:
            raise InputError(f"The labels are {chosen.store.shape}, the image is {source.shape}; they must fit.")
        if not plane.index:
            raise InputError("This image is a single plane: there is nothing to propagate through.")
        if not -len(plane.index) <= axis < len(plane.index):
            raise InputError(f"There is no axis {axis} to go along: beside a plane the image has {len(plane.index)}.")
        if ids is None:
            ids = list(areas_in(chosen.store.read(plane)))
        if not ids:
            raise InputError("There is no object in this plane: add one first, then propagate it.")
        engine = self._engine()
        planes = snapshot_planes(chosen, source, plane, axis % len(plane.index), ids, config, redo, replay)
        number = next(self._edits)

        def submit(step: Callable[[CancelToken], bool]) -> Future[bool]:
            step_future = self._worker.submit_with(Priority.NORMAL, ("propagate", number), step)
            step_future.add_done_callback(self._report_failure)
            return step_future

        run = PropagationRun(submit, engine, planes, ids, config, lambda done: emit_safely(self.propagated, done))
        self._propagation = run
        return run.start()

    def resegment_stack(
        self, plane: PlaneKey, config: PropagationConfig | None = None, *, labels: str | None = None, axis: int = -1
    ) -> Future[Proposal]:
        """Segment a stack again with the active adapter: prompts are replayed, and objects propagated anew from them.

        What is drawn, corrected or approved stays, and so do planes marked as complete.

        Raises
        ------
        InputError
            As `propagate` does; also if every object is approved.
        """
        records = self._need_labels(labels).records()
        ids = [record.id for record in records if not record.approved]
        if records and not ids:
            raise InputError("All objects are approved: there is nothing to segment again.")
        return self.propagate(plane, ids, config, labels=labels, axis=axis, redo=True, replay=True)

    @property
    def propagation(self) -> PropagationRun | None:
        """The propagation that is going on, or the last one."""
        return self._propagation

    def cancel(self, kind: str) -> None:
        """Cancel the waiting or running work of a kind: "propagate" too, which keeps what was done."""
        if kind == "propagate" and self._propagation is not None:
            self._propagation.stop()
        super().cancel(kind)

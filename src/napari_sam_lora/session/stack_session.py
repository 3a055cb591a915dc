"""Propagation of objects through a stack, as a proposal before anything is changed."""

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
from napari_sam_lora.session.plane_key import PlaneKey, check_plane, labels_do_not_fit
from napari_sam_lora.session.propagation.run import PropagationRun
from napari_sam_lora.session.propagation.snapshot import snapshot_planes

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.stacks.propagation.config import PropagationConfig


class StackSession(ContentSession):
    """Session that propagates objects through stacks; the base of `Session`, where most events are described.

    Events that may come from a worker thread
    -----------------------------------------
    propagated : (Proposal)
        Changes of one plane of the running propagation; ``progressed`` has the key ("propagate", …).
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
        """Follow objects through the stack from the planes that they are in; nothing is changed yet.

        Every plane that already has an object is a key plane of it. Pixels of other objects are not overwritten, and
        planes marked as complete are not changed. After ``cancel("propagate")`` the result holds what was done until
        then: give it to `LabelSet.apply`, or continue with ``propagation.start()``.

        Parameters
        ----------
        plane : PlaneKey
            A plane of the stack.
        ids : sequence of int, optional
            Objects to follow; by default those of the plane.
        config : PropagationConfig, optional
        labels : str, optional
            Id of the label image; by default `target`.
        axis : int
            Position in ``plane.index`` of the axis to propagate along.
        redo : bool
            Whether masks of an earlier propagation are replaced, within the bounds and in the direction of this one.
            Masks that were drawn, prompted, corrected or approved are kept.
        replay : bool
            Whether key planes are first segmented again from their prompts, where nobody has corrected or approved the
            mask.

        Raises
        ------
        InputError
            If there is no stack, axis or object to follow, or image and labels do not fit.
        """
        source, chosen = self._need_image(plane.image), self._need_labels(labels)
        check_plane(plane, source.shape)
        if source.shape != chosen.store.shape:
            raise labels_do_not_fit(chosen.store.shape, source.shape)
        if not plane.index:
            raise InputError("This image is a single plane: there is nothing to propagate through.", code="not-a-stack")
        if not -len(plane.index) <= axis < len(plane.index):
            raise InputError(
                f"There is no axis {axis} to propagate along: the image has {len(plane.index)} beside the plane.",
                code="axis-out-of-range",
            )
        if ids is None:
            ids = list(areas_in(chosen.store.read(plane)))
        if not ids:
            raise InputError(
                "There is no object in this plane: add one first, then propagate it.", code="no-object-in-plane"
            )
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
        """Segment a stack again with the active adapter: replay the prompts, then propagate the objects from them.

        Masks that were drawn, corrected or approved stay, and so do planes marked as complete.

        Raises
        ------
        InputError
            In the cases of `propagate`, and if every object is approved.
        """
        records = self._need_labels(labels).records()
        ids = [record.id for record in records if not record.approved]
        if records and not ids:
            raise InputError("All objects are approved: there is nothing to segment again.", code="all-approved")
        return self.propagate(plane, ids, config, labels=labels, axis=axis, redo=True, replay=True)

    @property
    def propagation(self) -> PropagationRun | None:
        """Present propagation, or the last one; None before the first."""
        return self._propagation

    def cancel(self, kind: str) -> None:
        """Cancel the waiting or running work of a kind; a cancelled "propagate" keeps what was done."""
        if kind == "propagate" and self._propagation is not None:
            self._propagation.stop()
        super().cancel(kind)

"""Propagation of objects through the stacks of a session, as a proposal before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from itertools import count
from typing import TYPE_CHECKING

from psygnal import Signal

from napari_sam_lora.errors import InputError
from napari_sam_lora.labels import areas_in
from napari_sam_lora.session.jobs.worker import CancelToken, Priority, emit_safely
from napari_sam_lora.session.labels.label_sets import LabelSets
from napari_sam_lora.session.labels.proposals import Proposal
from napari_sam_lora.session.models import Models
from napari_sam_lora.session.plane_key import ImageSource, PlaneKey, check_plane, labels_do_not_fit, need_image
from napari_sam_lora.session.propagation.run import PropagationRun
from napari_sam_lora.session.propagation.snapshot import snapshot_planes

if TYPE_CHECKING:
    from napari_sam_lora.parameters.propagation import PropagationConfig


class Propagation:
    """Propagates objects with the active adapter, one run at a time.

    Events that may come from a worker thread
    -----------------------------------------
    propagated : (Proposal)
        Changes of one plane of the present run; `Models.progressed` has the key ("propagate", …).

    Parameters
    ----------
    images : mapping of str to ImageSource
        Present images of the session by id.
    labels : LabelSets
    models : Models
    """

    propagated = Signal(object)

    def __init__(self, images: Mapping[str, ImageSource], labels: LabelSets, models: Models) -> None:
        self._images, self._labels, self._models = images, labels, models
        self._run: PropagationRun | None = None
        self._numbers = count()

    def start(
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
        planes marked as complete are not changed. After `stop` the result holds what was done until then: give it to
        `LabelSet.apply`, or continue with ``run.start()``.

        Parameters
        ----------
        plane : PlaneKey
            A plane of the stack.
        ids : sequence of int, optional
            Objects to follow; by default those of the plane.
        config : PropagationConfig, optional
        labels : str, optional
            Id of the label image; by default the target.
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
        source, chosen = need_image(self._images, plane.image), self._labels.need(labels)
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
        engine = self._models.engine()
        planes = snapshot_planes(chosen, source, plane, axis % len(plane.index), ids, config, redo, replay)
        key = "propagate", next(self._numbers)

        def submit(step: Callable[[CancelToken], bool]) -> Future[bool]:
            return self._models.submit(Priority.NORMAL, key, step)

        self._run = PropagationRun(submit, engine, planes, ids, config, lambda done: emit_safely(self.propagated, done))
        return self._run.start()

    def resegment_stack(
        self, plane: PlaneKey, config: PropagationConfig | None = None, *, labels: str | None = None, axis: int = -1
    ) -> Future[Proposal]:
        """Segment a stack again with the active adapter: replay the prompts, then propagate the objects from them.

        Masks that were drawn, corrected or approved stay, and so do planes marked as complete.

        Raises
        ------
        InputError
            In the cases of `start`, and if every object is approved.
        """
        records = self._labels.need(labels).records()
        ids = [record.id for record in records if not record.approved]
        if records and not ids:
            raise InputError("All objects are approved: there is nothing to segment again.", code="all-approved")
        return self.start(plane, ids, config, labels=labels, axis=axis, redo=True, replay=True)

    @property
    def run(self) -> PropagationRun | None:
        """Present run, or the last one; None before the first."""
        return self._run

    def stop(self) -> None:
        """Stop the run after the present plane; it keeps what was done. Does nothing without a run."""
        if self._run is not None:
            self._run.stop()
        self._models.cancel("propagate")

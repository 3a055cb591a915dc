"""Fine-tuning on the labels of a session: its training set, its run, and the adapter that results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal

from napari_sam_lora.errors import AdapterError, InputError, TrainingError
from napari_sam_lora.io.tables.classes import ObjectClasses
from napari_sam_lora.session.jobs.worker import TorchThread, emit_safely
from napari_sam_lora.session.labels.classes import merge_classes
from napari_sam_lora.session.labels.label_sets import LabelSets
from napari_sam_lora.session.labels.records import ObjectClass
from napari_sam_lora.session.models import Models
from napari_sam_lora.session.plane_key import ImageSource, labels_do_not_fit, need_image
from napari_sam_lora.session.training_job import TrainingJob, TrainingPlane, training_pair

if TYPE_CHECKING:
    from napari_sam_lora.lora.adapter import Adapter
    from napari_sam_lora.parameters.training import TrainConfig
    from napari_sam_lora.training.data.counts import ObjectCounts
    from napari_sam_lora.training.run import FineTuneReport


class Training:
    """Trains adapters in a thread of its own, one run at a time, while prompting goes on.

    Events that may come from a worker thread
    -----------------------------------------
    training_changed : (TrainingEvent)
        State of the run; see `TrainingJob.changed`.

    Parameters
    ----------
    images : mapping of str to ImageSource
        Present images of the session by id.
    labels : LabelSets
    models : Models
        Its library gets the adapters.
    threads : int, optional
        Threads that torch may use for one operation.
    """

    training_changed = Signal(object)

    def __init__(
        self, images: Mapping[str, ImageSource], labels: LabelSets, models: Models, threads: int | None = None
    ) -> None:
        self._images, self._labels, self._models = images, labels, models
        self._thread = TorchThread("napari-sam-lora training", threads)
        self._job: TrainingJob | None = None
        self._held_out: frozenset[str] = frozenset()

    # Training set

    @property
    def held_out(self) -> frozenset[str]:
        """Units held out by training runs so far and by `hold_out`."""
        return self._held_out

    def hold_out(self, held_out: Iterable[str]) -> None:
        """Hold out these units in later runs too, such as `FineTuneReport.held_out` of earlier runs of a project."""
        self._held_out |= set(held_out)

    def planes(
        self, include: Sequence[tuple[str, str]] | None = None, only_checked: bool = False
    ) -> tuple[TrainingPlane, ...]:
        """Copy the labelled planes that a run would train on.

        Parameters
        ----------
        include : sequence of (image, labels), optional
            Ids of pairs of the same shape; by default every label image with the first image of its shape.
        only_checked : bool
            Leave out objects that nobody has checked: neither painted nor approved.

        Raises
        ------
        InputError
            If an image and its labels differ in shape.
        """
        pairs = self._default_pairs() if include is None else include
        classes: tuple[ObjectClass, ...] = ()
        planes: list[TrainingPlane] = []
        for image, labels in pairs:
            chosen = self._labels.need(labels)
            classes, ids = merge_classes(classes, {one.id: one.name for one in chosen.classes})
            names = {one.id: one.name for one in classes}
            of_object = {one.id: ids[one.class_id] for one in chosen.records() if one.class_id in ids}
            planes += self._snapshot(image, labels, only_checked, ObjectClasses(of_object, names))
        return tuple(planes)

    def count_unchecked(self, include: Sequence[tuple[str, str]] | None = None) -> int:
        """Count the objects, in each of their planes, that ``only_checked`` leaves out; see `planes`."""
        pairs = self._default_pairs() if include is None else include
        count = 0
        for _, labels in pairs:
            chosen = self._labels.need(labels)
            chosen.labelled_planes()  # reads all planes, so that `where` knows them
            count += sum(
                not record.is_checked_in(plane) for record in chosen.records() for plane in chosen.where(record.id)
            )
        return count

    def counter(
        self,
        config: TrainConfig,
        include: Sequence[tuple[str, str]] | None = None,
        start: str = "",
        only_checked: bool = False,
    ) -> Callable[[], ObjectCounts]:
        """Copy the labels, and return a function that counts what a run with these arguments would learn and leave out.

        It reads the labelled planes: call it in a worker thread.

        Raises
        ------
        InputError
            If no model is loaded.
        """
        model, planes = self._models.need(), self.planes(include, only_checked)
        start_adapter = self._models.adapters.get(start) if start else None
        unchecked = self.count_unchecked(include) if only_checked else 0
        held_out = sorted(self._held_out)

        def count() -> ObjectCounts:
            from napari_sam_lora.api import count_objects  # noqa: PLC0415

            pairs = (training_pair(plane, config) for plane in planes)
            counts = count_objects(model, pairs, config, held_out=held_out, start=start_adapter)
            return replace(counts, unchecked=unchecked)

        return count

    # The run

    def start(
        self,
        config: TrainConfig | None = None,
        include: Sequence[tuple[str, str]] | None = None,
        name: str = "adapter",
        start: str = "",
        only_checked: bool = False,
    ) -> TrainingJob:
        """Fine-tune the base model on a snapshot of the labels, in a thread of its own.

        Prompting and painting go on with the present model meanwhile. At the end the adapter is added to the library
        under this name, and is activated only if it is better than the base model and its objects are of several images
        or stacks (`FineTuneReport.use_at_once`). Later runs of the session hold out what this run held out.

        Parameters
        ----------
        config : TrainConfig, optional
        include, only_checked : optional
            See `planes`.
        name : str
            Name for the new adapter; a number is appended if it is in use.
        start : str
            Adapter from which training continues; by default it starts from the base model.

        Raises
        ------
        TrainingError
            If nothing is labelled, or another run has not ended yet.
        InputError
            If no model is loaded.
        """
        model = self._models.need()
        if self._job is not None and not self._job.event.is_final:
            raise TrainingError(
                "A training run is already in progress: stop or discard it first.", code="training-in-progress"
            )
        planes = self.planes(include, only_checked)
        if not planes:
            raise TrainingError("There is nothing to learn from: label a few objects first.", code="no-labelled-planes")

        def keep(adapter: Adapter, report: FineTuneReport) -> tuple[str, bool]:
            return self._keep(name, adapter, report)

        start_adapter = self._models.adapters.get(start) if start else None
        unchecked = self.count_unchecked(include) if only_checked else 0
        held_out = sorted(self._held_out)
        job = self._job = TrainingJob(model, planes, config, held_out, keep, self._thread, start_adapter, unchecked)
        job.changed.connect(lambda event: emit_safely(self.training_changed, event))
        job.start()
        return job

    @property
    def job(self) -> TrainingJob | None:
        """Present training run, or the last one; None before the first."""
        return self._job

    @property
    def is_running(self) -> bool:
        """Return whether a run has started and not ended."""
        return self._job is not None and not self._job.event.is_final

    def stop(self) -> None:
        """Stop training and keep what was learned; see `TrainingJob.stop`. Does nothing without a run."""
        if self._job is not None:
            self._job.stop()

    def discard(self) -> None:
        """Stop training and keep nothing. Does nothing without a run."""
        if self._job is not None:
            self._job.discard()

    def close(self, timeout: float | None = None) -> bool:
        """Discard the run and end its thread; return whether it has ended within the timeout (seconds)."""
        self.discard()
        return self._thread.close(timeout)

    def _keep(self, name: str, adapter: Adapter, report: FineTuneReport) -> tuple[str, bool]:
        """Add an adapter to the library and activate it if it may be used at once; called in the training thread."""
        kept = self._models.adapters.add(adapter, name)
        self._held_out |= set(report.held_out)
        if not report.use_at_once:
            return kept, False
        try:
            self._models.activate(kept)
        except (AdapterError, InputError):  # another model was loaded meanwhile
            return kept, False
        return kept, True

    def _default_pairs(self) -> list[tuple[str, str]]:
        """Pair each label image with the first image of the same shape."""
        pairs = []
        for labels, chosen in self._labels.items():
            image = next((name for name, one in self._images.items() if one.shape == chosen.store.shape), None)
            if image is not None:
                pairs.append((image, labels))
        return pairs

    def _snapshot(self, image: str, labels: str, only_checked: bool, classes: ObjectClasses) -> list[TrainingPlane]:
        """Copy the labelled planes of an image with the prompts of their objects."""
        source, chosen = need_image(self._images, image), self._labels.need(labels)
        if source.shape != chosen.store.shape:
            raise labels_do_not_fit(chosen.store.shape, source.shape)
        records = chosen.records()
        planes = []
        for plane in chosen.labelled_planes(image):
            drawn = chosen.drawn_in(plane)
            left_out = np.isin(drawn, [one.id for one in records if only_checked and not one.is_checked_in(plane)])
            drawn[left_out] = 0
            if drawn.any():
                prompts = {one.id: one.prompts[plane] for one in records if plane in one.prompts}
                # An object that is left out must not be learned as background.
                complete = plane.on("") in chosen.complete_planes and not left_out.any()
                planes.append(TrainingPlane(plane, source, drawn, prompts, complete, classes))
        return planes

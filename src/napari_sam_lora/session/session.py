"""The session: images, labels, prompts, adapters and training of one viewer, without the viewer."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from psygnal import Signal

from napari_sam_lora.errors import TrainingError
from napari_sam_lora.session.jobs.worker import Priority, emit_safely
from napari_sam_lora.session.labels.label_set import LabelSet
from napari_sam_lora.session.labels.proposals import Proposal
from napari_sam_lora.session.labels.records import StoredPrompts
from napari_sam_lora.session.plane_key import PlaneKey, labels_do_not_fit
from napari_sam_lora.session.prompting.preview import MaskOptions
from napari_sam_lora.session.prompting.replay import ReplayPlane, everything, own_prompt, replay
from napari_sam_lora.session.stack_session import StackSession
from napari_sam_lora.session.training_job import TrainingJob, TrainingPlane

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.lora.adapter import Adapter
    from napari_sam_lora.model.automatic import EverythingConfig
    from napari_sam_lora.training.config import TrainConfig
    from napari_sam_lora.training.run import FineTuneReport


class Session(StackSession):
    """Images, prompts, labels, adapters and training of one viewer.

    Call every method on the thread that made the session (the owner's thread). None of them waits for torch: long work
    returns a Future, whose callbacks (``add_done_callback``) run in the worker thread.

    This class adds work on whole planes and training to its bases: `ModelSession` has the model, the adapters and the
    worker thread, `ContentSession` the images, labels and prompts, and `StackSession` propagation.

    Example::

        session = Session(load_model("sam_nano"))
        session.add_image("nuclei", ArraySource(image))
        session.add_labels("cells", ArrayStore(np.zeros(image.shape, int)))
        plane = PlaneKey.of("nuclei", 2)
        session.add_prompt(plane, "box", [40, 60, 70, 95])
        session.commit(session.preview(plane).result())
        job = session.start_training(TrainConfig(steps=200))
        job.wait()
        session.labels["cells"].apply(session.resegment().result())
        session.close()

    Events on the owner's thread
    ----------------------------
    images_changed, labels_changed : ()
        An image or label image was added or removed. `LabelSet.objects_changed` tells of changes inside one.
    draft_changed : (PlaneKey)
        Prompts of this plane have changed.

    Events that may come from a worker thread
    -----------------------------------------
    Connect a GUI through a queue, such as a Qt signal.

    model_changed : ()
        Another model was loaded.
    active_changed : (str)
        Name of the active adapter; empty for the base model.
    busy_changed : (bool)
        Whether the worker has jobs.
    progressed : (key, done, total)
        Progress of the running job; key[0] is "model", "preview", "everything", "resegment", "embed" or "propagate".
    failed : (str)
        A job failed; the message for the user. The Future has the exception.
    training_changed : (TrainingEvent)
        State of the training run; see `TrainingJob.changed`.

    Parameters
    ----------
    model : Model, optional
        Model to use; by default none until `load_model` is called.
    adapters_folder : Path, optional
        Where adapters are kept; in memory by default.
    threads : int, optional
        Threads that torch may use for one operation, in the worker and in the training thread.
    """

    training_changed = Signal(object)

    def __init__(
        self, model: Model | None = None, *, adapters_folder: Path | None = None, threads: int | None = None
    ) -> None:
        super().__init__(model, adapters_folder=adapters_folder, threads=threads)
        self._training: TrainingJob | None = None

    # Whole planes

    def resegment(self, labels: str | None = None, planes: Sequence[PlaneKey] | None = None) -> Future[Proposal]:
        """Segment objects again from their stored prompts with the active adapter, in some planes or in all.

        The result is a proposal; nothing is changed yet. Painted and approved objects are left alone, and prompts on
        images that are no longer open are not used.
        """
        chosen = self._need_labels(labels)
        targets: dict[PlaneKey, dict[int, tuple[StoredPrompts, ...]]] = {}
        left_alone = 0
        for record in chosen.records():
            here = {plane: stored for plane, stored in record.prompts.items() if planes is None or plane in planes}
            free = {plane: stored for plane, stored in here.items() if not record.is_checked_in(plane)}
            if not free:
                left_alone += bool(here) or planes is None
                continue
            for plane, stored in free.items():
                targets.setdefault(plane, {})[record.id] = stored
        return self._replay(chosen, targets, left_alone)

    def refine(
        self,
        planes: Sequence[PlaneKey],
        labels: str | None = None,
        ids: Sequence[int] | None = None,
        by: Literal["box", "mask"] = "box",
    ) -> Future[Proposal]:
        """Segment objects again with their own box or mask as the prompt; only a proposal, nothing is changed yet.

        Parameters
        ----------
        ids : sequence of int, optional
            Objects to refine; by default those without prompts that are not approved.
        """
        chosen = self._need_labels(labels)
        if ids is None:
            ids = [record.id for record in chosen.records() if not record.prompts and not record.approved]
        targets: dict[PlaneKey, dict[int, tuple[StoredPrompts, ...]]] = {}
        for plane in planes:
            pixels = chosen.store.read(plane)
            for label in np.intersect1d(pixels, list(ids)):
                item = own_prompt(pixels == label, by)
                targets.setdefault(plane, {})[int(label)] = (StoredPrompts((item,), MaskOptions()),)
        return self._replay(chosen, targets, 0)

    def everything(
        self,
        plane: PlaneKey,
        labels: str | None = None,
        config: EverythingConfig | None = None,
        smallest: int = 0,
    ) -> Future[Proposal]:
        """Propose all objects of a plane that lie on unlabelled pixels; nothing is changed yet."""
        source, pixels = self._need_image(plane.image), self._need_labels(labels).store.read(plane)
        if pixels.shape != plane.shape(source.shape):
            raise labels_do_not_fit(pixels.shape, plane.shape(source.shape))
        key = ("everything",)
        return self._submit(Priority.NORMAL, key, everything, self._engine(), source, plane, pixels, config, smallest)

    def _replay(
        self, labels: LabelSet, targets: dict[PlaneKey, dict[int, tuple[StoredPrompts, ...]]], left_alone: int
    ) -> Future[Proposal]:
        """Queue the segmentation of stored prompts, by plane and object; skip images that do not fit."""
        planes = []
        for plane, wanted in sorted(targets.items()):
            source = self._images.get(plane.image)
            if source is None or source.shape != labels.store.shape:
                left_alone += len(wanted)
                continue
            pixels = labels.store.read(plane)
            ids = set(np.unique(pixels).tolist())
            present = {label: stored for label, stored in wanted.items() if label in ids}
            if present:
                planes.append(ReplayPlane(plane, source, pixels, present))
        return self._submit(Priority.NORMAL, ("resegment",), replay, self._engine(), planes, left_alone)

    # Training

    def training_planes(
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
        return tuple(plane for image, labels in pairs for plane in self._snapshot(image, labels, only_checked))

    def start_training(
        self,
        config: TrainConfig | None = None,
        include: Sequence[tuple[str, str]] | None = None,
        name: str = "adapter",
        start: str = "",
        only_checked: bool = False,
    ) -> TrainingJob:
        """Fine-tune the base model on a snapshot of the labels, in a thread of its own.

        Prompting and painting go on with the present model meanwhile. At the end the adapter is added to `adapters`
        under this name, and is activated only if it is better than the base model. Later runs of the session hold out
        what this run held out.

        Parameters
        ----------
        config : TrainConfig, optional
        include, only_checked : optional
            See `training_planes`.
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
        model = self._need_model()
        if self._training is not None and not self._training.event.is_final:
            raise TrainingError(
                "A training run is already in progress: stop or discard it first.", code="training-in-progress"
            )
        planes = self.training_planes(include, only_checked)
        if not planes:
            raise TrainingError("There is nothing to learn from: label a few objects first.", code="no-labelled-planes")

        def keep(adapter: Adapter, report: FineTuneReport) -> tuple[str, bool]:
            return self._keep(name, adapter, report)

        start_adapter = self.adapters.get(start) if start else None
        job = self._training = TrainingJob(
            model, planes, config, sorted(self._held_out), keep, self._trainer, start_adapter
        )
        job.changed.connect(lambda event: emit_safely(self.training_changed, event))
        job.start()
        return job

    @property
    def training(self) -> TrainingJob | None:
        """Present training run, or the last one; None before the first."""
        return self._training

    def stop(self) -> None:
        """Stop training and keep what was learned; see `TrainingJob.stop`. Does nothing without a run."""
        if self._training is not None:
            self._training.stop()

    def discard(self) -> None:
        """Stop training and keep nothing. Does nothing without a run."""
        if self._training is not None:
            self._training.discard()

    def close(self, timeout: float | None = None) -> bool:
        """Discard training, cancel all work and end all threads; return whether they ended in time.

        Threads that need longer end by themselves, and the program waits for them when it exits. Closing twice does no
        harm.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for each thread; by default as long as it takes.
        """
        self.discard()
        return self._end_threads(timeout)

    def _keep(self, name: str, adapter: Adapter, report: FineTuneReport) -> tuple[str, bool]:
        """Add an adapter to the library and activate it if it is better; called in the training thread."""
        kept = self.adapters.add(adapter, name)
        self._held_out |= set(report.held_out)
        model = self._model
        is_better = report.verdict == "better"
        if is_better and model is not None and model.loaded.weights_hash == adapter.info.base_hash:
            self._set_active((kept, self.adapters.get(kept)))
            return kept, True
        return kept, False

    def _default_pairs(self) -> list[tuple[str, str]]:
        """Pair each label image with the first image of the same shape."""
        pairs = []
        for labels, chosen in self._labels.items():
            image = next((name for name, one in self._images.items() if one.shape == chosen.store.shape), None)
            if image is not None:
                pairs.append((image, labels))
        return pairs

    def _snapshot(self, image: str, labels: str, only_checked: bool) -> list[TrainingPlane]:
        """Copy the labelled planes of an image with the prompts of their objects."""
        source, chosen = self._need_image(image), self._need_labels(labels)
        if source.shape != chosen.store.shape:
            raise labels_do_not_fit(chosen.store.shape, source.shape)
        records = chosen.records()
        planes = []
        for plane in chosen.labelled_planes(image):
            drawn = chosen.drawn_in(plane)
            drawn[np.isin(drawn, [one.id for one in records if only_checked and not one.is_checked_in(plane)])] = 0
            if drawn.any():
                prompts = {one.id: one.prompts[plane] for one in records if plane in one.prompts}
                complete = plane.on("") in chosen.complete_planes
                planes.append(TrainingPlane(plane, source, drawn, prompts, complete))
        return planes

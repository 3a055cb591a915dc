"""Planes of a run, and which of their objects it learns, holds out and leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from napari_sam_lora.images import Preprocessing
from napari_sam_lora.model.checkpoints import LoadedModel
from napari_sam_lora.model.input_size import mask_stride
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.training.data.counts import ObjectCounts
from napari_sam_lora.training.data.crops import cut_large
from napari_sam_lora.training.data.samples import Labelled, ObjectRef, Plane, mark_complete, snapshot
from napari_sam_lora.training.data.split import Plan, Split, list_objects, plan_folds, source_of, split_objects
from napari_sam_lora.training.evaluation.acceptance import spread_objects
from napari_sam_lora.training.evaluation.validation import split_held_out

CheckedOn = Literal["other images", "same images", "one image"]


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Planes of a run, and the parts of their objects.

    Attributes
    ----------
    planes : tuple of Plane
    split : Split
        What is held out, and stays so in later runs.
    plan : Plan
        What the adapter is trained and tested on, and further adapters that test it.
    watched : tuple of ObjectRef
        Held-out objects that are checked during the run.
    judged : tuple of ObjectRef
        Held-out objects of the verdict.
    is_choosing : bool
        The two are different objects, so that the best state may be chosen.
    """

    planes: tuple[Plane, ...]
    split: Split
    plan: Plan
    watched: tuple[ObjectRef, ...]
    judged: tuple[ObjectRef, ...]
    is_choosing: bool

    @classmethod
    def of(
        cls,
        loaded: LoadedModel,
        pairs: Iterable[Labelled],
        config: TrainConfig,
        preprocessing: Preprocessing,
        held_out: Sequence[str] = (),
        resumed: bool = False,
    ) -> TrainingSet:
        """Copy the pairs and divide their objects; see `FineTuneRun`."""
        size = int(loaded.sam.image_encoder.img_size)
        cut = partial(cut_large, input_size=size, preprocessing=preprocessing, meaning=config.labels)
        pairs = map(mark_complete, pairs) if config.complete else pairs
        planes = snapshot(pairs, size, mask_stride(loaded.sam), preprocessing, config.labels, cut)
        objects = list_objects(planes, held_out)
        split = split_objects(objects, config.validation_share, held_out, planes)
        plan = plan_folds(objects, split, config.validation_share, planes, resumed)
        watched, judged, is_choosing = split_held_out(plan.main.test, planes)
        if not config.check_every:
            watched, judged, is_choosing = (), plan.main.test, False
        return cls(planes, split, plan, watched, judged, is_choosing)

    @property
    def counts(self) -> ObjectCounts:
        """Numbers of objects."""
        main = self.plan.main
        tested = [self.judged, *(fold.test for fold in self.plan.folds)]
        return ObjectCounts(
            learned=len(main.train),
            held_out=len(main.test),
            checked=sum(len(spread_objects(objects)) for objects in tested),
            leaking=main.leaking,
            too_small=sum(plane.too_small for plane in self.planes),
            outside_crops=sum(plane.outside_crops for plane in self.planes),
        )

    @property
    def checked_on(self) -> CheckedOn:
        """Return the place of held-out objects: other images (or stacks) than those learned, the same, or all one."""
        if len({source_of(plane) for plane in self.planes if plane.objects}) == 1:
            return "one image"
        checks = [one for one in (self.plan.main, *self.plan.folds) if one.test]
        is_other = all(self._sources(one.test).isdisjoint(self._sources(one.train)) for one in checks)
        return "other images" if checks and is_other else "same images"

    def _sources(self, objects: Iterable[ObjectRef]) -> set[str]:
        return {source_of(self.planes[ref.plane]) for ref in objects}

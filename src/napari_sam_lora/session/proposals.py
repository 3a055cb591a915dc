"""Proposals for whole planes: objects segmented again from their prompts or labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Literal

import numpy as np

from napari_sam_lora.masks import MaskOptions
from napari_sam_lora.session.jobs.worker import Priority
from napari_sam_lora.session.labels.label_set import LabelSet
from napari_sam_lora.session.labels.label_sets import LabelSets
from napari_sam_lora.session.labels.proposals import Proposal
from napari_sam_lora.session.labels.records import StoredPrompts
from napari_sam_lora.session.models import Models
from napari_sam_lora.session.plane_key import ImageSource, PlaneKey
from napari_sam_lora.session.prompting.replay import ReplayPlane, own_prompt, replay


class Proposals:
    """Computes proposals with the active adapter. Nothing is changed until one is given to `LabelSet.apply`.

    Parameters
    ----------
    images : mapping of str to ImageSource
        Present images of the session by id.
    labels : LabelSets
    models : Models
    """

    def __init__(self, images: Mapping[str, ImageSource], labels: LabelSets, models: Models) -> None:
        self._images, self._labels, self._models = images, labels, models

    def resegment(self, labels: str | None = None, planes: Sequence[PlaneKey] | None = None) -> Future[Proposal]:
        """Segment objects again from their stored prompts, in some planes or in all.

        Painted and approved objects are left alone, and prompts on images that are no longer open are not used.
        """
        chosen = self._labels.need(labels)
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
        """Segment objects again with their own box or mask as the prompt.

        Parameters
        ----------
        ids : sequence of int, optional
            Objects to refine; by default those without prompts that are not approved.
        """
        chosen = self._labels.need(labels)
        if ids is None:
            ids = [record.id for record in chosen.records() if not record.prompts and not record.approved]
        targets: dict[PlaneKey, dict[int, tuple[StoredPrompts, ...]]] = {}
        for plane in planes:
            pixels = chosen.store.read(plane)
            for label in np.intersect1d(pixels, list(ids)):
                item = own_prompt(pixels == label, by)
                targets.setdefault(plane, {})[int(label)] = (StoredPrompts((item,), MaskOptions()),)
        return self._replay(chosen, targets, 0)

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
        return self._models.submit(Priority.NORMAL, ("resegment",), replay, self._models.engine(), planes, left_alone)

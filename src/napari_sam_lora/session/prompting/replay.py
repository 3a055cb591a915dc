"""Proposals computed in the worker thread: replay of stored prompts, refinement of labels, and everything mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.masks import ObjectMask
from napari_sam_lora.overlap import region_iou
from napari_sam_lora.regions import Region, unite
from napari_sam_lora.session.jobs.worker import CancelToken
from napari_sam_lora.session.labels.classes import PredictedClass
from napari_sam_lora.session.labels.proposals import Proposal, ProposedChange
from napari_sam_lora.session.labels.records import StoredPrompts
from napari_sam_lora.session.labels.stores import Pixels
from napari_sam_lora.session.plane_key import ImageSource, PlaneKey
from napari_sam_lora.session.prompting.draft import PromptItem, make_item
from napari_sam_lora.session.prompting.engine import Engine

if TYPE_CHECKING:
    from napari_sam_lora.parameters.everything import EverythingConfig

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ReplayPlane:
    """Plane to segment again.

    Attributes
    ----------
    plane : PlaneKey
    source : ImageSource
    labels : int (y, x)
        Copy of the present labels.
    targets : dict of int to tuple of StoredPrompts
        Prompts of each object to segment again.
    """

    plane: PlaneKey
    source: ImageSource
    labels: Pixels
    targets: dict[int, tuple[StoredPrompts, ...]]


def replay(token: CancelToken, engine: Engine, planes: Sequence[ReplayPlane], left_alone: int) -> Proposal:
    """Segment objects again from their prompts, plane by plane."""
    changes: list[ProposedChange] = []
    unchanged = 0
    for number, one in enumerate(planes):
        token.progress(number, len(planes))
        for change in replay_plane(engine, one):
            if not change.new.area:
                left_alone += 1
            elif change.iou == 1:
                unchanged += 1
            else:
                changes.append(change)
    token.progress(len(planes), len(planes))
    changes.sort(key=lambda change: change.iou)
    return Proposal(tuple(changes), "re-segmented", engine.name, left_alone, unchanged)


def everything(
    token: CancelToken,
    engine: Engine,
    source: ImageSource,
    plane: PlaneKey,
    labels: Pixels,
    config: EverythingConfig | None,
    smallest: int,
) -> Proposal:
    """Propose all objects of a plane of which at least half is unlabelled, the best first."""
    from napari_sam_lora.stacks.everything import find_everything, numbered  # noqa: PLC0415

    token.check()
    found = find_everything(engine.predictor(), source.read(plane), config, token.progress)
    token.check()
    kept = [one for one in found if smallest <= one.region.area <= labels.size / 2]
    kept.sort(key=lambda one: -one.region.area)
    instances = numbered([one.region for one in kept], (labels.shape[0], labels.shape[1]))
    objects = []
    for number, one in enumerate(kept, start=1):
        y0, x0, y1, x1 = one.region.box
        objects.append(FoundObject(Region((y0, x0), instances[y0:y1, x0:x1] == number), one.score))
    return propose_new(plane, objects, labels, smallest, engine.name)


@dataclass(frozen=True, eq=False)
class FoundObject:
    """An object that was found without prompts, its score from 0 to 1, and its class if one is predicted."""

    region: Region
    score: float
    predicted: PredictedClass | None = None


def propose_new(
    plane: PlaneKey, objects: Sequence[FoundObject], labels: Pixels, smallest: int, adapter: str
) -> Proposal:
    """Propose objects on the unlabelled pixels (y, x) of a plane, the best first.

    Objects that are mostly labelled already, or of which fewer pixels are left than the smallest size, count as left
    alone.
    """
    changes, left_alone = [], 0
    for one in objects:
        y0, x0, y1, x1 = one.region.box
        free = one.region.crop & (labels[y0:y1, x0:x1] == 0)
        count = np.count_nonzero(free)
        if count < max(1, smallest) or 2 * count < one.region.area:
            left_alone += 1
            continue
        new = Region.of(free, (y0, x0))
        changes.append(ProposedChange(plane, 0, Region.empty(), new, one.score, 0.0, predicted=one.predicted))
    changes.sort(key=lambda change: -change.score)
    return Proposal(tuple(changes), "everything", adapter, left_alone)


def own_prompt(mask: Mask, by: str) -> PromptItem:
    """Make a prompt of the box or the mask of an object."""
    shape = (mask.shape[0], mask.shape[1])
    data = mask if by == "mask" else Region.of(mask).box
    return make_item(0, "mask" if by == "mask" else "box", data, True, shape)


def replay_plane(engine: Engine, one: ReplayPlane) -> list[ProposedChange]:
    """Segment the targets of one plane again; return also those that stay the same or have no pixel any more."""
    from napari_sam_lora.stacks.propagation.overlap import regions_of  # noqa: PLC0415

    stored = [(label, prompts) for label, several in one.targets.items() for prompts in several]
    masks: dict[int, list[ObjectMask]] = {label: [] for label in one.targets}
    for options in dict.fromkeys(prompts.options for _, prompts in stored):
        same_options = [(label, prompts) for label, prompts in stored if prompts.options == options]
        found = engine.segment(one.source, one.plane, [prompts.row for _, prompts in same_options], options)
        for (label, _), mask in zip(same_options, found, strict=True):
            if mask is not None:
                masks[label].append(mask)
    present, free = regions_of(one.labels), np.isin(one.labels, [0, *one.targets])
    changes = []
    for label, parts in masks.items():
        old, whole = present.get(label, Region.empty()), unite(mask.region for mask in parts)
        y0, x0, y1, x1 = whole.box
        new = Region.of(whole.crop & free[y0:y1, x0:x1], whole.origin)
        score = float(np.mean([mask.score for mask in parts])) if parts else 0.0
        prompts = one.targets[label]
        changes.append(ProposedChange(one.plane, label, old, new, score, region_iou(old, new), prompts))
    return changes

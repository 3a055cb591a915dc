"""Proposals computed in the worker thread: replay of stored prompts, and refinement of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.masks import ObjectMask
from napari_sam_lora.overlap import region_iou
from napari_sam_lora.regions import Region, unite
from napari_sam_lora.session.jobs.worker import CancelToken
from napari_sam_lora.session.labels.proposals import Proposal, ProposedChange
from napari_sam_lora.session.labels.records import StoredPrompts
from napari_sam_lora.session.labels.stores import Pixels
from napari_sam_lora.session.plane_key import ImageSource, PlaneKey
from napari_sam_lora.session.prompting.draft import PromptItem, make_item
from napari_sam_lora.session.prompting.engine import Engine

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

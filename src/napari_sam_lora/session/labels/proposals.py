"""Proposals: changes of objects that are shown before they are made, and the plan that makes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.labels import areas_in
from napari_sam_lora.regions import Region
from napari_sam_lora.session.labels.classes import PredictedClass, merge_classes
from napari_sam_lora.session.labels.edits import Plan, with_prompts
from napari_sam_lora.session.labels.records import ObjectClass, ObjectRecord, Origin, StoredPrompts
from napari_sam_lora.session.labels.stores import Pixels
from napari_sam_lora.session.plane_key import PlaneKey
from napari_sam_lora.text import pluralize

if TYPE_CHECKING:
    from napari_sam_lora.stacks.propagation.doubts import Doubt


@dataclass(frozen=True, eq=False)
class ProposedChange:
    """Proposed change of one object in one plane.

    Attributes
    ----------
    plane : PlaneKey
    label : int
        Id of the object; 0 for a new one.
    old, new : Region
        Present and proposed mask; ``old`` is empty for a new object.
    score : float
        Predicted IoU of the new mask.
    iou : float
        IoU of the old and the new mask; 1 means unchanged.
    prompts : tuple of StoredPrompts
        Prompts from which ``new`` was made.
    is_replayed : bool
        Whether ``new`` was made from stored prompts of this plane, in a propagation.
    predicted : PredictedClass, optional
        Class that the model predicts for a new object.
    """

    plane: PlaneKey
    label: int
    old: Region
    new: Region
    score: float
    iou: float
    prompts: tuple[StoredPrompts, ...] = ()
    is_replayed: bool = False
    predicted: PredictedClass | None = None


@dataclass(frozen=True, eq=False)
class DoubtfulMask:
    """Mask of a propagation that may have left its object.

    Attributes
    ----------
    plane : PlaneKey
    position : int
        Position of the plane along the axis of the propagation.
    label : int
        Id of the object.
    region : Region
    doubt : str
        "size": much larger than in the key planes; "intensity": other intensities than in the key plane.
    """

    plane: PlaneKey
    position: int
    label: int
    region: Region
    doubt: Doubt


@dataclass(frozen=True, eq=False)
class Proposal:
    """Proposed changes, of which all or some can be made with `LabelSet.apply`.

    Attributes
    ----------
    changes : tuple of ProposedChange
        The changes, those with the largest difference first; unchanged objects are left out.
    origin : str
        Origin of the accepted objects: "re-segmented", "everything", or in the changed planes "propagated".
    adapter : str
        Name of the adapter that was active; empty for the base model.
    left_alone : int
        Number of objects without a proposal, because they were painted or approved, or have no prompts.
    unchanged : int
        Number of objects whose mask stays the same.
    doubtful : tuple of DoubtfulMask
        Doubtful masks of a propagation, those that stay the same included.
    """

    changes: tuple[ProposedChange, ...]
    origin: Origin
    adapter: str
    left_alone: int = 0
    unchanged: int = 0
    doubtful: tuple[DoubtfulMask, ...] = ()


def plan_apply(
    planes: Mapping[PlaneKey, Pixels],
    changes: Sequence[ProposedChange],
    records: Mapping[int, ObjectRecord],
    next_id: int,
    proposal: Proposal,
    classes: Sequence[ObjectClass] = (),
) -> Plan:
    """Plan to make some of the changes of a proposal.

    Parameters
    ----------
    planes : mapping of PlaneKey to int (y, x)
        Present pixels of the planes of all changes; keys without an image.
    changes : sequence of ProposedChange
        Accepted changes.
    records : mapping of int to ObjectRecord
        Records of the present objects.
    next_id : int
    proposal : Proposal
    classes : sequence of ObjectClass
        Present classes; predicted ones of accepted objects are added.
    """
    after: dict[PlaneKey, Pixels] = {}
    changed: dict[int, ObjectRecord | None] = {}
    skipped = 0
    by_plane = defaultdict[PlaneKey, list[ProposedChange]](list)
    for change in changes:
        by_plane[change.plane.on("")].append(change)
    for key, present in planes.items():
        here, areas = by_plane[key], areas_in(present)
        usable = [one for one in here if _is_usable(one, present, areas, records)]
        placed, pixels = place_changes(present, usable, next_id)
        skipped += len(here) - len(placed)
        if placed:
            after[key] = pixels
        for label, change in placed:
            next_id = max(next_id, label + 1)
            record = changed.get(label) or records.get(label) or ObjectRecord(label)
            if change.predicted is not None and not change.label:
                predicted = change.predicted
                classes, ids = merge_classes(classes, {predicted.id: predicted.name})
                record = replace(record, class_id=ids[predicted.id])
            changed[label] = _record_after_change(record, change, proposal)
    message, code = _describe_changes(proposal.origin, len(changed), skipped)
    return Plan(proposal.origin, after, changed, tuple(changed), message, code, skipped=skipped, classes=tuple(classes))


def _describe_changes(origin: Origin, count: int, skipped: int) -> tuple[str, str]:
    """Return the message and code of a plan that changes some objects and skips others."""
    done = {"everything": "Added", "propagated": "Propagated"}.get(origin, "Changed")
    message, code = ("Nothing was changed", "unchanged")
    if count:
        message, code = f"{done} {pluralize(count, 'object')}", done.lower()
    if skipped:
        message += f"; {skipped} were left as they are, because they were changed meanwhile or have no free pixels"
    return f"{message}.", code


def _is_usable(
    change: ProposedChange, present: Pixels, areas: Mapping[int, int], records: Mapping[int, ObjectRecord]
) -> bool:
    """Return whether the object is still as it was when the proposal was made."""
    if not (change.new.area or change.old.area):
        return False
    if not change.label:
        return True
    record = records.get(change.label)
    old = _clip(change.old, present)
    y0, x0, y1, x1 = old.box
    same = areas.get(change.label, 0) == old.area and bool((present[y0:y1, x0:x1][old.crop] == change.label).all())
    return record is not None and not (record.approved and old.area) and same


def _clip(region: Region, plane: NDArray[Any]) -> Region:
    """Clip a region to a plane (y, x)."""
    inside = region.box[2] <= plane.shape[0] and region.box[3] <= plane.shape[1]
    return region if inside else Region.of(region.to_mask((plane.shape[0], plane.shape[1])))


def place_changes(
    present: Pixels, changes: Sequence[ProposedChange], next_id: int
) -> tuple[list[tuple[int, ProposedChange]], Pixels]:
    """Put new masks on free pixels, the higher score in front; an object that would vanish keeps its old mask.

    Parameters
    ----------
    present : int (y, x)
        Present pixels of the plane.
    changes : sequence of ProposedChange
        Changes in this plane.
    next_id : int
        Id of the first new object.

    Returns
    -------
    placed : list of (int, ProposedChange)
        Changes that were made, each with the id of its object.
    pixels : int (y, x)
    """
    removed = [one for one in changes if not one.new.area]
    left = [one for one in changes if one.new.area]
    while True:
        pixels = np.where(np.isin(present, [one.label for one in (*left, *removed) if one.label]), 0, present)
        free, owner = pixels == 0, np.zeros(present.shape, np.int64)  # of the change with this position, from 1
        for place in sorted(range(len(left)), key=lambda place: left[place].score):
            region = _clip(left[place].new, present)
            y0, x0, y1, x1 = region.box
            owner[y0:y1, x0:x1][region.crop & free[y0:y1, x0:x1]] = place + 1
        seen = np.bincount(owner.ravel(), minlength=len(left) + 1)[1:] > 0
        if seen.all():
            break
        left = [one for one, is_seen in zip(left, seen, strict=True) if is_seen]
    placed = [(change.label, change) for change in removed]
    ids = np.zeros(len(left) + 1, np.int64)
    for place, change in enumerate(left, start=1):
        ids[place] = change.label or next_id
        next_id += not change.label
        placed.append((int(ids[place]), change))
    return placed, np.where(owner, ids[owner], pixels)


def _record_after_change(record: ObjectRecord, change: ProposedChange, proposal: Proposal) -> ObjectRecord:
    """Return the record of an object after a change of a proposal."""
    key = change.plane.on("")
    if not change.new.area:
        origins = {plane: origin for plane, origin in record.origins.items() if plane != key}
        prompts = {plane: stored for plane, stored in record.prompts.items() if plane != change.plane}
        return replace(record, origins=MappingProxyType(origins), prompts=MappingProxyType(prompts))
    record = replace(record, score=change.score, adapter=proposal.adapter)
    is_propagated = proposal.origin == "propagated" and not change.is_replayed
    if record.origins.get(key) == "propagated" or is_propagated:
        record = replace(record, origins=MappingProxyType({**record.origins, key: "propagated"}))
        record = replace(record, prompts=MappingProxyType({**record.prompts, change.plane: change.prompts}))
    elif key not in record.origins:
        record = replace(record, origin="re-segmented" if change.is_replayed else proposal.origin)
    if change.prompts and change.plane not in record.prompts:
        record = with_prompts(record, change.plane, change.prompts)
    return record

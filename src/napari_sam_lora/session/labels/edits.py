"""What an edit would do to pixels and records, worked out before anything is changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam_lora.errors import InputError
from napari_sam_lora.regions import Region
from napari_sam_lora.session.labels.records import ObjectRecord, StoredPrompts
from napari_sam_lora.session.plane_key import Box, PlaneKey
from napari_sam_lora.session.prompting.preview import Preview

Pixels = NDArray[np.int64]


@dataclass(frozen=True)
class CommitPolicy:
    """What a commit does with the masks of a preview.

    Attributes
    ----------
    target : str
        "new": each mask is a new object with the next free id; "part": all masks become part of object
        ``label``; "replace": all masks together become object ``label`` in this plane, and their prompts its prompts
        there; "class": all masks are written with the value of class ``class_id`` (a semantic label image).
    label : int
        For "part" and "replace".
    class_id : int
        For "class"; for "new" the class of the objects.
    overwrite : bool
        Whether pixels of other objects may be taken.
    """

    target: Literal["new", "part", "replace", "class"] = "new"
    label: int = 0
    class_id: int = 0
    overwrite: bool = False


@dataclass(frozen=True)
class EditResult:
    """What an edit did.

    Attributes
    ----------
    ids : tuple of int
        Objects that were made or changed.
    pixels : int
        Pixels that changed.
    kept_out : int
        Pixels of masks that were not written, because a finished object has them.
    message : str
        One sentence for a person. If nothing was changed (``ids`` is empty) it says why.
    """

    ids: tuple[int, ...]
    pixels: int
    kept_out: int
    message: str


@dataclass(frozen=True, eq=False)
class Plan:
    """An edit that is worked out but not done.

    Attributes
    ----------
    name : str
    planes : mapping of PlaneKey to int64 (y, x)
        How these planes will look.
    records : mapping of int to ObjectRecord or None
        Records that will be new or different; None removes one.
    ids : tuple of int
        See `EditResult`; without any, nothing is to be done.
    message : str
    kept_out : int
    boxes : mapping of PlaneKey to tuple of int
        The part of a plane that ``planes`` has of it; those that are not in here are whole.
    """

    name: str
    planes: Mapping[PlaneKey, Pixels]
    records: Mapping[int, ObjectRecord | None]
    ids: tuple[int, ...]
    message: str
    kept_out: int = 0
    boxes: Mapping[PlaneKey, Box] = field(default_factory=dict)


def box_of_commit(preview: Preview, policy: CommitPolicy) -> Box:
    """The part of the plane that `plan_commit` needs."""
    if policy.target == "replace":
        return 0, 0, preview.masks.shape[1], preview.masks.shape[2]
    return Region.of(np.any(preview.masks, axis=0)).box


def plan_commit(
    present: Pixels,
    box: Box,
    preview: Preview,
    policy: CommitPolicy,
    next_id: int,
    records: Mapping[int, ObjectRecord],
) -> Plan:
    """Write the masks of a preview into a plane.

    Where masks of the preview overlap, the pixel goes to the one with the higher score.

    Parameters
    ----------
    present : int64 (h, w)
        Part of the plane as it is.
    box : tuple of int
        Which part; see `box_of_commit`.
    next_id : int
    records : mapping of int to ObjectRecord
        Of the objects that are there.
    """
    own = {"new": 0, "class": policy.class_id}.get(policy.target, policy.label)
    replaced = policy.target == "replace"
    y0, x0, y1, x1 = box
    masks = preview.masks[:, y0:y1, x0:x1]
    wanted: NDArray[np.bool_] = np.any(masks, axis=0)
    free = np.ones(present.shape, np.bool_) if policy.overwrite else (present == 0) | (present == own)
    kept_out = int(np.count_nonzero(wanted & ~free))
    owner = np.full(present.shape, -1, np.int32)
    for row in np.argsort(preview.scores, kind="stable"):  # the best one last
        owner[masks[row] & free] = row
    gains = (owner >= 0) & (replaced | (own == 0) | (present != own))
    rows = [row for row in range(len(preview)) if (gains & (owner == row)).any()]
    if not rows:
        return Plan("commit", {}, {}, (), _why_nothing(wanted, kept_out), kept_out)
    ids = [next_id + number for number in range(len(rows))] if policy.target == "new" else [own] * len(rows)
    pixels = np.where(present == own, 0, present) if replaced else present.copy()
    changed: dict[int, ObjectRecord] = {}
    if replaced:
        known = records[own]
        others = {plane: stored for plane, stored in known.prompts.items() if plane != preview.plane}
        changed[own] = replace(known, origin="prompted", prompts=MappingProxyType(others))
    for row, label in zip(rows, ids, strict=True):
        pixels[owner == row] = label
        changed[label] = _committed(changed.get(label) or records.get(label), label, preview, row, policy)
    ids, plane = list(changed), preview.plane.on("")
    message = _what_was_added(ids, policy, kept_out)
    return Plan("commit", {plane: pixels}, changed, tuple(ids), message, kept_out, {plane: box})


def plan_delete(planes: Mapping[PlaneKey, Pixels], labels: Sequence[int]) -> Plan:
    """Set all pixels of some objects to background."""
    after = {plane: np.where(np.isin(pixels, labels), 0, pixels) for plane, pixels in planes.items()}
    return Plan("delete", after, dict.fromkeys(labels), tuple(labels), f"Deleted {_objects(labels)}.")


def plan_merge(planes: Mapping[PlaneKey, Pixels], labels: Sequence[int], records: Mapping[int, ObjectRecord]) -> Plan:
    """Give some objects the id of the first."""
    first, *others = labels
    after = {plane: np.where(np.isin(pixels, others), first, pixels) for plane, pixels in planes.items()}
    members = [records[label] for label in labels]
    kept = members[0]
    for other in members[1:]:
        for plane, stored in other.prompts.items():
            kept = with_prompts(kept, plane, stored)
    # A painted part would be lost by replaying the prompts of the rest.
    origin = "painted" if any(one.origin == "painted" for one in members) else kept.origin
    kept = replace(kept, origin=origin, approved=all(one.approved for one in members))
    changed: dict[int, ObjectRecord | None] = {first: kept} | dict.fromkeys(others)
    return Plan("merge", after, changed, (first,), f"Merged {_objects(labels)} into object {first}.")


def plan_split(planes: Mapping[PlaneKey, Pixels], record: ObjectRecord, next_id: int) -> Plan:
    """Give each connected part of an object its own id; the largest keeps the present one.

    Parts that touch at a corner are connected. New ids go by size.

    Parameters
    ----------
    planes : mapping of PlaneKey to int64 (y, x)
        Planes of the last two axes, in order, all of one label image.
    """
    keys = list(planes)
    places = np.array([key.index for key in keys], np.intp).reshape(len(keys), -1)
    lowest = places.min(0)
    block = np.zeros((*(places.max(0) - lowest + 1), *planes[keys[0]].shape), np.bool_)
    for key, place in zip(keys, places - lowest, strict=True):
        block[tuple(place)] = planes[key] == record.id
    parts, count = ndi.label(block, np.ones((3,) * block.ndim))
    if count < 2:
        return Plan("split", {}, {}, (), f"Object {record.id} is in one piece; there is nothing to split.")
    by_size = 1 + np.argsort(-np.bincount(parts.ravel())[1:], kind="stable")
    ids = np.zeros(count + 1, np.int64)
    ids[by_size] = [record.id, *range(next_id, next_id + count - 1)]
    after = {
        key: np.where(planes[key] == record.id, ids[parts[tuple(place)]], planes[key])
        for key, place in zip(keys, places - lowest, strict=True)
    }
    # The prompts no longer describe what is left, so replaying them would undo the split.
    whole = replace(record, origin="painted", approved=False)
    new = {int(label): replace(whole, id=int(label), prompts=MappingProxyType({})) for label in ids[1:]}
    changed = new | {record.id: whole}
    return Plan("split", after, changed, tuple(changed), f"Object {record.id} is now {count} objects.")


def with_prompts(record: ObjectRecord, plane: PlaneKey, stored: Iterable[StoredPrompts]) -> ObjectRecord:
    """A record with more prompts in a plane."""
    added = (*record.prompts.get(plane, ()), *stored)
    return replace(record, prompts=MappingProxyType({**record.prompts, plane: added}))


def check_ids(labels: Sequence[int], known: Iterable[int]) -> None:
    """Raise an InputError unless there is at least one id and all exist."""
    missing = set(labels) - set(known)
    if missing:
        raise InputError(f"There is no object {min(missing)} in these labels any more.")
    if not labels:
        raise InputError("No object is chosen: click on one in the table or in the image first.")


def _committed(
    known: ObjectRecord | None, label: int, preview: Preview, row: int, policy: CommitPolicy
) -> ObjectRecord:
    stored = StoredPrompts(preview.rows[row], preview.options)
    if known is None:
        known = ObjectRecord(label, policy.class_id, origin="prompted")
    known = replace(known, score=float(preview.scores[row]), adapter=preview.adapter)
    return with_prompts(known, preview.plane, [stored])


def _why_nothing(wanted: NDArray[np.bool_], kept_out: int) -> str:
    if not wanted.any():
        return "Nothing was added, because the mask is empty: add a prompt on the object, or lower the threshold."
    if kept_out:
        return (
            "Nothing was added, because all pixels of the mask belong to finished objects: "
            "delete one, or allow overwriting."
        )
    return "Nothing was added, because the object has all these pixels already."


def _what_was_added(ids: Sequence[int], policy: CommitPolicy, kept_out: int) -> str:
    said = f"Added to object {ids[0]}" if policy.target == "part" else f"Added {_objects(ids)}"
    if policy.target == "class":
        said = f"Added to class {ids[0]}"
    elif policy.target == "replace":
        said = f"Replaced object {ids[0]}"
    return f"{said}; {kept_out} pixels stay with finished objects." if kept_out else f"{said}."


def _objects(labels: Sequence[int]) -> str:
    return f"object {labels[0]}" if len(labels) == 1 else f"{len(labels)} objects"

"""Plans of edits: their effect on pixels and records, computed before anything is changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam_lora.errors import InputError
from napari_sam_lora.regions import union_box
from napari_sam_lora.session.labels.records import ObjectClass, ObjectRecord, StoredPrompts
from napari_sam_lora.session.labels.stores import Pixels
from napari_sam_lora.session.plane_key import Box, PlaneKey
from napari_sam_lora.session.prompting.preview import Preview
from napari_sam_lora.text import pluralize


@dataclass(frozen=True)
class CommitPolicy:
    """Use of the masks of a preview in a commit.

    Attributes
    ----------
    target : str
        "new": each mask becomes a new object with the next free id.
        "part": all masks are added to object ``label``.
        "replace": all masks together become object ``label`` in this plane, with their prompts instead of its own; its
        other planes stay. The plane is a key plane of the object then.
        "class": all masks are written with the value of class ``class_id`` (a semantic label image).
    label : int
        Id of the object, for "part" and "replace".
    class_id : int
        Class to write, for "class"; for "new" the class of the new objects.
    overwrite : bool
        Whether pixels of other objects may be overwritten.
    """

    target: Literal["new", "part", "replace", "class"] = "new"
    label: int = 0
    class_id: int = 0
    overwrite: bool = False

    @property
    def own_id(self) -> int:
        """Id of the object that is written to; 0 for new ones."""
        return {"new": 0, "class": self.class_id}.get(self.target, self.label)


@dataclass(frozen=True)
class EditResult:
    """Outcome of an edit.

    Attributes
    ----------
    ids : tuple of int
        Objects that were created or changed.
    pixels : int
        Number of pixels that changed.
    kept_out : int
        Number of mask pixels that were not written, because they belong to a finished object.
    message : str
        One sentence for the user. If nothing was changed (``ids`` is empty) it says why.
    code : str
        What happened, in a few words with hyphens, such as ``"added"`` or ``"mask-empty"``; it stays the same when the
        message is reworded.
    skipped : int
        Number of proposed changes that were not made.
    """

    ids: tuple[int, ...]
    pixels: int
    kept_out: int
    message: str
    code: str = ""
    skipped: int = 0


@dataclass(frozen=True, eq=False)
class Plan:
    """Edit that is computed but not carried out.

    Attributes
    ----------
    name : str
    planes : mapping of PlaneKey to int (y, x)
        Pixels of these planes after the edit.
    records : mapping of int to ObjectRecord or None
        New or changed records; None removes one.
    ids : tuple of int
        See `EditResult`; if empty, there is nothing to do.
    message, code : str
    kept_out : int
    boxes : mapping of PlaneKey to tuple of int
        Box of a plane that ``planes`` covers; planes without a box are whole.
    skipped : int
    classes : tuple of ObjectClass, optional
        Classes after the edit; None if they stay.
    """

    name: str
    planes: Mapping[PlaneKey, Pixels]
    records: Mapping[int, ObjectRecord | None]
    ids: tuple[int, ...]
    message: str
    code: str
    kept_out: int = 0
    boxes: Mapping[PlaneKey, Box] = field(default_factory=dict)
    skipped: int = 0
    classes: tuple[ObjectClass, ...] | None = None


def box_of_commit(preview: Preview, policy: CommitPolicy) -> Box:
    """Return the box of the plane that `plan_commit` needs."""
    if policy.target == "replace":
        return 0, 0, *preview.shape
    return union_box(mask.region for mask in preview.masks)


def plan_commit(
    present: Pixels,
    box: Box,
    preview: Preview,
    policy: CommitPolicy,
    next_id: int,
    records: Mapping[int, ObjectRecord],
    is_elsewhere: bool = False,
) -> Plan:
    """Plan to write the masks of a preview into a plane.

    Where masks of the preview overlap, the pixel goes to the mask with the higher score.

    Parameters
    ----------
    present : int (h, w)
        Present pixels of a box of the plane.
    box : tuple of int
        The box; see `box_of_commit`.
    next_id : int
    records : mapping of int to ObjectRecord
        Record of the object that is written to, if it exists; see `CommitPolicy.own_id`.
    is_elsewhere : bool
        Whether that object has pixels in other planes too.
    """
    present = present.astype(np.int64)  # the new id may not fit in its dtype
    own = policy.own_id
    replaced = policy.target == "replace"
    owner = np.full(present.shape, -1, np.int32)
    scores = [mask.score for mask in preview.masks]
    for row in np.argsort(scores, kind="stable"):  # the best mask last, so that it is in front
        preview.masks[row].region.moved(-box[0], -box[1]).write(owner, row)
    wanted: NDArray[np.bool_] = owner >= 0
    free = np.ones(present.shape, np.bool_) if policy.overwrite else (present == 0) | (present == own)
    kept_out = int(np.count_nonzero(wanted & ~free))
    owner[~free] = -1
    gains = (owner >= 0) & (replaced | (own == 0) | (present != own))
    rows = [row for row in range(len(preview)) if (gains & (owner == row)).any()]
    if not rows:
        message, code = _explain_no_change(wanted, kept_out, present)
        return Plan("commit", {}, {}, (), message, code, kept_out)
    ids = [next_id + number for number in range(len(rows))] if policy.target == "new" else [own] * len(rows)
    pixels = np.where(present == own, 0, present) if replaced else present.copy()
    changed: dict[int, ObjectRecord] = {}
    if replaced:
        changed[own] = _record_after_replacement(records[own], preview.plane, is_elsewhere)
    for row, label in zip(rows, ids, strict=True):
        pixels[owner == row] = label
        changed[label] = _record_after_commit(changed.get(label) or records.get(label), label, preview, row, policy)
    ids, plane = list(changed), preview.plane.on("")
    message, code = _describe_commit(ids, policy, kept_out)
    if replaced and records[own].propagated_planes:
        message += " This is a key plane of the object now: propagate it again to update the planes around it."
    return Plan("commit", {plane: pixels}, changed, tuple(ids), message, code, kept_out, {plane: box})


def lies_on(present: Pixels, preview: Preview, label: int) -> bool:
    """Return whether the only mask of a preview shows an object that the plane (y, x) has already.

    That is so if at least half of the smaller of both is shared: the mask corrects the object, which is too large, too
    small or a little displaced.
    """
    if len(preview) != 1:
        return False
    region = preview.masks[0].region
    y0, x0, y1, x1 = region.box
    own = present == label
    shared = int(np.count_nonzero(own[y0:y1, x0:x1] & region.crop))
    return shared > 0 and 2 * shared >= min(region.area, int(np.count_nonzero(own)))


def plan_delete(planes: Mapping[PlaneKey, Pixels], labels: Sequence[int]) -> Plan:
    """Plan to set all pixels of some objects to background."""
    after = {plane: np.where(np.isin(pixels, labels), 0, pixels) for plane, pixels in planes.items()}
    message = f"Deleted {_describe_objects(labels)}."
    return Plan("delete", after, dict.fromkeys(labels), tuple(labels), message, "deleted")


def plan_merge(planes: Mapping[PlaneKey, Pixels], labels: Sequence[int], records: Mapping[int, ObjectRecord]) -> Plan:
    """Plan to give some objects the id of the first."""
    first, *others = labels
    after = {plane: np.where(np.isin(pixels, others), first, pixels) for plane, pixels in planes.items()}
    members = [records[label] for label in labels]
    kept = members[0]
    for other in members[1:]:
        for plane, stored in other.prompts.items():
            kept = with_prompts(kept, plane, stored)
    # Otherwise replaying the prompts would lose the painted pixels.
    origin = "painted" if any(one.origin == "painted" for one in members) else kept.origin
    kept = replace(kept, origin=origin, approved=all(one.approved for one in members))
    changed: dict[int, ObjectRecord | None] = {first: kept} | dict.fromkeys(others)
    return Plan("merge", after, changed, (first,), f"Merged {_describe_objects(labels)} into object {first}.", "merged")


def plan_split(planes: Mapping[PlaneKey, Pixels], record: ObjectRecord, next_id: int) -> Plan:
    """Plan to give each connected component of an object its own id; the largest keeps the present one.

    Components that touch at a corner are connected. New ids are given in the order of size.

    Parameters
    ----------
    planes : mapping of PlaneKey to int (y, x)
        Planes of the last two axes of one label image, in order.
    """
    keys = list(planes)
    places = np.array([key.index for key in keys], np.intp).reshape(len(keys), -1)
    lowest = places.min(0)
    block = np.zeros((*(places.max(0) - lowest + 1), *planes[keys[0]].shape), np.bool_)
    for key, place in zip(keys, places - lowest, strict=True):
        block[tuple(place)] = planes[key] == record.id
    components, count = ndi.label(block, np.ones((3,) * block.ndim))
    if count < 2:
        message = f"Object {record.id} is one connected region: there is nothing to split."
        return Plan("split", {}, {}, (), message, "already-connected")
    by_size = 1 + np.argsort(-np.bincount(components.ravel())[1:], kind="stable")
    ids = np.zeros(count + 1, np.int64)
    ids[by_size] = [record.id, *range(next_id, next_id + count - 1)]
    after = {
        key: np.where(planes[key] == record.id, ids[components[tuple(place)]], planes[key])
        for key, place in zip(keys, places - lowest, strict=True)
    }
    # The prompts describe the object before the split, so replaying them would undo it.
    whole = replace(record, origin="painted", approved=False)
    new = {int(label): replace(whole, id=int(label), prompts=MappingProxyType({})) for label in ids[1:]}
    changed = new | {record.id: whole}
    return Plan("split", after, changed, tuple(changed), f"Object {record.id} is now {count} objects.", "split")


def with_prompts(record: ObjectRecord, plane: PlaneKey, stored: Iterable[StoredPrompts]) -> ObjectRecord:
    """Return a record with more prompts in a plane."""
    added = (*record.prompts.get(plane, ()), *stored)
    return replace(record, prompts=MappingProxyType({**record.prompts, plane: added}))


def check_ids(labels: Sequence[int], present: Iterable[int]) -> None:
    """Raise an InputError unless there is at least one id, and all are present."""
    missing = set(labels) - set(present)
    if missing:
        raise InputError(f"There is no object {min(missing)} in these labels any more.", code="object-not-found")
    if not labels:
        raise InputError(
            "No object is selected: click on one in the table or in the image first.", code="no-object-selected"
        )


def _record_after_commit(
    record: ObjectRecord | None, label: int, preview: Preview, row: int, policy: CommitPolicy
) -> ObjectRecord:
    """Return the record of an object, new or not, after a mask of a preview was added to it."""
    stored = StoredPrompts(preview.rows[row], preview.options)
    if record is None:
        record = ObjectRecord(label, policy.class_id, origin="prompted")
    if record.origin_in(preview.plane) == "propagated":
        record = record.prompted_in(preview.plane)
    record = replace(record, score=preview.masks[row].score, adapter=preview.adapter)
    return with_prompts(record, preview.plane, [stored])


def _record_after_replacement(record: ObjectRecord, plane: PlaneKey, is_elsewhere: bool) -> ObjectRecord:
    """Return the record of an object whose mask in a plane is replaced, without the prompts it had there."""
    others = {key: stored for key, stored in record.prompts.items() if key != plane}
    record = replace(record, prompts=MappingProxyType(others))
    if is_elsewhere:
        return record.prompted_in(plane)
    return replace(record, origin="prompted", origins=MappingProxyType({}))


def _explain_no_change(wanted: NDArray[np.bool_], kept_out: int, present: Pixels) -> tuple[str, str]:
    """Return the message and code of a commit that changes nothing."""
    if not wanted.any():
        message = "Nothing was added, because the mask is empty: add a prompt on the object, or lower the threshold."
        return message, "mask-empty"
    if kept_out:
        owners = np.unique(present[wanted])
        if len(owners) == 1:
            message = (
                f"Nothing was added, because all pixels of the mask belong to object {owners[0]}: replace the object "
                "in this plane, or allow overwriting."
            )
        else:
            message = (
                "Nothing was added, because all pixels of the mask belong to finished objects: "
                "delete one, or allow overwriting."
            )
        return message, "no-free-pixels"
    message = (
        "Nothing was added, because the object already has all these pixels. To make it smaller, replace it in this "
        "plane."
    )
    return message, "already-in-object"


def _describe_commit(ids: Sequence[int], policy: CommitPolicy, kept_out: int) -> tuple[str, str]:
    """Return the message and code of a commit."""
    message, code = {
        "new": (f"Added {_describe_objects(ids)}", "added"),
        "part": (f"Added to object {ids[0]}", "added-to-object"),
        "class": (f"Added to class {ids[0]}", "added-to-class"),
        "replace": (f"Replaced object {ids[0]} in this plane", "replaced"),
    }[policy.target]
    if kept_out:
        message += f"; left out {pluralize(kept_out, 'pixel')} of finished objects"
    return f"{message}.", code


def _describe_objects(labels: Sequence[int]) -> str:
    return f"object {labels[0]}" if len(labels) == 1 else f"{len(labels)} objects"

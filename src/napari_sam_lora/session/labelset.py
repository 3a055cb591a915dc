"""One label image: its pixels, its objects and every edit of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from napari_sam_lora.errors import InputError
from napari_sam_lora.session.edits import (
    CommitPolicy,
    EditResult,
    Pixels,
    Plan,
    box_of_commit,
    check_ids,
    plan_commit,
    plan_delete,
    plan_merge,
    plan_split,
)
from napari_sam_lora.session.planes import PlaneKey, check_plane
from napari_sam_lora.session.preview import Preview
from napari_sam_lora.session.proposals import Proposal, plan_apply
from napari_sam_lora.session.records import ObjectClass, ObjectRecord, ObjectStats
from napari_sam_lora.session.stores import LabelStore
from napari_sam_lora.session.tracked import TrackedLabels


class LabelSet(TrackedLabels):
    """One label image with its objects. Used on the owner's thread only.

    Every edit is one step of the store and one step of `undo`, metadata included; each returns what it did, and
    raises `InputError` for an id or class that does not exist, having changed nothing.

    Events (emitted on the owner's thread)
    --------------------------------------
    objects_changed : ()
        Records, pixels or classes have changed, through an edit, painting, undo or redo.
    stepped : (Step)
        An edit was taken back or done again, by `undo` and `redo` or through the store's own history.

    Parameters
    ----------
    store : LabelStore
    classes : iterable of ObjectClass
    clock : callable, optional
        Numbers edits in order, over several label images.
    """

    def __init__(
        self, store: LabelStore, classes: Iterable[ObjectClass] = (), clock: Callable[[], int] | None = None
    ) -> None:
        super().__init__(store, _check_classes(classes), clock)

    # Looking

    def records(self) -> tuple[ObjectRecord, ...]:
        """Objects that are in the pixels, by id. Ids that were never seen before count as painted.

        In a very large label image only planes that were shown (`watch`) or edited are looked at, until
        `labelled_planes` was called.
        """
        return tuple(self._record(label) for label in self._measure.ids())

    def record(self, label: int) -> ObjectRecord:
        """One object."""
        check_ids([label], self._measure.ids())
        return self._record(label)

    def stats(self, label: int) -> ObjectStats:
        """Area, centroid and box, measured when asked and remembered until the object's planes change."""
        check_ids([label], self._measure.ids())
        return self._measure.stats(label)

    def areas(self) -> dict[int, int]:
        """Pixels of each object in all planes, in the order of the ids; quicker than `stats` of each."""
        return self._measure.areas()

    def where(self, label: int) -> list[PlaneKey]:
        """The planes of the last two axes that an object is in."""
        return self._measure.planes_of(label)

    def ids_in(self, plane: PlaneKey) -> list[int]:
        """Objects in a plane, in order; pixels are read only if they were not measured since they changed."""
        return self._measure.ids_in(plane.on(""))

    def next_id(self) -> int:
        """The smallest id above all in use, those of objects that were painted over included."""
        return max(self._measure.largest_id(), max(self._meta.records, default=0)) + 1

    @property
    def classes(self) -> tuple[ObjectClass, ...]:
        """By id."""
        return self._meta.classes

    @property
    def complete_planes(self) -> frozenset[PlaneKey]:
        """Planes marked as complete: everything in them that should be labelled is. Their ``image`` is empty."""
        return self._meta.complete

    def complete_along(self, plane: PlaneKey, axis: int) -> list[int]:
        """Which planes of a stack are marked as complete.

        Parameters
        ----------
        plane : PlaneKey
            One of the stack.
        axis : int
            Position in ``plane.index`` of the axis of the stack.
        """
        own = plane.on("")
        marked = [one for one in self.complete_planes if one.axes == own.axes]
        return sorted(
            one.index[axis] for one in marked if one.neighbour(own.index[axis] - one.index[axis], axis) == own
        )

    def labelled_planes(self, image: str = "") -> list[PlaneKey]:
        """Planes with labels: those of the last two axes, and those edited in another view."""
        self._measure.scan()
        ndim = len(self.store.shape)
        planes = [PlaneKey.of("", ndim, index) for index in self._measure.labelled()]
        others = sorted(plane for plane in self._edited if plane.axes != (ndim - 2, ndim - 1))
        planes += [plane for plane in others if self.drawn_in(plane).any()]
        return [plane.on(image) for plane in planes]

    def drawn_in(self, plane: PlaneKey) -> Pixels:
        """A copy of a plane, int64 (y, x), without the objects that were prompted in other views only.

        Where such an object crosses the plane, its cross-section is no outline that anybody drew.
        """
        ndim = len(self.store.shape)
        pixels = self.store.read(plane)
        foreign = []
        for label in np.unique(pixels[pixels > 0]):
            axes = {key.axes for key in self._record(int(label)).prompts} or {(ndim - 2, ndim - 1)}
            if plane.axes not in axes:
                foreign.append(label)
        pixels[np.isin(pixels, foreign)] = 0
        return pixels

    # Editing

    def commit(self, preview: Preview, policy: CommitPolicy | None = None) -> EditResult:
        """Write the masks of a preview; finished objects keep their pixels unless the policy overwrites them.

        If no pixel can be written, nothing changes and the result's message says why.
        """
        policy = policy or CommitPolicy()
        check_plane(preview.plane, self.store.shape)
        shape = preview.plane.shape(self.store.shape)
        if preview.masks.shape[1:] != shape:
            raise InputError(f"The labels have planes of {shape}, the image of {preview.masks.shape[1:]}.")
        if policy.target in ("part", "replace"):
            check_ids([policy.label], self._measure.ids())
        self._check_class(policy.class_id, needed=policy.target == "class")
        box, records = box_of_commit(preview, policy), self._records_of(self._measure.ids())
        present = self.store.read(preview.plane, box)
        return self._do(plan_commit(present, box, preview, policy, self.next_id(), records))

    def apply(self, proposal: Proposal, accept: Iterable[int] | None = None) -> EditResult:
        """Make proposed changes, all or those with the given positions, as one step.

        Objects painted, approved or deleted since the proposal was made stay as they are, and so do objects whose
        new mask has no free pixel.
        """
        chosen = range(len(proposal.changes)) if accept is None else sorted(set(accept))
        changes = [proposal.changes[place] for place in chosen]
        planes = self._read(dict.fromkeys(change.plane.on("") for change in changes))
        records = self._records_of(self._measure.ids())
        return self._do(plan_apply(planes, changes, records, self.next_id(), proposal))

    def delete(self, labels: Sequence[int]) -> EditResult:
        """Set all pixels of these objects to background."""
        return self._do(plan_delete(self._planes_of(labels), labels))

    def merge(self, labels: Sequence[int]) -> EditResult:
        """Make one object of several; it has the first id, and the prompts of all."""
        labels = list(dict.fromkeys(labels))
        planes = self._planes_of(labels)
        if len(labels) < 2:
            raise InputError("Choose at least two objects to merge.")
        return self._do(plan_merge(planes, labels, self._records_of(labels)))

    def split(self, label: int) -> EditResult:
        """Give each connected part of an object its own id; the largest keeps the present one."""
        return self._do(plan_split(self._planes_of([label]), self._record(label), self.next_id()))

    def set_class(self, labels: Sequence[int], class_id: int) -> EditResult:
        """Give these objects a class; 0 for none."""
        check_ids(labels, self._measure.ids())
        self._check_class(class_id, needed=False)
        records = {label: replace(self._record(label), class_id=class_id) for label in labels}
        return self._do(Plan("class", {}, records, tuple(labels), "The class was set."))

    def approve(self, labels: Sequence[int], approved: bool = True) -> EditResult:
        """Approve these objects, or take that back."""
        check_ids(labels, self._measure.ids())
        records = {label: replace(self._record(label), approved=approved) for label in labels}
        return self._do(Plan("approve", {}, records, tuple(labels), "Approved." if approved else "No longer approved."))

    def set_classes(self, classes: Iterable[ObjectClass]) -> None:
        """Replace the list of classes. Objects of a class that is gone have none."""
        kept = _check_classes(classes)
        ids = {one.id for one in kept}
        records = {
            label: record if record.class_id in ids else replace(record, class_id=0)
            for label, record in self._meta.records.items()
        }
        self._push("classes", (), replace(self._meta, classes=kept, records=MappingProxyType(records)))

    def mark_complete(self, plane: PlaneKey, complete: bool = True) -> None:
        """Mark a plane as complete, or take that back."""
        check_plane(plane, self.store.shape)
        marked = self._meta.complete - {plane.on("")} | ({plane.on("")} if complete else set())
        if marked != self._meta.complete:
            self._push("complete", (), replace(self._meta, complete=marked))

    def _read(self, planes: Iterable[PlaneKey]) -> dict[PlaneKey, Pixels]:
        return {plane: self.store.read(plane) for plane in planes if plane.is_in(self.store.shape)}

    def _planes_of(self, labels: Sequence[int]) -> dict[PlaneKey, Pixels]:
        check_ids(labels, self._measure.ids())
        return self._read(sorted({plane for label in labels for plane in self._measure.planes_of(label)}))

    def _records_of(self, labels: Iterable[int]) -> dict[int, ObjectRecord]:
        return {label: self._record(label) for label in labels}

    def _check_class(self, class_id: int, needed: bool) -> None:
        if class_id or needed:
            names = ", ".join(f"{one.id} ({one.name})" for one in self.classes) or "none yet"
            if class_id not in {one.id for one in self.classes}:
                raise InputError(f"There is no class {class_id}; the classes are: {names}.")


def _check_classes(classes: Iterable[ObjectClass]) -> tuple[ObjectClass, ...]:
    ordered = tuple(sorted(classes, key=lambda one: one.id))
    if len({one.id for one in ordered}) < len(ordered) or any(one.id < 1 for one in ordered):
        raise InputError("Each class needs an id of its own, 1 or more.")
    return ordered

"""One label image: its pixels, its objects and every edit of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from types import MappingProxyType

import numpy as np
from psygnal import Signal

from napari_sam_lora.errors import InputError
from napari_sam_lora.session.labels.edits import (
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
from napari_sam_lora.session.labels.history import Change, EditHistory, Entry, Meta, State, Step
from napari_sam_lora.session.labels.object_statistics import ObjectStatistics
from napari_sam_lora.session.labels.proposals import Proposal, plan_apply
from napari_sam_lora.session.labels.records import ObjectClass, ObjectRecord, ObjectStats
from napari_sam_lora.session.labels.stores import LabelStore
from napari_sam_lora.session.plane_key import PlaneKey, check_plane
from napari_sam_lora.session.prompting.preview import Preview

PLANES_WATCHED = 8
_WHOLE = (0, 0, 0, 0)


class LabelSet:
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

    objects_changed = Signal()
    stepped = Signal(object)

    def __init__(
        self, store: LabelStore, classes: Iterable[ObjectClass] = (), clock: Callable[[], int] | None = None
    ) -> None:
        self.store = store
        self._meta = Meta(MappingProxyType({}), _check_classes(classes), frozenset())
        self._attic: dict[int, ObjectRecord] = {}
        self._statistics = ObjectStatistics(store)
        self._history = EditHistory()
        self._clock = clock or count().__next__
        self._known: OrderedDict[PlaneKey, Pixels] = OrderedDict()
        self._edited: set[PlaneKey] = set()
        self._changed: set[PlaneKey] = set()
        self._loose: set[PlaneKey] = set()  # painted without that the journal knows how they were before
        self.is_editing = False

    # For a project

    def take_changes(self) -> frozenset[PlaneKey]:
        """Planes whose pixels have changed since the last call, in any view; their ``image`` is empty."""
        taken, self._changed = frozenset(self._changed), set()
        return taken

    @property
    def meta(self) -> Meta:
        """All that is known beside the pixels at this moment, also of objects that are not in the pixels."""
        return self._meta

    @property
    def is_partial(self) -> bool:
        """Whether it is so large that only planes that were shown or edited are known, and go into a project."""
        return self._statistics.is_partial

    def labelled_so_far(self) -> list[tuple[int, ...]]:
        """Positions of planes with labels; of a very large label image, of those that were seen."""
        return self._statistics.labelled()

    def restore(
        self, records: Iterable[ObjectRecord], complete: Iterable[PlaneKey], classes: tuple[ObjectClass, ...]
    ) -> None:
        """Take over what a project knew of the objects; not an edit that can be undone."""
        known = MappingProxyType({record.id: record for record in records})
        self._meta = Meta(known, classes, frozenset(complete))
        self.objects_changed.emit()

    def watch(self, plane: PlaneKey) -> None:
        """Remember the plane as it is; call it when a plane is shown, so that `note_painted` can compare."""
        key = plane.on("")
        if key.is_in(self.store.shape) and key not in self._known:
            self._remember(key, self.store.read(key))
            self._statistics.see(key)

    def note_painted(self, plane: PlaneKey) -> tuple[int, ...]:
        """Call it after pixels were changed by anything but this object: the brush, the store's own undo or redo.

        Objects that gained or lost pixels become "painted" (prompts stay); an edit of this set that was taken
        back or done again through the store's history takes its metadata with it.

        Returns
        -------
        tuple of int
            Ids that changed.
        """
        key = plane.on("")
        moved = self._follow()
        present = self.store.read(key)
        known = self._known.get(key)
        change = None if known is None else Change.between(key, known, present)
        self._changed.add(key)
        if known is None:
            self._loose.add(key)
            self._statistics.touch(key)
        self._remember(key, present)
        self._reread_crossing(key)
        if change is None:
            if moved or known is None:
                self.objects_changed.emit()
            return moved
        ids = change.ids()
        self._statistics.update(key, ids, change.mask(), change.box[:2])
        records = {label: self._record(label).painted_in(key) for label in ids}
        self._edited.add(key)
        self._push("painting", (change,), self._with_records(records))
        return tuple(sorted({*moved, *ids}))

    def undo(self) -> str | None:
        """Take back the last edit or painting, metadata included; its name, or None if there is nothing."""
        return self._step(back=True)

    def redo(self) -> str | None:
        """Do it again."""
        return self._step(back=False)

    @property
    def last_done(self) -> int | None:
        """Number of the edit that `undo` would take back."""
        return self._history.done[-1].number if self._history.done else None

    @property
    def last_undone(self) -> int | None:
        """Number of the edit that `redo` would do again."""
        return self._history.undone[-1].number if self._history.undone else None

    def _step(self, back: bool) -> str | None:
        self._follow()
        source: MutableSequence[Entry] = self._history.done if back else self._history.undone
        if not source:
            return None
        entry = source[-1]
        state: State = "before" if back else "after"
        if entry.changes:
            with self._editing():
                stepped = self.store.undo() if back else self.store.redo()
                if not stepped:  # it has forgotten its history
                    entry.write(self.store, state)
            if not entry.pixels_are(self.store, state):
                self._step_in_part(entry, back)
                return entry.name
        source.pop()
        (self._history.undone if back else self._history.done).append(entry)
        self._meta = entry.before if back else entry.after
        self._reread(entry.changes)
        self._reread_loose()
        self.objects_changed.emit()
        self.stepped.emit(Step(entry.name, back, entry.changes))
        return entry.name

    def _step_in_part(self, entry: Entry, back: bool) -> None:
        """The store's last step was only a part of an edit, such as one of several strokes, or has nothing to do
        with it."""
        if not entry.pixels_are(self.store, "after" if back else "before"):
            first, second = entry.parted(self.store)
            (self._history.done if back else self._history.undone).pop()
            self._history.done.append(first)
            self._history.undone.append(second)
            self._meta = entry.after
            self._reread((*first.changes, *second.changes))
            self.stepped.emit(Step(entry.name, back, second.changes if back else first.changes))
        self.objects_changed.emit()

    def _do(self, plan: Plan) -> EditResult:
        """Carry out a plan as one step."""
        if not plan.ids:
            return EditResult((), 0, plan.kept_out, plan.message)
        found = [
            Change.between(
                plane, self.store.read(plane, plan.boxes.get(plane)), after, plan.boxes.get(plane, _WHOLE)[:2]
            )
            for plane, after in plan.planes.items()
        ]
        changes = tuple(change for change in found if change is not None)
        if changes:
            with self._editing(), self.store.transaction():
                for change in changes:
                    change.write(self.store, change.after)
            self._edited.update(change.plane for change in changes)
            self._reread(changes)
        self._push(plan.name, changes, self._with_records(plan.records))
        return EditResult(plan.ids, sum(len(change.where) for change in changes), plan.kept_out, plan.message)

    @contextmanager
    def _editing(self) -> Iterator[None]:
        self.is_editing = True
        try:
            yield
        finally:
            self.is_editing = False

    def _push(self, name: str, changes: tuple[Change, ...], meta: Meta) -> None:
        self._history.add(Entry(name, self._clock(), changes, self._meta, meta))
        self._meta = meta
        self.objects_changed.emit()

    def _follow(self) -> tuple[int, ...]:
        """Let the metadata follow the store's own undo and redo; returns the ids whose pixels have moved."""
        entries, state = self._history.follow(self.store)
        if not entries:
            return ()
        meta = entries[-1].before if state == "before" else entries[-1].after
        for label, record in self._meta.records.items():
            if label not in meta.records:
                self._attic[label] = record
        self._meta = meta
        ids: set[int] = set()
        for entry in entries:
            for change in entry.changes:
                self._reread((change,))
                ids |= set(change.ids())
        self._reread_loose()
        for entry in entries:
            self.stepped.emit(Step(entry.name, state == "before", entry.changes))
        return tuple(sorted(ids))

    def _reread(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self._changed.add(change.plane)
            self._statistics.update(change.plane, change.ids(), change.mask(), change.box[:2])
            known = self._known.get(change.plane)
            if known is None:
                self._remember(change.plane, self.store.read(change.plane))
            else:  # what was painted besides goes on showing in comparison with it
                change.copy_to(known, self.store)
                self._remember(change.plane, known)
            self._reread_crossing(change.plane)

    def _reread_loose(self) -> None:
        """A step of the store may have changed more than the journal knows of, such as all of a stroke in space."""
        for key in self._loose:
            self._changed.add(key)
            self._statistics.touch(key)
            if key in self._known:
                self._known[key] = self.store.read(key)

    def _reread_crossing(self, plane: PlaneKey) -> None:
        """Planes of other views may share pixels with a changed one."""
        for key in self._known:
            if key.axes != plane.axes:
                self._known[key] = self.store.read(key)

    def _remember(self, key: PlaneKey, pixels: Pixels) -> None:
        self._known[key] = pixels
        self._known.move_to_end(key)
        while len(self._known) > PLANES_WATCHED:
            self._known.popitem(last=False)

    def _record(self, label: int) -> ObjectRecord:
        return self._meta.records.get(label) or self._attic.get(label) or ObjectRecord(label)

    def _with_records(self, changed: Mapping[int, ObjectRecord | None]) -> Meta:
        records = {**self._meta.records, **changed}
        kept = {label: record for label, record in records.items() if record is not None}
        return replace(self._meta, records=MappingProxyType(kept))

    # Looking

    def records(self) -> tuple[ObjectRecord, ...]:
        """Objects that are in the pixels, by id. Ids that were never seen before count as painted.

        In a very large label image only planes that were shown (`watch`) or edited are looked at, until
        `labelled_planes` was called.
        """
        return tuple(self._record(label) for label in self._statistics.ids())

    def record(self, label: int) -> ObjectRecord:
        """One object."""
        check_ids([label], self._statistics.ids())
        return self._record(label)

    def stats(self, label: int) -> ObjectStats:
        """Area, centroid and box, measured when asked and remembered until the object's planes change."""
        check_ids([label], self._statistics.ids())
        return self._statistics.stats(label)

    def areas(self) -> dict[int, int]:
        """Pixels of each object in all planes, in the order of the ids; quicker than `stats` of each."""
        return self._statistics.areas()

    def where(self, label: int) -> list[PlaneKey]:
        """The planes of the last two axes that an object is in."""
        return self._statistics.planes_of(label)

    def ids_in(self, plane: PlaneKey) -> list[int]:
        """Objects in a plane, in order; pixels are read only if they were not measured since they changed."""
        return self._statistics.ids_in(plane.on(""))

    def next_id(self) -> int:
        """The smallest id above all in use, those of objects that were painted over included."""
        return max(self._statistics.largest_id(), max(self._meta.records, default=0)) + 1

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
        self._statistics.scan()
        ndim = len(self.store.shape)
        planes = [PlaneKey.of("", ndim, index) for index in self._statistics.labelled()]
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
            check_ids([policy.label], self._statistics.ids())
        self._check_class(policy.class_id, needed=policy.target == "class")
        box, records = box_of_commit(preview, policy), self._records_of(self._statistics.ids())
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
        records = self._records_of(self._statistics.ids())
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
        check_ids(labels, self._statistics.ids())
        self._check_class(class_id, needed=False)
        records = {label: replace(self._record(label), class_id=class_id) for label in labels}
        return self._do(Plan("class", {}, records, tuple(labels), "The class was set."))

    def approve(self, labels: Sequence[int], approved: bool = True) -> EditResult:
        """Approve these objects, or take that back."""
        check_ids(labels, self._statistics.ids())
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
        check_ids(labels, self._statistics.ids())
        return self._read(sorted({plane for label in labels for plane in self._statistics.planes_of(label)}))

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

"""Label image of a session: its pixels, its objects, and every edit of them with undo."""

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
    Plan,
    box_of_commit,
    check_ids,
    lies_on,
    plan_commit,
    plan_delete,
    plan_merge,
    plan_split,
)
from napari_sam_lora.session.labels.history import Change, EditHistory, Entry, Meta, State, Step
from napari_sam_lora.session.labels.object_statistics import ObjectStatistics
from napari_sam_lora.session.labels.proposals import Proposal, plan_apply
from napari_sam_lora.session.labels.records import ObjectClass, ObjectRecord, ObjectStats
from napari_sam_lora.session.labels.stores import LabelStore, Pixels
from napari_sam_lora.session.plane_key import PlaneKey, check_plane, labels_do_not_fit
from napari_sam_lora.session.prompting.preview import Preview

PLANES_WATCHED = 8
_WHOLE = (0, 0, 0, 0)


class LabelSet:
    """One label image with its objects. Used on the owner's thread only.

    Every edit is one undo step, metadata included, and one step of the store's own history. An edit returns what it
    did. For an id or class that does not exist it raises `InputError` and changes nothing.

    Events (emitted on the owner's thread)
    --------------------------------------
    objects_changed : ()
        Records, pixels or classes have changed, through an edit, painting, undo or redo.
    stepped : (Step)
        An edit was undone or redone, by `undo` and `redo` or through the store's own history.

    Parameters
    ----------
    store : LabelStore
    classes : iterable of ObjectClass
    clock : callable, optional
        Returns the number of the next edit, so that edits of several label images have one order.
    """

    objects_changed = Signal()
    stepped = Signal(object)

    def __init__(
        self, store: LabelStore, classes: Iterable[ObjectClass] = (), clock: Callable[[], int] | None = None
    ) -> None:
        self.store = store
        self._meta = Meta(MappingProxyType({}), _check_classes(classes), frozenset())
        self._former_records: dict[int, ObjectRecord] = {}
        self._statistics = ObjectStatistics(store)
        self._history = EditHistory()
        self._clock = clock or count().__next__
        self._remembered: OrderedDict[PlaneKey, Pixels] = OrderedDict()
        self._edited_planes: set[PlaneKey] = set()
        self._unsaved: set[PlaneKey] = set()
        self._unremembered: set[PlaneKey] = set()  # painted without a remembered state to compare with
        self.is_editing = False

    # Objects and planes

    @property
    def meta(self) -> Meta:
        """Present metadata, including that of objects that have no pixels any more."""
        return self._meta

    @property
    def classes(self) -> tuple[ObjectClass, ...]:
        """Classes by id."""
        return self._meta.classes

    @property
    def complete_planes(self) -> frozenset[PlaneKey]:
        """Planes marked as complete: every object in them is labelled. Their ``image`` is empty."""
        return self._meta.complete

    @property
    def is_partial(self) -> bool:
        """Return whether only shown or edited planes are measured and saved, because the label image is very large."""
        return self._statistics.is_partial

    def records(self) -> tuple[ObjectRecord, ...]:
        """List the objects that have pixels, by id. Ids without a record count as painted.

        In a very large label image only planes that were shown (`watch`) or edited are measured, until
        `labelled_planes` is called.
        """
        return tuple(self._record(label) for label in self._statistics.ids())

    def record(self, label: int) -> ObjectRecord:
        """Return the record of one object."""
        check_ids([label], self._statistics.ids())
        return self._record(label)

    def stats(self, label: int) -> ObjectStats:
        """Return area, centroid and box of an object, measured again only after its planes have changed."""
        check_ids([label], self._statistics.ids())
        return self._statistics.stats(label)

    def areas(self) -> dict[int, int]:
        """Count the pixels of each object in all planes, by id in order; faster than `stats` of each."""
        return self._statistics.areas()

    def where(self, label: int) -> list[PlaneKey]:
        """List the planes of the last two axes that an object is in."""
        return self._statistics.planes_of(label)

    def ids_in(self, plane: PlaneKey) -> list[int]:
        """List the ids of a plane in order; pixels are read only if they have changed since they were measured."""
        return self._statistics.ids_in(plane.on(""))

    def next_id(self) -> int:
        """Return the smallest id above all in use, including ids of objects that were painted over."""
        return max(self._statistics.largest_id(), max(self._meta.records, default=0)) + 1

    def complete_along(self, plane: PlaneKey, axis: int) -> list[int]:
        """List the positions of the planes of a stack that are marked as complete.

        Parameters
        ----------
        plane : PlaneKey
            Any plane of the stack.
        axis : int
            Position in ``plane.index`` of the axis of the stack.
        """
        own = plane.on("")
        marked = [one for one in self.complete_planes if one.axes == own.axes]
        return sorted(
            one.index[axis] for one in marked if one.neighbour(own.index[axis] - one.index[axis], axis) == own
        )

    def labelled_planes(self, image: str = "") -> list[PlaneKey]:
        """List the planes with labels: those of the last two axes, and those edited in another view."""
        self._statistics.scan()
        ndim = len(self.store.shape)
        planes = [PlaneKey.of("", ndim, index) for index in self._statistics.labelled()]
        others = sorted(plane for plane in self._edited_planes if plane.axes != (ndim - 2, ndim - 1))
        planes += [plane for plane in others if self.drawn_in(plane).any()]
        return [plane.on(image) for plane in planes]

    def labelled_so_far(self) -> list[tuple[int, ...]]:
        """List the positions of planes with labels; in a very large label image, of those that were measured."""
        return self._statistics.labelled()

    def drawn_in(self, plane: PlaneKey) -> Pixels:
        """Copy a plane, int64 (y, x), without the objects that were prompted in other views only.

        The cross-section of such an object with this plane is not an outline that anybody drew.
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

    # Edits

    def commit(self, preview: Preview, policy: CommitPolicy | None = None) -> EditResult:
        """Write the masks of a preview; finished objects keep their pixels unless the policy overwrites them.

        If no pixel can be written, nothing changes, and the message of the result says why.
        """
        policy = policy or CommitPolicy()
        check_plane(preview.plane, self.store.shape)
        shape = preview.plane.shape(self.store.shape)
        if preview.shape != shape:
            raise labels_do_not_fit(shape, preview.shape)
        if policy.target in ("part", "replace"):
            check_ids([policy.label], self._statistics.ids())
        self._check_class(policy.class_id, needed=policy.target == "class")
        box, present_ids = box_of_commit(preview, policy), self._statistics.ids()
        records = self._records_of({policy.own_id} & set(present_ids))
        present = self.store.read(preview.plane, box)
        is_elsewhere = policy.target == "replace" and self._is_elsewhere(policy.label, present)
        return self._carry_out(plan_commit(present, box, preview, policy, self.next_id(), records, is_elsewhere))

    def lies_on(self, preview: Preview, label: int) -> bool:
        """Return whether the only mask of a preview shows an object again that its plane has; see `edits.lies_on`."""
        if preview.shape != preview.plane.shape(self.store.shape) or label not in self.ids_in(preview.plane):
            return False
        return lies_on(self.store.read(preview.plane), preview, label)

    def apply(self, proposal: Proposal, accept: Iterable[int] | None = None) -> EditResult:
        """Make the changes of a proposal, all or those at some positions, as one step.

        Objects that were painted, approved or deleted since the proposal was made stay as they are, and so do objects
        whose new mask has no free pixel. New objects have the class that the model predicts for them; it is added to
        the classes if it is not among them.
        """
        chosen = range(len(proposal.changes)) if accept is None else sorted(set(accept))
        changes = [proposal.changes[place] for place in chosen]
        planes = self._read(dict.fromkeys(change.plane.on("") for change in changes))
        records = self._records_of({change.label for change in changes} & set(self._statistics.ids()))
        return self._carry_out(plan_apply(planes, changes, records, self.next_id(), proposal, self.classes))

    def delete(self, labels: Sequence[int]) -> EditResult:
        """Set all pixels of these objects to background."""
        return self._carry_out(plan_delete(self._planes_of(labels), labels))

    def merge(self, labels: Sequence[int]) -> EditResult:
        """Merge several objects into one, which has the first id and the prompts of all."""
        labels = list(dict.fromkeys(labels))
        planes = self._planes_of(labels)
        if len(labels) < 2:
            raise InputError("Select at least two objects to merge.", code="too-few-objects")
        return self._carry_out(plan_merge(planes, labels, self._records_of(labels)))

    def split(self, label: int) -> EditResult:
        """Give each connected part of an object its own id; the largest keeps the present one."""
        return self._carry_out(plan_split(self._planes_of([label]), self._record(label), self.next_id()))

    def set_class(self, labels: Sequence[int], class_id: int) -> EditResult:
        """Give these objects a class; 0 for none."""
        check_ids(labels, self._statistics.ids())
        self._check_class(class_id, needed=False)
        records = {label: replace(self._record(label), class_id=class_id) for label in labels}
        return self._carry_out(Plan("class", {}, records, tuple(labels), "The class was set.", "class-set"))

    def approve(self, labels: Sequence[int], approved: bool = True) -> EditResult:
        """Approve these objects, or remove their approval."""
        check_ids(labels, self._statistics.ids())
        records = {label: replace(self._record(label), approved=approved) for label in labels}
        message, code = ("Approved.", "approved") if approved else ("No longer approved.", "approval-removed")
        return self._carry_out(Plan("approve", {}, records, tuple(labels), message, code))

    def set_classes(self, classes: Iterable[ObjectClass]) -> None:
        """Replace the list of classes. Objects of a removed class have none then."""
        kept = _check_classes(classes)
        ids = {one.id for one in kept}
        records = {
            label: record if record.class_id in ids else replace(record, class_id=0)
            for label, record in self._meta.records.items()
        }
        self._add_to_history("classes", (), replace(self._meta, classes=kept, records=MappingProxyType(records)))

    def mark_complete(self, plane: PlaneKey, complete: bool = True) -> None:
        """Mark a plane as complete, or remove the mark."""
        check_plane(plane, self.store.shape)
        marked = self._meta.complete - {plane.on("")} | ({plane.on("")} if complete else set())
        if marked != self._meta.complete:
            self._add_to_history("complete", (), replace(self._meta, complete=marked))

    # Painting

    def watch(self, plane: PlaneKey) -> None:
        """Remember the pixels of a plane. Call this when a plane is shown, so that `note_painted` can compare."""
        key = plane.on("")
        if key.is_in(self.store.shape) and key not in self._remembered:
            self._remember(key, self.store.read(key))
            self._statistics.see(key)

    def note_painted(self, plane: PlaneKey) -> tuple[int, ...]:
        """Update records after pixels were changed elsewhere: by the brush, or by the store's own undo or redo.

        Objects that gained or lost pixels become "painted" and keep their prompts. If an edit of this label set was
        undone or redone through the store's history, its metadata follows.

        Returns
        -------
        tuple of int
            Ids of the objects that changed.
        """
        key = plane.on("")
        moved = self._follow_store()
        present = self.store.read(key)
        remembered = self._remembered.get(key)
        change = None if remembered is None else Change.between(key, remembered, present)
        self._unsaved.add(key)
        if remembered is None:
            self._unremembered.add(key)
            self._statistics.touch(key)
        self._remember(key, present)
        self._refresh_crossing(key)
        if change is None:
            if moved or remembered is None:
                self.objects_changed.emit()
            return moved
        ids = change.ids()
        self._statistics.update(key, ids, change.mask(), change.box[:2])
        records = {label: self._record(label).painted_in(key) for label in ids}
        self._edited_planes.add(key)
        self._add_to_history("painting", (change,), self._with_records(records))
        return tuple(sorted({*moved, *ids}))

    # Undo

    def undo(self) -> str | None:
        """Undo the last edit or painting, metadata included; return its name, or None if there is nothing to undo."""
        return self._step_history(back=True)

    def redo(self) -> str | None:
        """Redo what was undone last; return its name, or None if there is nothing to redo."""
        return self._step_history(back=False)

    @property
    def last_done(self) -> int | None:
        """Number of the edit that `undo` would undo; None if there is none."""
        return self._history.done[-1].number if self._history.done else None

    @property
    def last_undone(self) -> int | None:
        """Number of the edit that `redo` would redo; None if there is none."""
        return self._history.undone[-1].number if self._history.undone else None

    # Saving and loading

    def take_changes(self) -> frozenset[PlaneKey]:
        """Return and forget the planes, in any view, that have changed; their ``image`` is empty."""
        changed, self._unsaved = frozenset(self._unsaved), set()
        return changed

    def restore(
        self, records: Iterable[ObjectRecord], complete: Iterable[PlaneKey], classes: tuple[ObjectClass, ...]
    ) -> None:
        """Set the metadata of the objects, as read from a project. This cannot be undone."""
        by_id = MappingProxyType({record.id: record for record in records})
        self._meta = Meta(by_id, classes, frozenset(complete))
        self.objects_changed.emit()

    # Carrying out edits

    def _carry_out(self, plan: Plan) -> EditResult:
        """Carry out a plan as one step."""
        if not plan.ids:
            return EditResult((), 0, plan.kept_out, plan.message, plan.code, plan.skipped)
        differences = [
            Change.between(
                plane, self.store.read(plane, plan.boxes.get(plane)), after, plan.boxes.get(plane, _WHOLE)[:2]
            )
            for plane, after in plan.planes.items()
        ]
        changes = tuple(change for change in differences if change is not None)
        if changes:
            with self._editing(), self.store.transaction():
                for change in changes:
                    change.write(self.store, change.after)
            self._edited_planes.update(change.plane for change in changes)
            self._refresh(changes)
        meta = self._with_records(plan.records)
        if plan.classes is not None:
            meta = replace(meta, classes=_check_classes(plan.classes))
        self._add_to_history(plan.name, changes, meta)
        pixels = sum(len(change.where) for change in changes)
        return EditResult(plan.ids, pixels, plan.kept_out, plan.message, plan.code, plan.skipped)

    @contextmanager
    def _editing(self) -> Iterator[None]:
        """Mark writes to the store as this object's own, so that listeners do not take them for painting."""
        self.is_editing = True
        try:
            yield
        finally:
            self.is_editing = False

    def _add_to_history(self, name: str, changes: tuple[Change, ...], meta: Meta) -> None:
        """Make new metadata the present one, as an edit that can be undone."""
        self._history.add(Entry(name, self._clock(), changes, self._meta, meta))
        self._meta = meta
        self.objects_changed.emit()

    def _record(self, label: int) -> ObjectRecord:
        """Return the record of an object; objects without one count as painted."""
        return self._meta.records.get(label) or self._former_records.get(label) or ObjectRecord(label)

    def _records_of(self, labels: Iterable[int]) -> dict[int, ObjectRecord]:
        return {label: self._record(label) for label in labels}

    def _with_records(self, changed: Mapping[int, ObjectRecord | None]) -> Meta:
        """Return the metadata with some records replaced, or removed where there is None."""
        records = {**self._meta.records, **changed}
        kept = {label: record for label, record in records.items() if record is not None}
        return replace(self._meta, records=MappingProxyType(kept))

    def _read(self, planes: Iterable[PlaneKey]) -> dict[PlaneKey, Pixels]:
        """Read the planes that the label image has."""
        return {plane: self.store.read(plane) for plane in planes if plane.is_in(self.store.shape)}

    def _planes_of(self, labels: Sequence[int]) -> dict[PlaneKey, Pixels]:
        """Read all planes that have pixels of some objects."""
        check_ids(labels, self._statistics.ids())
        return self._read(sorted({plane for label in labels for plane in self._statistics.planes_of(label)}))

    def _is_elsewhere(self, label: int, present: Pixels) -> bool:
        """Return whether an object has more pixels than those in a plane (y, x)."""
        return self.areas().get(label, 0) > int(np.count_nonzero(present == label))

    def _check_class(self, class_id: int, needed: bool) -> None:
        """Raise an InputError if a class does not exist; 0 for no class is allowed unless one is needed."""
        if class_id or needed:
            names = ", ".join(f"{one.id} ({one.name})" for one in self.classes) or "none yet"
            if class_id not in {one.id for one in self.classes}:
                raise InputError(f"There is no class {class_id}; the classes are: {names}.", code="class-not-found")

    # Stepping through the history

    def _step_history(self, back: bool) -> str | None:
        """Undo or redo one edit, with the store's own history if it still has the edit."""
        self._follow_store()
        source: MutableSequence[Entry] = self._history.done if back else self._history.undone
        if not source:
            return None
        entry = source[-1]
        state: State = "before" if back else "after"
        if entry.changes:
            with self._editing():
                stepped = self.store.undo() if back else self.store.redo()
                if not stepped:  # the store has forgotten this step
                    entry.write(self.store, state)
            if not entry.pixels_are(self.store, state):
                self._step_partly(entry, back)
                return entry.name
        source.pop()
        (self._history.undone if back else self._history.done).append(entry)
        self._meta = entry.before if back else entry.after
        self._refresh(entry.changes)
        self._refresh_unremembered()
        self.objects_changed.emit()
        self.stepped.emit(Step(entry.name, back, entry.changes))
        return entry.name

    def _step_partly(self, entry: Entry, back: bool) -> None:
        """Split an edit of which the store's last step was only a part, such as one of several strokes.

        If the step did not belong to the edit at all, nothing is split.
        """
        if not entry.pixels_are(self.store, "after" if back else "before"):
            first, second = entry.split_at_present(self.store)
            (self._history.done if back else self._history.undone).pop()
            self._history.done.append(first)
            self._history.undone.append(second)
            self._meta = entry.after
            self._refresh((*first.changes, *second.changes))
            self.stepped.emit(Step(entry.name, back, second.changes if back else first.changes))
        self.objects_changed.emit()

    def _follow_store(self) -> tuple[int, ...]:
        """Let the metadata follow the store's own undo and redo; return the ids whose pixels have changed."""
        entries, state = self._history.follow(self.store)
        if not entries:
            return ()
        meta = entries[-1].before if state == "before" else entries[-1].after
        for label, record in self._meta.records.items():
            if label not in meta.records:
                self._former_records[label] = record
        self._meta = meta
        ids: set[int] = set()
        for entry in entries:
            for change in entry.changes:
                self._refresh((change,))
                ids |= set(change.ids())
        self._refresh_unremembered()
        for entry in entries:
            self.stepped.emit(Step(entry.name, state == "before", entry.changes))
        return tuple(sorted(ids))

    # Keeping statistics and remembered planes up to date

    def _refresh(self, changes: Iterable[Change]) -> None:
        """Update statistics and remembered planes after changes in the store."""
        for change in changes:
            self._unsaved.add(change.plane)
            self._statistics.update(change.plane, change.ids(), change.mask(), change.box[:2])
            remembered = self._remembered.get(change.plane)
            if remembered is None:
                self._remember(change.plane, self.store.read(change.plane))
            else:  # only these pixels, so that `note_painted` still finds what was painted besides
                change.copy_to(remembered, self.store)
                self._remember(change.plane, remembered)
            self._refresh_crossing(change.plane)

    def _refresh_unremembered(self) -> None:
        """Read planes again that a step of the store may have changed too, such as other planes of a 3-D stroke."""
        for key in self._unremembered:
            self._unsaved.add(key)
            self._statistics.touch(key)
            if key in self._remembered:
                self._remembered[key] = self.store.read(key)

    def _refresh_crossing(self, plane: PlaneKey) -> None:
        """Read planes of other views again, which may share pixels with a changed plane."""
        for key in self._remembered:
            if key.axes != plane.axes:
                self._remembered[key] = self.store.read(key)

    def _remember(self, key: PlaneKey, pixels: Pixels) -> None:
        """Keep the pixels of a plane; drop the plane that was used longest ago."""
        self._remembered[key] = pixels
        self._remembered.move_to_end(key)
        while len(self._remembered) > PLANES_WATCHED:
            self._remembered.popitem(last=False)


def _check_classes(classes: Iterable[ObjectClass]) -> tuple[ObjectClass, ...]:
    """Sort classes by id; raise an InputError unless each has an id of its own."""
    ordered = tuple(sorted(classes, key=lambda one: one.id))
    if len({one.id for one in ordered}) < len(ordered) or any(one.id < 1 for one in ordered):
        raise InputError("Each class needs its own id, a whole number from 1.", code="invalid-class-ids")
    return ordered

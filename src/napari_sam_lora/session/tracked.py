"""Label images whose metadata follows their pixels: painting, undo and redo."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from types import MappingProxyType

from psygnal import Signal

from napari_sam_lora.session.edits import EditResult, Pixels, Plan
from napari_sam_lora.session.journal import Change, Entry, Journal, Meta, State, Step
from napari_sam_lora.session.measure import Measure
from napari_sam_lora.session.planes import PlaneKey
from napari_sam_lora.session.records import ObjectClass, ObjectRecord
from napari_sam_lora.session.stores import LabelStore

PLANES_WATCHED = 8
_WHOLE = (0, 0, 0, 0)


class TrackedLabels:
    """A label store, what is known of its objects, and the history of both; the base of `LabelSet`.

    Attributes
    ----------
    is_editing : bool
        Whether the store is being written to by an edit, undo or redo of this object, which need not be noted.
    """

    objects_changed = Signal()
    stepped = Signal(object)

    def __init__(
        self, store: LabelStore, classes: tuple[ObjectClass, ...] = (), clock: Callable[[], int] | None = None
    ) -> None:
        self.store = store
        self._meta = Meta(MappingProxyType({}), classes, frozenset())
        self._attic: dict[int, ObjectRecord] = {}
        self._measure = Measure(store)
        self._journal = Journal()
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
        return self._measure.is_partial

    def labelled_so_far(self) -> list[tuple[int, ...]]:
        """Positions of planes with labels; of a very large label image, of those that were seen."""
        return self._measure.labelled()

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
            self._measure.see(key)

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
            self._measure.touch(key)
        self._remember(key, present)
        self._reread_crossing(key)
        if change is None:
            if moved or known is None:
                self.objects_changed.emit()
            return moved
        ids = change.ids()
        self._measure.update(key, ids, change.mask(), change.box[:2])
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
        return self._journal.done[-1].number if self._journal.done else None

    @property
    def last_undone(self) -> int | None:
        """Number of the edit that `redo` would do again."""
        return self._journal.undone[-1].number if self._journal.undone else None

    def _step(self, back: bool) -> str | None:
        self._follow()
        source: MutableSequence[Entry] = self._journal.done if back else self._journal.undone
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
        (self._journal.undone if back else self._journal.done).append(entry)
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
            (self._journal.done if back else self._journal.undone).pop()
            self._journal.done.append(first)
            self._journal.undone.append(second)
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
        self._journal.add(Entry(name, self._clock(), changes, self._meta, meta))
        self._meta = meta
        self.objects_changed.emit()

    def _follow(self) -> tuple[int, ...]:
        """Let the metadata follow the store's own undo and redo; returns the ids whose pixels have moved."""
        entries, state = self._journal.follow(self.store)
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
            self._measure.update(change.plane, change.ids(), change.mask(), change.box[:2])
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
            self._measure.touch(key)
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

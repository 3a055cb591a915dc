"""What each edit changed, so that it can be taken back with its metadata, whoever owns the pixels' history."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.regions import Region
from napari_sam_lora.session.labels.records import ObjectClass, ObjectRecord
from napari_sam_lora.session.labels.stores import LabelStore
from napari_sam_lora.session.plane_key import Box, PlaneKey

STEPS = 200
State = Literal["before", "after"]


@dataclass(frozen=True, eq=False)
class Meta:
    """All that is known beside the pixels; replaced, never changed."""

    records: Mapping[int, ObjectRecord]
    classes: tuple[ObjectClass, ...]
    complete: frozenset[PlaneKey]


@dataclass(frozen=True, eq=False)
class Change:
    """Pixels of one plane before and after.

    Attributes
    ----------
    plane : PlaneKey
    box : tuple of int
        The part of the plane in which they are.
    where : intp (n,)
        Their positions in that part, in C order.
    before, after : int64 (n,)
    """

    plane: PlaneKey
    box: Box
    where: NDArray[np.intp]
    before: NDArray[np.int64]
    after: NDArray[np.int64]

    @classmethod
    def between(
        cls, plane: PlaneKey, before: NDArray[np.int64], after: NDArray[np.int64], origin: tuple[int, int] = (0, 0)
    ) -> Change | None:
        """The difference of two states of a plane, or of a part that begins at an origin; None if there is none."""
        changed = Region.of(before != after)
        if not changed.area:
            return None
        y0, x0, y1, x1 = changed.box
        where = np.flatnonzero(changed.crop)
        values = [pixels[y0:y1, x0:x1].ravel()[where] for pixels in (before, after)]
        box = (y0 + origin[0], x0 + origin[1], y1 + origin[0], x1 + origin[1])
        return cls(plane, box, where, *values)

    def ids(self) -> list[int]:
        """Objects that gain or lose pixels."""
        return [int(label) for label in np.union1d(self.before, self.after) if label]

    def values(self, store: LabelStore) -> NDArray[np.int64]:
        """What a store has at these positions."""
        return store.read(self.plane, self.box).ravel()[self.where]

    def mask(self) -> NDArray[np.bool_]:
        """Where it changes something in its box, (h, w)."""
        y0, x0, y1, x1 = self.box
        mask = np.zeros((y1 - y0, x1 - x0), np.bool_)
        mask.ravel()[self.where] = True
        return mask

    def write(self, store: LabelStore, values: NDArray[np.int64]) -> None:
        """Put values (n,) at these positions."""
        store.write(self.plane, self.mask(), values, self.box[:2])

    def is_seen_in(self, plane: PlaneKey) -> bool:
        """Whether a plane of any view goes through the box."""
        extent = dict(zip(self.plane.other_axes, ((place, place + 1) for place in self.plane.index), strict=True))
        extent |= {axis: (self.box[side], self.box[side + 2]) for side, axis in enumerate(self.plane.axes)}
        return all(
            extent[axis][0] <= place < extent[axis][1]
            for axis, place in zip(plane.other_axes, plane.index, strict=True)
        )

    def copy_to(self, pixels: NDArray[np.int64], store: LabelStore) -> None:
        """Let a plane (y, x) have what a store has at these positions."""
        y0, x0, y1, x1 = self.box
        pixels[y0:y1, x0:x1][self.mask()] = self.values(store)


@dataclass(frozen=True, eq=False)
class Entry:
    """One edit.

    Attributes
    ----------
    name : str
        For a person, such as "merge".
    number : int
        In the order of all edits of the session.
    changes : tuple of Change
        One a plane; none if only metadata changed.
    before, after : Meta
    """

    name: str
    number: int
    changes: tuple[Change, ...]
    before: Meta
    after: Meta

    def pixels_are(self, store: LabelStore, state: State) -> bool:
        """Whether the store has the pixels "before" or "after" this edit; they are compared, so nobody is trusted."""
        return all(np.array_equal(change.values(store), getattr(change, state)) for change in self.changes)

    def parted(self, store: LabelStore) -> tuple[Entry, Entry]:
        """Two entries that do the same, from "before" to the store's present pixels and from there to "after"."""
        first, second = [], []
        for change in self.changes:
            present = change.values(store)
            first.append(replace(change, after=present))
            second.append(replace(change, before=present))
        return replace(self, changes=tuple(first)), replace(self, changes=tuple(second), before=self.after)

    def write(self, store: LabelStore, state: State) -> None:
        """Put the pixels of that state where nothing else was written since; one step of the store."""
        other = "before" if state == "after" else "after"
        with store.transaction():
            for change in self.changes:
                same = change.values(store) == getattr(change, other)
                replace(change, where=change.where[same]).write(store, getattr(change, state)[same])


@dataclass(frozen=True, eq=False)
class Step:
    """An edit, or a part of one, that was taken back or done again.

    Attributes
    ----------
    name : str
        Of the edit.
    back : bool
        Whether it was taken back.
    changes : tuple of Change
        Pixels that moved, if any.
    """

    name: str
    back: bool
    changes: tuple[Change, ...]

    def where_to_look(self, shown: PlaneKey | None) -> PlaneKey | None:
        """A plane that shows what has moved, if the one that is shown does not."""
        if not self.changes or (shown is not None and any(change.is_seen_in(shown) for change in self.changes)):
            return None
        return self.changes[0].plane


class EditHistory:
    """The edits that can be taken back, and those that were."""

    def __init__(self) -> None:
        self.done: deque[Entry] = deque(maxlen=STEPS)
        self.undone: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """A new edit; what was taken back before cannot be done again."""
        self.done.append(entry)
        self.undone.clear()

    def follow(self, store: LabelStore) -> tuple[list[Entry], State]:
        """Find out whether the store's own undo or redo has taken edits back or done them again.

        Edits of metadata alone go with the edit of pixels below them.

        Returns
        -------
        entries : list of Entry
            Edits whose pixels have moved, in that order.
        state : str
            To "before" or to "after" them.
        """
        moved: list[Entry] = []
        while (depth := _with_pixels(reversed(self.done))) and self.done[-depth].pixels_are(store, "before"):
            for _ in range(depth):
                self.undone.append(self.done.pop())
            moved.append(self.undone[-1])
        if moved:
            return moved, "before"
        while self._redone(store):
            moved += self._redo_with_metadata()
        return moved, "after"

    def _redone(self, store: LabelStore) -> bool:
        depth = _with_pixels(reversed(self.undone))
        return bool(depth) and self.undone[-depth].pixels_are(store, "after")

    def _redo_with_metadata(self) -> list[Entry]:
        moved: list[Entry] = []
        while self.undone and not (self.undone[-1].changes and any(entry.changes for entry in moved)):
            moved.append(self.undone.pop())
        self.done.extend(moved)
        return moved


def _with_pixels(entries: Any) -> int:
    """How far back the first entry with pixels is, from 1; 0 if there is none."""
    for depth, entry in enumerate(entries, start=1):
        if entry.changes:
            return depth
    return 0

"""What each edit changed, so that it can be taken back with its metadata, whoever owns the pixels' history."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.session.planes import PlaneKey
from napari_sam_lora.session.records import ObjectClass, ObjectRecord
from napari_sam_lora.session.stores import LabelStore

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
    """Pixels of one plane before and after: positions in C order, and values of any length that is equal."""

    plane: PlaneKey
    where: NDArray[np.intp]
    before: NDArray[np.int64]
    after: NDArray[np.int64]

    @classmethod
    def between(cls, plane: PlaneKey, before: NDArray[np.int64], after: NDArray[np.int64]) -> Change | None:
        """The difference of two states of a plane; None if there is none."""
        where = np.flatnonzero(before != after)
        if not len(where):
            return None
        return cls(plane, where, before.ravel()[where], after.ravel()[where])

    def ids(self) -> list[int]:
        """Objects that gain or lose pixels."""
        return [int(label) for label in np.union1d(self.before, self.after) if label]

    def values(self, pixels: NDArray[np.int64]) -> NDArray[np.int64]:
        """What a plane (y, x) has at these positions."""
        return pixels.ravel()[self.where]

    def mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Where it changes something, (y, x)."""
        mask = np.zeros(shape, np.bool_)
        mask.ravel()[self.where] = True
        return mask


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
        return all(
            np.array_equal(change.values(store.read(change.plane)), getattr(change, state)) for change in self.changes
        )

    def parted(self, store: LabelStore) -> tuple[Entry, Entry]:
        """Two entries that do the same, from "before" to the store's present pixels and from there to "after"."""
        first, second = [], []
        for change in self.changes:
            present = change.values(store.read(change.plane))
            first.append(replace(change, after=present))
            second.append(replace(change, before=present))
        return replace(self, changes=tuple(first)), replace(self, changes=tuple(second), before=self.after)

    def write(self, store: LabelStore, state: State) -> None:
        """Put the pixels of that state where nothing else was written since; one step of the store."""
        other = "before" if state == "after" else "after"
        with store.transaction():
            for change in self.changes:
                present = change.values(store.read(change.plane))
                same = present == getattr(change, other)
                part = replace(change, where=change.where[same])
                shape = change.plane.shape(store.shape)
                store.write(change.plane, part.mask(shape), getattr(change, state)[same])


class Journal:
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

"""History of edits with their metadata, also where the store undoes and redoes the pixels itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.regions import Region
from napari_sam_lora.session.labels.records import ObjectClass, ObjectRecord
from napari_sam_lora.session.labels.stores import LabelStore, Pixels
from napari_sam_lora.session.plane_key import Box, PlaneKey

STEPS = 200
State = Literal["before", "after"]


@dataclass(frozen=True, eq=False)
class Meta:
    """Metadata of a label image; replaced, never changed."""

    records: Mapping[int, ObjectRecord]
    classes: tuple[ObjectClass, ...]
    complete: frozenset[PlaneKey]


@dataclass(frozen=True, eq=False)
class Change:
    """Pixels of one plane before and after an edit.

    Attributes
    ----------
    plane : PlaneKey
    box : tuple of int
        Box of the plane in which the pixels lie.
    where : intp (n,)
        Their positions in the box, in C order.
    before, after : int (n,)
    """

    plane: PlaneKey
    box: Box
    where: NDArray[np.intp]
    before: Pixels
    after: Pixels

    @classmethod
    def between(cls, plane: PlaneKey, before: Pixels, after: Pixels, origin: tuple[int, int] = (0, 0)) -> Change | None:
        """Compare two states of a plane, or of a box that begins at an origin; return None if they are equal."""
        changed = Region.of(before != after)
        if not changed.area:
            return None
        y0, x0, y1, x1 = changed.box
        where = np.flatnonzero(changed.crop)
        values = [pixels[y0:y1, x0:x1].ravel()[where] for pixels in (before, after)]
        box = (y0 + origin[0], x0 + origin[1], y1 + origin[0], x1 + origin[1])
        return cls(plane, box, where, *values)

    def ids(self) -> list[int]:
        """List the objects that gain or lose pixels."""
        return [int(label) for label in np.union1d(self.before, self.after) if label]

    def values(self, store: LabelStore) -> Pixels:
        """Read the present pixels (n,) of a store at these positions."""
        return store.read(self.plane, self.box).ravel()[self.where]

    def mask(self) -> NDArray[np.bool_]:
        """Return the mask (h, w) of the changed pixels in the box."""
        y0, x0, y1, x1 = self.box
        mask = np.zeros((y1 - y0, x1 - x0), np.bool_)
        mask.ravel()[self.where] = True
        return mask

    def write(self, store: LabelStore, values: Pixels) -> None:
        """Write values (n,) at these positions."""
        store.write(self.plane, self.mask(), values, self.box[:2])

    def is_seen_in(self, plane: PlaneKey) -> bool:
        """Return whether a plane of any view crosses the box."""
        extent = dict(zip(self.plane.other_axes, ((place, place + 1) for place in self.plane.index), strict=True))
        extent |= {axis: (self.box[side], self.box[side + 2]) for side, axis in enumerate(self.plane.axes)}
        return all(
            extent[axis][0] <= place < extent[axis][1]
            for axis, place in zip(plane.other_axes, plane.index, strict=True)
        )

    def copy_to(self, pixels: Pixels, store: LabelStore) -> None:
        """Copy the present pixels of a store at these positions into a plane (y, x)."""
        y0, x0, y1, x1 = self.box
        pixels[y0:y1, x0:x1][self.mask()] = self.values(store)


@dataclass(frozen=True, eq=False)
class Entry:
    """One edit in the history.

    Attributes
    ----------
    name : str
        Name for the user, such as "merge".
    number : int
        Position in the order of all edits of the session.
    changes : tuple of Change
        One for each plane; empty if only metadata changed.
    before, after : Meta
    """

    name: str
    number: int
    changes: tuple[Change, ...]
    before: Meta
    after: Meta

    def pixels_are(self, store: LabelStore, state: State) -> bool:
        """Return whether the pixels of the store are those "before" or "after" this edit, by comparing them."""
        return all(np.array_equal(change.values(store), getattr(change, state)) for change in self.changes)

    def split_at_present(self, store: LabelStore) -> tuple[Entry, Entry]:
        """Split into two entries: from "before" to the present pixels of the store, and from those to "after"."""
        first, second = [], []
        for change in self.changes:
            present = change.values(store)
            first.append(replace(change, after=present))
            second.append(replace(change, before=present))
        return replace(self, changes=tuple(first)), replace(self, changes=tuple(second), before=self.after)

    def write(self, store: LabelStore, state: State) -> None:
        """Write the pixels of a state where nothing else was written since, as one step of the store."""
        other = "before" if state == "after" else "after"
        with store.transaction():
            for change in self.changes:
                same = change.values(store) == getattr(change, other)
                replace(change, where=change.where[same]).write(store, getattr(change, state)[same])


@dataclass(frozen=True, eq=False)
class Step:
    """Edit, or a part of one, that was undone or redone.

    Attributes
    ----------
    name : str
        Name of the edit.
    back : bool
        Whether it was undone.
    changes : tuple of Change
        Pixels that changed, if any.
    """

    name: str
    back: bool
    changes: tuple[Change, ...]

    def where_to_look(self, shown: PlaneKey | None) -> PlaneKey | None:
        """Return a plane that shows the changed pixels; None if the plane on display does, or if there are none."""
        if not self.changes or (shown is not None and any(change.is_seen_in(shown) for change in self.changes)):
            return None
        return self.changes[0].plane


class EditHistory:
    """Edits that can be undone, and edits that can be redone."""

    def __init__(self) -> None:
        self.done: deque[Entry] = deque(maxlen=STEPS)
        self.undone: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Add a new edit; edits that were undone before cannot be redone any more."""
        self.done.append(entry)
        self.undone.clear()

    def follow(self, store: LabelStore) -> tuple[list[Entry], State]:
        """Detect which edits the store's own undo or redo has undone or redone.

        Edits of metadata alone go with the edit of pixels before them.

        Returns
        -------
        entries : list of Entry
            Edits whose pixels were undone or redone, in that order.
        state : str
            "before" if they were undone, "after" if they were redone.
        """
        moved: list[Entry] = []
        while (depth := _depth_of_pixels(reversed(self.done))) and self.done[-depth].pixels_are(store, "before"):
            for _ in range(depth):
                self.undone.append(self.done.pop())
            moved.append(self.undone[-1])
        if moved:
            return moved, "before"
        while self._was_redone(store):
            moved += self._redo_with_metadata()
        return moved, "after"

    def _was_redone(self, store: LabelStore) -> bool:
        """Return whether the store has redone the next edit of pixels."""
        depth = _depth_of_pixels(reversed(self.undone))
        return bool(depth) and self.undone[-depth].pixels_are(store, "after")

    def _redo_with_metadata(self) -> list[Entry]:
        """Redo the next edit of pixels, and the edits of metadata around it."""
        moved: list[Entry] = []
        while self.undone and not (self.undone[-1].changes and any(entry.changes for entry in moved)):
            moved.append(self.undone.pop())
        self.done.extend(moved)
        return moved


def _depth_of_pixels(entries: Any) -> int:
    """Return the position of the first entry with pixels, from 1; 0 if there is none."""
    for depth, entry in enumerate(entries, start=1):
        if entry.changes:
            return depth
    return 0

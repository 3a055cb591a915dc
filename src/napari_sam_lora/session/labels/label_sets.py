"""Label images of a session by id, the target among them, and one history over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count

from psygnal import Signal

from napari_sam_lora.errors import InputError
from napari_sam_lora.session.labels.label_set import LabelSet
from napari_sam_lora.session.labels.records import ObjectClass
from napari_sam_lora.session.labels.stores import LabelStore


class LabelSets(Mapping[str, LabelSet]):
    """Label images by id, in the order in which they were added. Used on the owner's thread only.

    Events (emitted on the owner's thread)
    --------------------------------------
    labels_changed : ()
        A label image was added or removed. `LabelSet.objects_changed` tells of changes inside one.

    Attributes
    ----------
    target : str
        Id of the label image that is written to and segmented by default; empty for none.
    """

    labels_changed = Signal()

    def __init__(self) -> None:
        self.target = ""
        self._sets: dict[str, LabelSet] = {}
        self._edits = count()

    def __getitem__(self, labels: str) -> LabelSet:
        return self._sets[labels]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sets)

    def __len__(self) -> int:
        return len(self._sets)

    def add(self, labels: str, store: LabelStore, classes: Iterable[ObjectClass] = ()) -> LabelSet:
        """Add a label image under an id, or replace the one with this id; it becomes the `target`."""
        added = self._sets[labels] = LabelSet(store, classes, self._edits.__next__)
        self.target = labels
        self.labels_changed.emit()
        return added

    def remove(self, labels: str) -> None:
        """Remove a label image and its history; if it is the target, the one added last becomes the target."""
        self._sets.pop(labels, None)
        if self.target == labels:
            self.target = next(reversed(self._sets), "")
        self.labels_changed.emit()

    def need(self, labels: str | None = None) -> LabelSet:
        """Return a label image by id, by default the target, or raise an InputError."""
        chosen = self.target if labels is None else labels
        if chosen not in self._sets:
            raise InputError("There is no label image to work on: choose or create one first.", code="no-label-image")
        return self._sets[chosen]

    def undo(self) -> str | None:
        """Undo the last edit of any label image; return its name, or None if there is nothing to undo."""
        numbered = [(number, one) for one in self._sets.values() if (number := one.last_done) is not None]
        return max(numbered, key=lambda pair: pair[0])[1].undo() if numbered else None

    def redo(self) -> str | None:
        """Redo the edit that was undone last; return its name, or None if there is none."""
        numbered = [(number, one) for one in self._sets.values() if (number := one.last_undone) is not None]
        return min(numbered, key=lambda pair: pair[0])[1].redo() if numbered else None

"""One label image: its pixels, its objects and every edit of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from psygnal import Signal

from napari_sam_lora.session.planes import PlaneKey
from napari_sam_lora.session.preview import Preview
from napari_sam_lora.session.proposals import Proposal
from napari_sam_lora.session.records import ObjectClass, ObjectRecord, ObjectStats
from napari_sam_lora.session.stores import LabelStore


@dataclass(frozen=True)
class CommitPolicy:
    """What a commit does with the masks of a preview.

    Attributes
    ----------
    target : str
        "new": each mask is a new object with the next free id; "part": all masks become part of object
        ``label``; "class": all masks are written with the value of class ``class_id`` (a semantic label image).
    label : int
        For "part".
    class_id : int
        For "class"; for "new" and "part" the class of the object.
    overwrite : bool
        Whether pixels of other objects may be taken.
    """

    target: Literal["new", "part", "class"] = "new"
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


class LabelSet:
    """One label image with its objects. Used on the owner's thread only.

    Every edit is one step of the store and one step of `undo`, metadata included; each returns what it did, and
    raises `InputError` for an id or class that does not exist, having changed nothing.

    Events (emitted on the owner's thread)
    --------------------------------------
    objects_changed : ()
        Records, pixels or classes have changed, through an edit, painting, undo or redo.

    Parameters
    ----------
    store : LabelStore
    classes : iterable of ObjectClass
    """

    objects_changed = Signal()

    def __init__(self, store: LabelStore, classes: Iterable[ObjectClass] = ()) -> None:
        self.store = store

    # Looking

    def records(self) -> tuple[ObjectRecord, ...]:
        """Objects that are in the pixels, by id. Ids that were never seen before count as painted."""
        raise NotImplementedError

    def record(self, label: int) -> ObjectRecord:
        """One object."""
        raise NotImplementedError

    def stats(self, label: int) -> ObjectStats:
        """Area, centroid and box, measured when asked and remembered until the object's planes change."""
        raise NotImplementedError

    def next_id(self) -> int:
        """The smallest id above all in use, those that redo would bring back included."""
        raise NotImplementedError

    @property
    def classes(self) -> tuple[ObjectClass, ...]:
        """By id."""
        raise NotImplementedError

    @property
    def complete_planes(self) -> frozenset[PlaneKey]:
        """Planes marked as complete: everything in them that should be labelled is."""
        raise NotImplementedError

    def labelled_planes(self, image: str) -> list[PlaneKey]:
        """Planes with labels: those edited in this session, in whatever view, and all others of the last two axes."""
        raise NotImplementedError

    # Editing

    def commit(self, preview: Preview, policy: CommitPolicy | None = None) -> EditResult:
        """Write the masks of a preview; finished objects keep their pixels unless the policy overwrites them.

        If no pixel can be written, nothing changes and the result's message says why.
        """
        raise NotImplementedError

    def apply(self, proposal: Proposal, accept: Iterable[int] | None = None) -> EditResult:
        """Make proposed changes, all or those with the given positions, as one step.

        Objects painted, approved or deleted since the proposal was made stay as they are, and so do objects whose
        new mask has no free pixel.
        """
        raise NotImplementedError

    def delete(self, labels: Sequence[int]) -> EditResult:
        """Set all pixels of these objects to background."""
        raise NotImplementedError

    def merge(self, labels: Sequence[int]) -> EditResult:
        """Make one object of several; it has the first id, and the prompts of all."""
        raise NotImplementedError

    def split(self, label: int) -> EditResult:
        """Give each connected part of an object its own id; the largest keeps the present one."""
        raise NotImplementedError

    def set_class(self, labels: Sequence[int], class_id: int) -> EditResult:
        """Give these objects a class; 0 for none."""
        raise NotImplementedError

    def approve(self, labels: Sequence[int], approved: bool = True) -> EditResult:
        """Approve these objects, or take that back."""
        raise NotImplementedError

    def set_classes(self, classes: Iterable[ObjectClass]) -> None:
        """Replace the list of classes. Objects of a class that is gone have none."""
        raise NotImplementedError

    def mark_complete(self, plane: PlaneKey, complete: bool = True) -> None:
        """Mark a plane as complete, or take that back."""
        raise NotImplementedError

    # Painting and history

    def watch(self, plane: PlaneKey) -> None:
        """Remember the plane as it is; call it when a plane is shown, so that `note_painted` can compare."""
        raise NotImplementedError

    def note_painted(self, plane: PlaneKey) -> tuple[int, ...]:
        """Call it after pixels were changed by anything but this object: the brush, the store's own undo or redo.

        Objects that gained or lost pixels become "painted" (prompts stay); an edit of this set that was taken
        back or done again through the store's history takes its metadata with it.

        Returns
        -------
        tuple of int
            Ids that changed.
        """
        raise NotImplementedError

    def undo(self) -> str | None:
        """Take back the last edit or painting, metadata included; its name, or None if there is nothing."""
        raise NotImplementedError

    def redo(self) -> str | None:
        """Do it again."""
        raise NotImplementedError

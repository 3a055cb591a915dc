"""Changes that are shown before they are made: re-segmentation, refinement, everything mode."""

from __future__ import annotations

from dataclasses import dataclass

from napari_sam_lora.session.planes import PlaneKey
from napari_sam_lora.session.records import Origin, StoredPrompts
from napari_sam_lora.session.regions import Region


@dataclass(frozen=True, eq=False)
class ProposedChange:
    """One object in one plane, before and after.

    Attributes
    ----------
    plane : PlaneKey
    label : int
        Id of the object; 0 for a new one.
    old, new : Region
        ``old`` is empty for a new object.
    score : float
        Predicted IoU of the new mask.
    iou : float
        Of old and new; 1 means unchanged.
    prompts : tuple of StoredPrompts
        What ``new`` was made from.
    """

    plane: PlaneKey
    label: int
    old: Region
    new: Region
    score: float
    iou: float
    prompts: tuple[StoredPrompts, ...] = ()


@dataclass(frozen=True, eq=False)
class Proposal:
    """Changes to look through, and then to give to `LabelSet.apply`, all or some.

    Attributes
    ----------
    changes : tuple of ProposedChange
        Unchanged objects are left out; the most different first.
    origin : str
        What the accepted objects will be: "re-segmented" or "everything".
    adapter : str
        Name of the adapter that was active; empty for the base model.
    left_alone : int
        Objects that were painted or approved, or have no prompts.
    unchanged : int
        Objects whose mask stays the same.
    """

    changes: tuple[ProposedChange, ...]
    origin: Origin
    adapter: str
    left_alone: int = 0
    unchanged: int = 0

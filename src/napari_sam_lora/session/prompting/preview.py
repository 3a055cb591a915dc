"""Previews: masks made from prompts in the worker thread, before they become labels."""

from __future__ import annotations

from dataclasses import dataclass

from napari_sam_lora.masks import MaskOptions, ObjectMask
from napari_sam_lora.session.plane_key import PlaneKey
from napari_sam_lora.session.prompting.draft import Row


@dataclass(frozen=True, eq=False)
class Preview:
    """Masks of the prompted objects of a plane, before they become labels.

    Attributes
    ----------
    plane : PlaneKey
    shape : tuple of int
        (y, x) of the plane.
    rows : tuple of (tuple of PromptItem)
        Prompts of each object.
    objects : tuple of int
        Number of each object in the draft.
    masks : tuple of ObjectMask
        Scores are at most 1.
    options : MaskOptions
    adapter : str
        Name of the adapter that was active; empty for the base model.
    """

    plane: PlaneKey
    shape: tuple[int, int]
    rows: tuple[Row, ...]
    objects: tuple[int, ...]
    masks: tuple[ObjectMask, ...]
    options: MaskOptions
    adapter: str = ""

    def __len__(self) -> int:
        return len(self.objects)

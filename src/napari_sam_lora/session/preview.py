"""Masks of prompts, computed off the main thread by a pure function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.session.planes import PlaneKey

if TYPE_CHECKING:
    from napari_sam_lora.session.prompts import Row


@dataclass(frozen=True)
class MaskOptions:
    """How masks are made of what the model says.

    Attributes
    ----------
    candidate : int or "auto"
        0, 1 or 2 takes that one of SAM's three candidates; "auto" the best one for a lone point, and SAM's single
        mask otherwise.
    threshold : float
        On the logits; higher makes masks smaller.
    fill_holes : bool
    smallest : int
        Connected parts with fewer pixels are dropped.
    window : tuple of float, optional
        Intensities shown as black and white, instead of those of the model or adapter; the contrast limits of a
        layer can be given here.

    Raises
    ------
    InputError
        If a value is out of range.
    """

    candidate: Literal["auto", 0, 1, 2] = "auto"
    threshold: float = 0.0
    fill_holes: bool = False
    smallest: int = 0
    window: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Preview:
    """Masks of the prompted objects of a plane; not yet labels.

    Attributes
    ----------
    plane : PlaneKey
    rows : tuple of (tuple of PromptItem)
        The prompts of each object.
    objects : tuple of int
        Its number in the draft.
    masks : bool (n, y, x)
    scores : float32 (n,)
        Predicted IoU.
    candidates : bool (n, 3, y, x)
        At the same threshold, not filled or cleaned.
    candidate_scores : float32 (n, 3)
    options : MaskOptions
    adapter : str
        Name of the adapter that was active; empty for the base model.
    """

    plane: PlaneKey
    rows: tuple[Row, ...]
    objects: tuple[int, ...]
    masks: NDArray[np.bool_]
    scores: NDArray[np.float32]
    candidates: NDArray[np.bool_]
    candidate_scores: NDArray[np.float32]
    options: MaskOptions
    adapter: str = ""

    def __len__(self) -> int:
        return len(self.objects)


def clean(mask: NDArray[np.bool_], options: MaskOptions) -> NDArray[np.bool_]:
    """Fill holes and drop small parts of a mask (y, x), as the options say."""
    raise NotImplementedError

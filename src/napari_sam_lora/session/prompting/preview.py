"""Previews: masks made from prompts, computed by pure functions in the worker thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam_lora.errors import InputError
from napari_sam_lora.images import Preprocessing
from napari_sam_lora.session.plane_key import PlaneKey
from napari_sam_lora.session.prompting.draft import Row, group_rows

if TYPE_CHECKING:
    from napari_sam_lora.images import Prepared
    from napari_sam_lora.model.predictor import Predictor, Result


@dataclass(frozen=True)
class MaskOptions:
    """Options for making masks of the model's output.

    Attributes
    ----------
    candidate : int or "auto"
        0, 1 or 2 selects one of SAM's three candidates; "auto" the best candidate for a single point, and SAM's single
        mask otherwise.
    threshold : float
        Threshold on the logits; a higher one makes masks smaller.
    fill_holes : bool
    smallest : int
        Connected components with fewer pixels are dropped.
    window : tuple of float, optional
        Intensities of black and white, such as the contrast limits of a layer; by default those of the model or
        adapter.

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

    def __post_init__(self) -> None:
        if self.candidate not in ("auto", 0, 1, 2):
            raise InputError(
                f"The candidate is 0, 1, 2 or 'auto', not {self.candidate!r}.", code="candidate-out-of-range"
            )
        if not np.isfinite(self.threshold):
            raise InputError(f"The threshold must be a number, not {self.threshold}.", code="threshold-out-of-range")
        if self.smallest < 0:
            raise InputError(
                f"The smallest size must be 0 or more pixels, not {self.smallest}.", code="smallest-out-of-range"
            )
        if self.window is not None:
            Preprocessing(window=self.window)  # checks it


@dataclass(frozen=True, eq=False)
class Preview:
    """Masks of the prompted objects of a plane, before they become labels.

    Attributes
    ----------
    plane : PlaneKey
    rows : tuple of (tuple of PromptItem)
        Prompts of each object.
    objects : tuple of int
        Number of each object in the draft.
    masks : bool (n, y, x)
    scores : float32 (n,)
        Predicted IoU, at most 1.
    candidates : bool (n, 3, y, x)
        SAM's candidates at the same threshold, not filled or cleaned.
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


@dataclass(frozen=True, eq=False)
class RowMask:
    """Output of the model for one object; the fields are rows of those of `Preview`."""

    mask: NDArray[np.bool_]
    score: float
    candidates: NDArray[np.bool_]
    candidate_scores: NDArray[np.float32]


def segment_rows(
    predictor: Predictor, prepared: Prepared, rows: Sequence[Row], options: MaskOptions
) -> list[RowMask | None]:
    """Segment some objects of a plane; the result is None for those without a positive prompt.

    The plane is encoded unless its embedding is in memory. Called in the worker thread.
    """
    masks: list[RowMask | None] = [None] * len(rows)
    groups = group_rows(rows, prepared.shape)
    if not groups:
        return masks
    embedding = predictor.encode_prepared(prepared)
    for group in groups:
        logits, scores = predictor.decode(embedding, group.prompts)
        # Upscaling is linear, so moving the logits moves the threshold.
        result = predictor.upscale(prepared.shape, logits - options.threshold, scores, group.prompts, "auto")
        for place, row in enumerate(group.rows):
            masks[row] = _choose(result, place, options)
    return masks


def clean(mask: NDArray[np.bool_], options: MaskOptions) -> NDArray[np.bool_]:
    """Fill holes and drop small components of a mask (y, x), as the options say."""
    if options.fill_holes:
        mask = ndi.binary_fill_holes(mask)
    if options.smallest > 1:
        components, count = ndi.label(mask, np.ones((3, 3)))
        large = np.bincount(components.ravel(), minlength=count + 1) >= options.smallest
        large[0] = False
        mask = large[components]
    return mask


def _choose(result: Result, place: int, options: MaskOptions) -> RowMask:
    """Choose the mask of one object among the candidates, and clean it."""
    candidates, scores = result.candidates[place], np.minimum(result.candidate_scores[place], 1)
    if options.candidate == "auto":
        mask, score = result.masks[place], result.scores[place]
    else:
        mask, score = candidates[options.candidate], scores[options.candidate]
    return RowMask(clean(mask, options), min(float(score), 1.0), candidates, scores)

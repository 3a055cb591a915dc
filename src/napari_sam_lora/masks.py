"""Masks of prompted objects, and how they are made of the model's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.morphology import remove_small_objects

from napari_sam_lora.errors import InputError
from napari_sam_lora.images import Preprocessing
from napari_sam_lora.regions import Region


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
class ObjectMask:
    """Mask of one prompted object, from the decoder to the labels.

    Attributes
    ----------
    region : Region
        Its pixels in the plane.
    score : float
        Predicted IoU.
    candidates : tuple of Region
        SAM's three candidates at the same threshold, not filled or cleaned; empty unless the decoder was asked for
        them.
    candidate_scores : tuple of float
        Predicted IoU of each candidate.
    logits : float32 (h, w), optional
        Logits of the pixels of ``region.crop``, above 0 inside the mask.
    """

    region: Region
    score: float
    candidates: tuple[Region, ...] = ()
    candidate_scores: tuple[float, float, float] = (0.0, 0.0, 0.0)
    logits: NDArray[np.float32] | None = None

    @property
    def needed_logits(self) -> NDArray[np.float32]:
        """The logits of a mask that comes from the decoder."""
        if self.logits is None:
            raise ValueError("This mask has no logits: use it as the decoder gives it.")
        return self.logits


def clean(region: Region, options: MaskOptions) -> Region:
    """Fill holes and drop small components of a mask, as the options say; components may touch at corners."""
    crop = region.crop
    if options.fill_holes and crop.size:
        crop = ndi.binary_fill_holes(crop)
    if options.smallest > 1 and crop.any():
        crop = remove_small_objects(crop, max_size=options.smallest - 1, connectivity=2)
    return region if crop is region.crop else Region.of(crop, region.origin)

"""One step of a propagation: objects of a plane, found again in the next one or ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.regions import Region
from napari_sam_lora.stacks.propagation.config import PropagationConfig
from napari_sam_lora.stacks.propagation.contrast import contrast, telling_contrast
from napari_sam_lora.stacks.propagation.overlap import Contest, overlap, without_strays
from napari_sam_lora.stacks.propagation.projection import project
from napari_sam_lora.stacks.tile_masks import ObjectPrompts, PlaneDecoder, TileMask

EndReason = Literal["score", "overlap", "growth", "shrinkage", "size", "contrast", "closed"]


@dataclass(frozen=True, eq=False)
class Followed:
    """Objects of one plane.

    Attributes
    ----------
    objects : mapping of int to Region
    scores : mapping of int to float
        Predicted IoU.
    ended : mapping of int to str
        Objects that were not found, and why.
    """

    objects: Mapping[int, Region]
    scores: Mapping[int, float]
    ended: Mapping[int, EndReason]


def follow(
    decoder: PlaneDecoder,
    before: Mapping[int, Region],
    free: NDArray[np.bool_],
    config: PropagationConfig,
    min_score: float,
    contrasts: Mapping[int, float],
) -> tuple[Followed, dict[int, ObjectPrompts]]:
    """Find objects again.

    Parameters
    ----------
    decoder : PlaneDecoder
        Of the plane.
    before : mapping of int to Region
        The objects in the neighbouring plane.
    free : bool (y, x)
        Pixels that may be taken.
    config : PropagationConfig
    min_score : float
        Least predicted IoU.
    contrasts : mapping of int to float
        See `own_contrasts`.

    Returns
    -------
    found : Followed
    asked : dict of int to ObjectPrompts
        The prompts of each object.
    """
    asked = project(before, config, decoder.shape)
    ids = list(asked)
    contest, scores = Contest(decoder.shape), dict[int, float]()
    ended: dict[int, EndReason] = {}
    for placed in decoder.decode(list(asked.values())):
        label = ids[placed.row]
        region = _own(placed, free)
        if config.smooth:
            region = without_strays(region, before[label])
        region = _only_free(region, free)
        why = "score" if placed.score < min_score else why_ended(region, before[label], config)
        if why is None and config.min_contrast:
            least = config.min_contrast * contrasts.get(label, float("nan"))
            seen = contrast(decoder.intensities, placed.region())
            why = "contrast" if seen * np.sign(least) < abs(least) else None
        if why is not None:
            ended[label] = why
            continue
        scores[label] = placed.score
        contest.add(label, region, _logits(placed, region))
    objects = contest.regions()
    for label in list(scores):
        won = objects.get(label)
        why = "size" if won is None else why_ended(won, before[label], config)
        if why is not None:
            ended[label] = why
            objects.pop(label, None)
            del scores[label]
    return Followed(objects, scores, ended), asked


def own_contrasts(decoder: PlaneDecoder, known: Mapping[int, Region], config: PropagationConfig) -> dict[int, float]:
    """How known objects stand out when they are segmented from their own projection; NaN where that tells nothing.

    Outlines that a person draws run otherwise than the model's, so the two are not compared with each other.
    """
    if not config.min_contrast:
        return {}
    asked = project(known, config, decoder.shape)
    ids = list(asked)
    return {
        ids[placed.row]: telling_contrast(decoder.intensities, placed.region())
        for placed in decoder.decode(list(asked.values()))
    }


def segment_seeds(decoder: PlaneDecoder, asked: Mapping[int, ObjectPrompts], free: NDArray[np.bool_]) -> Followed:
    """Segment objects from the prompts that a user gave; those without a free pixel are left out."""
    ids = list(asked)
    contest, scores = Contest(decoder.shape), dict[int, float]()
    for placed in decoder.decode(list(asked.values())):
        region = _own(placed, free)
        contest.add(ids[placed.row], region, _logits(placed, region))
        scores[ids[placed.row]] = placed.score
    objects = contest.regions()
    return Followed(objects, {label: scores[label] for label in objects}, {})


def why_ended(region: Region, before: Region, config: PropagationConfig) -> EndReason | None:
    """Why a mask is not the object of the plane before any more; None if it is."""
    area = region.area
    if area < max(1, config.smallest):
        return "size"
    if area * config.max_shrinkage < before.area:
        return "shrinkage"
    if area > before.area * config.max_growth:
        return "growth"
    return "overlap" if overlap(region, before) < config.min_overlap else None


def _own(placed: TileMask, free: NDArray[np.bool_]) -> Region:
    return _only_free(Region(placed.origin, placed.logits > 0), free)


def _only_free(region: Region, free: NDArray[np.bool_]) -> Region:
    y0, x0, y1, x1 = region.box
    return Region(region.origin, region.crop & free[y0:y1, x0:x1])


def _logits(placed: TileMask, region: Region) -> NDArray[np.float32]:
    """Of the crop of a region that lies within the mask; filled holes are as weak as can be."""
    top, left = region.origin[0] - placed.origin[0], region.origin[1] - placed.origin[1]
    height, width = region.crop.shape
    return np.maximum(placed.logits[top : top + height, left : left + width], np.float32(0))

"""One step of a propagation: find the objects of a plane again in the next one, or end them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.masks import ObjectMask
from napari_sam_lora.overlap import region_iou
from napari_sam_lora.parameters.propagation import PropagationConfig
from napari_sam_lora.prompts import ObjectPrompts
from napari_sam_lora.regions import Region
from napari_sam_lora.stacks.plane_decoder import ImageDecoder
from napari_sam_lora.stacks.propagation.contrast import contrast, reliable_contrast
from napari_sam_lora.stacks.propagation.overlap import OverlapResolver, without_strays
from napari_sam_lora.stacks.propagation.projection import project

EndReason = Literal["score", "overlap", "growth", "shrinkage", "size", "contrast", "closed"]


@dataclass(frozen=True, eq=False)
class Followed:
    """Result of a step: objects of one plane.

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
    decoder: ImageDecoder,
    before: Mapping[int, Region],
    free: NDArray[np.bool_],
    config: PropagationConfig,
    min_score: float,
    contrasts: Mapping[int, float],
) -> tuple[Followed, dict[int, ObjectPrompts]]:
    """Find objects of the neighbouring plane again.

    Parameters
    ----------
    decoder : ImageDecoder
        Decoder of the plane.
    before : mapping of int to Region
        The objects in the neighbouring plane.
    free : bool (y, x)
        Pixels that objects may occupy.
    config : PropagationConfig
    min_score : float
        Least predicted IoU.
    contrasts : mapping of int to float
        See `reference_contrasts`.

    Returns
    -------
    found : Followed
    prompts : dict of int to ObjectPrompts
        The prompts of each object.
    """
    prompts = project(before, config, decoder.shape)
    ids = list(prompts)
    resolver, scores = OverlapResolver(decoder.shape), dict[int, float]()
    ended: dict[int, EndReason] = {}
    for row, mask in decoder.decode(list(prompts.values())):
        label = ids[row]
        region = _only_free(mask.region, free)
        if config.smooth:
            region = without_strays(region, before[label])
        region = _only_free(region, free)
        reason = "score" if mask.score < min_score else end_reason(region, before[label], config)
        if reason is None and config.min_contrast:
            least = config.min_contrast * contrasts.get(label, float("nan"))
            found = contrast(decoder.intensities, mask.region)
            reason = "contrast" if found * np.sign(least) < abs(least) else None
        if reason is not None:
            ended[label] = reason
            continue
        scores[label] = mask.score
        resolver.add(label, region, _logits(mask, region))
    objects = resolver.regions()
    for label in list(scores):
        resolved = objects.get(label)
        reason = "size" if resolved is None else end_reason(resolved, before[label], config)
        if reason is not None:
            ended[label] = reason
            objects.pop(label, None)
            del scores[label]
    return Followed(objects, scores, ended), prompts


def reference_contrasts(
    decoder: ImageDecoder, objects: Mapping[int, Region], config: PropagationConfig
) -> dict[int, float]:
    """Measure the contrast of objects of a key plane, segmented from their own projection; NaN if not reliable.

    Outlines drawn by a person differ from the model's, so contrasts are compared between masks of the model only.
    """
    if not config.min_contrast:
        return {}
    prompts = project(objects, config, decoder.shape)
    ids = list(prompts)
    return {
        ids[row]: reliable_contrast(decoder.intensities, mask.region)
        for row, mask in decoder.decode(list(prompts.values()))
    }


def segment_seeds(decoder: ImageDecoder, prompts: Mapping[int, ObjectPrompts], free: NDArray[np.bool_]) -> Followed:
    """Segment objects from the user's prompts; those without a free pixel are left out."""
    ids = list(prompts)
    resolver, scores = OverlapResolver(decoder.shape), dict[int, float]()
    for row, mask in decoder.decode(list(prompts.values())):
        region = _only_free(mask.region, free)
        resolver.add(ids[row], region, _logits(mask, region))
        scores[ids[row]] = mask.score
    objects = resolver.regions()
    return Followed(objects, {label: scores[label] for label in objects}, {})


def end_reason(region: Region, before: Region, config: PropagationConfig) -> EndReason | None:
    """Return why a mask is no longer the object of the plane before; None if it still is."""
    area = region.area
    if area < max(1, config.smallest):
        return "size"
    if area * config.max_shrinkage < before.area:
        return "shrinkage"
    if area > before.area * config.max_growth:
        return "growth"
    return "overlap" if region_iou(region, before) < config.min_overlap else None


def _only_free(region: Region, free: NDArray[np.bool_]) -> Region:
    y0, x0, y1, x1 = region.box
    return Region(region.origin, region.crop & free[y0:y1, x0:x1])


def _logits(mask: ObjectMask, region: Region) -> NDArray[np.float32]:
    """Return the logits (h, w) of the crop of a region within the mask; filled holes have 0, the lowest."""
    y0, x0, y1, x1 = np.subtract(region.box, mask.region.origin * 2)
    return np.maximum(mask.needed_logits[y0:y1, x0:x1], np.float32(0))

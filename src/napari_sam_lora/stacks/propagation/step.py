"""One step of a propagation: find the objects of a plane again in the next one, or end them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.masks import ObjectMask
from napari_sam_lora.overlap import region_iou
from napari_sam_lora.parameters.propagation import PropagationConfig
from napari_sam_lora.prompts import ObjectPrompts
from napari_sam_lora.regions import Region
from napari_sam_lora.stacks.plane_decoder import ImageDecoder
from napari_sam_lora.stacks.propagation.contrast import Intensities, measure_intensities
from napari_sam_lora.stacks.propagation.doubts import Doubt, Reference, doubt_about
from napari_sam_lora.stacks.propagation.overlap import OverlapResolver, without_strays
from napari_sam_lora.stacks.propagation.projection import project

EndReason = Literal["score", "overlap", "growth", "shrinkage", "size", "contrast", "doubtful", "closed"]


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
    doubts : mapping of int to str
        Objects whose mask is doubtful, and why: "size" or "intensity".
    """

    objects: Mapping[int, Region]
    scores: Mapping[int, float]
    ended: Mapping[int, EndReason]
    doubts: Mapping[int, Doubt] = field(default_factory=dict)

    def without(self, labels: Collection[int], reason: EndReason) -> Followed:
        """Return a copy in which some objects have ended."""
        return replace(
            self,
            objects={label: region for label, region in self.objects.items() if label not in labels},
            scores={label: score for label, score in self.scores.items() if label not in labels},
            ended={**self.ended, **dict.fromkeys(labels, reason)},
            doubts={label: doubt for label, doubt in self.doubts.items() if label not in labels},
        )


def follow(
    decoder: ImageDecoder,
    before: Mapping[int, Region],
    free: NDArray[np.bool_],
    config: PropagationConfig,
    min_score: float,
    references: Mapping[int, Reference],
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
    references : mapping of int to Reference
        See `references_of`.

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
    intensities: dict[int, Intensities] = {}
    for row, mask in decoder.decode(list(prompts.values())):
        label = ids[row]
        region = _only_free(mask.region, free)
        if config.smooth:
            region = without_strays(region, before[label])
        region = _only_free(region, free)
        reason = "score" if mask.score < min_score else end_reason(region, before[label], config)
        if reason is None:
            intensities[label] = measure_intensities(decoder.intensities, mask.region)
            reason = "contrast" if _has_faded(intensities[label], references[label].intensities, config) else None
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
    found = {
        label: doubt_about(region.area, intensities[label], references[label], config)
        for label, region in objects.items()
    }
    doubts = {label: doubt for label, doubt in found.items() if doubt is not None}
    return Followed(objects, scores, ended, doubts), prompts


def references_of(
    decoder: ImageDecoder, objects: Mapping[int, Region], areas: Mapping[int, int], config: PropagationConfig
) -> dict[int, Reference]:
    """Measure objects of a key plane, segmented from their own projection.

    Outlines drawn by a person differ from the model's, so intensities are compared between masks of the model only.

    Parameters
    ----------
    decoder : ImageDecoder
        Decoder of the plane.
    objects : mapping of int to Region
    areas : mapping of int to int
        Area of each object in the key plane where it is largest, in pixels.
    config : PropagationConfig
    """
    prompts = project(objects, config, decoder.shape)
    ids = list(prompts)
    return {
        ids[row]: Reference(areas[ids[row]], measure_intensities(decoder.intensities, mask.region))
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


def _has_faded(found: Intensities, key: Intensities, config: PropagationConfig) -> bool:
    """Return whether the contrast is below the least share of that in the key plane, if that is reliable."""
    least = config.min_contrast * key.contrast
    return key.is_reliable and bool(found.contrast * np.sign(least) < abs(least))


def _only_free(region: Region, free: NDArray[np.bool_]) -> Region:
    y0, x0, y1, x1 = region.box
    return Region(region.origin, region.crop & free[y0:y1, x0:x1])


def _logits(mask: ObjectMask, region: Region) -> NDArray[np.float32]:
    """Return the logits (h, w) of the crop of a region within the mask; filled holes have 0, the lowest."""
    y0, x0, y1, x1 = np.subtract(region.box, mask.region.origin * 2)
    return np.maximum(mask.needed_logits[y0:y1, x0:x1], np.float32(0))

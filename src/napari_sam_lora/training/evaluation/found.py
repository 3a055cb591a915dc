"""Count the held-out objects that are found without prompts, and choose the parameters that find most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from segment_anything.modeling import Sam

from napari_sam_lora.images import Preprocessing
from napari_sam_lora.model.dense.dense_model import DenseModel
from napari_sam_lora.model.dense.head import DenseHead
from napari_sam_lora.model.dense.instances import maps_to_labels
from napari_sam_lora.model.embeddings import EmbeddingCache
from napari_sam_lora.model.predictor import Predictor
from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.stacks.dense import dense_maps, dense_model, refined
from napari_sam_lora.training.data.samples import ObjectRef, Plane
from napari_sam_lora.training.evaluation.instance_matching import Matches, Overlaps

SENSITIVITIES = (0.4, 0.5, 0.6)
SEPARATIONS = (0.7, 0.75, 0.8, 0.85, 0.9)
# Least gain of a choice other than the given one, and of refining, which costs time.
_LEAST_GAIN = 0.01
_LEAST_GAIN_OF_REFINING = 0.02
# Found objects are left out that have less than this share of the pixels of the labelled ones at this percentile.
_SMALLEST_SHARE, _SMALL_PERCENTILE = 0.5, 5
MOST_PLANES = 6


@dataclass(frozen=True, eq=False)
class HeldOutMaps:
    """Maps of a plane, and what is held out in it.

    Attributes
    ----------
    plane : Plane
    maps : float32 (2, y, x)
    labels : frozenset of int
        Ids of the held-out objects.
    """

    plane: Plane
    maps: NDArray[np.float32]
    labels: frozenset[int]

    def matches(self, found: NDArray[np.integer[Any]]) -> Matches:
        """Compare objects that were found with those held out, see `match_known`."""
        return match_known(found, self.plane.labels, self.labels, self.plane.background)


def match_known(
    found: NDArray[np.integer[Any]],
    labels: NDArray[np.integer[Any]],
    wanted: frozenset[int],
    background: NDArray[np.bool_] | None,
) -> Matches:
    """Match found objects with some of the labelled ones where not everything is known; all (y, x).

    A found object without a match counts as a mistake only if most of it lies on known background or on wanted
    objects: elsewhere it may be right, and other labelled objects were learned from.
    """
    overlaps = Overlaps.of(found, labels)
    is_wanted, is_found = np.isin(overlaps.other_ids, list(wanted)), overlaps.ids > 0
    hits = (overlaps.iou > 0.5) & is_found[:, None] & is_wanted[None]
    judged = overlaps.shared[:, is_wanted].sum(1)
    if background is not None:
        at = np.searchsorted(overlaps.ids, found)
        judged = judged + np.bincount(at.ravel(), background.ravel(), len(overlaps.ids))
    false = is_found & ~hits.any(1) & (2 * judged > overlaps.shared.sum(1))
    count = int(hits.sum())
    return Matches(count, int(false.sum()), int(is_wanted.sum()) - count)


def held_out_maps(predictor: Predictor, planes: Sequence[Plane], objects: Sequence[ObjectRef]) -> Iterator[HeldOutMaps]:
    """Yield the maps of at most `MOST_PLANES` planes with held-out objects."""
    held: dict[int, set[int]] = {}
    for ref in objects:
        held.setdefault(ref.plane, set()).add(ref.label)
    for number in list(held)[:MOST_PLANES]:
        yield HeldOutMaps(planes[number], plane_maps(predictor, planes[number]), frozenset(held[number]))


def plane_maps(predictor: Predictor, plane: Plane) -> NDArray[np.float32]:
    """Predict the dense maps (2, y, x) of a plane of a training set, in its own pixels."""
    shown = replace(predictor, preprocessing=Preprocessing())  # its intensities are windowed already
    maps = dense_maps(shown, plane.prepared.pixels if plane.native is None else plane.native)
    if maps.shape[1:] == plane.prepared.shape:
        return maps
    resized = functional.interpolate(
        torch.from_numpy(maps)[None], plane.prepared.shape, mode="bilinear", align_corners=False
    )
    return np.asarray(resized[0])


def total(held: Sequence[HeldOutMaps], config: InstanceConfig) -> Matches:
    """Count what is found in all planes with these parameters."""
    return sum((one.matches(maps_to_labels(one.maps, config)) for one in held), start=Matches())


def choose_instances(held: Sequence[HeldOutMaps], given: InstanceConfig) -> InstanceConfig:
    """Choose the sensitivity and separation with the best average precision on held-out objects.

    The given ones are kept unless others are clearly better.
    """
    if not held:
        return given
    tried = [given] + [
        replace(given, sensitivity=sensitivity, separation=separation)
        for sensitivity, separation in product(SENSITIVITIES, SEPARATIONS)
    ]
    precisions = [total(held, config).average_precision for config in tried]
    best = int(np.nanargmax(precisions)) if np.isfinite(precisions).any() else 0
    return tried[best] if precisions[best] >= np.nan_to_num(precisions[0]) + _LEAST_GAIN else given


def suits_refining(predictor: Predictor, held: Sequence[HeldOutMaps], config: InstanceConfig) -> bool:
    """Return whether segmenting found objects again from their boxes is clearly better on held-out objects."""
    before, after = total(held, config), Matches()
    shown = replace(predictor, preprocessing=Preprocessing())
    for one in held:
        image = one.plane.prepared.pixels if one.plane.native is None else one.plane.native
        if image.shape[:2] != one.plane.prepared.shape:
            return False  # its pixels at the resolution of its labels were not kept
        after += one.matches(refined(shown, image, maps_to_labels(one.maps, config), config.smallest))
    return after.average_precision > before.average_precision + _LEAST_GAIN_OF_REFINING


def smallest_size(planes: Sequence[Plane], learned: Mapping[int, Sequence[int]]) -> int:
    """Return the number of pixels below which a found object is too small to be one of the labelled kind."""
    areas = [found.area for number, ids in learned.items() for found in planes[number].objects if found.label in ids]
    if not areas:
        return InstanceConfig().smallest
    return max(1, int(_SMALLEST_SHARE * np.percentile(areas, _SMALL_PERCENTILE)))


def adjusted(predictor: Predictor, held: Sequence[HeldOutMaps], model: DenseModel) -> DenseModel:
    """Return the dense head with the parameters that are best on held-out objects."""
    config = choose_instances(held, model.instances)
    return replace(model, instances=config, refine=bool(held) and suits_refining(predictor, held, config))


@dataclass(frozen=True)
class FoundPair:
    """Held-out objects that base and adapted model find without prompts.

    Attributes
    ----------
    base : Matches, optional
        None if the base model has no dense head.
    adapted : Matches
    """

    base: Matches | None
    adapted: Matches

    def __add__(self, other: FoundPair) -> FoundPair:
        base = None if self.base is None or other.base is None else self.base + other.base
        return FoundPair(base, self.adapted + other.adapted)

    @property
    def gain(self) -> float:
        """Average precision of the adapted model less that of the base; NaN where one of them is not known."""
        return self.adapted.average_precision - self.base.average_precision if self.base else float("nan")

    @property
    def standard_error(self) -> float:
        """Standard error of the gain if each object is found by chance; too large, because the objects are the same."""
        known = [matches for matches in (self.base, self.adapted) if matches is not None]
        spread = 0.0
        for matches in known:
            count = matches.true_positives + matches.false_positives + matches.false_negatives
            precision = matches.average_precision
            spread += precision * (1 - precision) / count if count else float("nan")
        return float(np.sqrt(spread))


def compare_found(
    base: Predictor | None, adapted: Predictor, planes: Sequence[Plane], objects: Sequence[ObjectRef]
) -> FoundPair:
    """Compare what two predictors with dense heads find of held-out objects.

    The parameters of both are chosen on these objects, so that neither has an advantage from that.
    """
    smallest = dense_model(adapted).instances.smallest
    found: list[Matches | None] = []
    for predictor in (base, adapted):
        if predictor is None:
            found.append(None)
            continue
        held = list(held_out_maps(predictor, planes, objects))
        given = replace(dense_model(predictor).instances, smallest=smallest)
        found.append(total(held, choose_instances(held, given)))
    before, after = found
    return FoundPair(before, after or Matches())


class FoundWatch:
    """Average precision of the dense head on some held-out objects while a run goes on.

    Parameters
    ----------
    planes : sequence of Plane
    objects : sequence of ObjectRef
        Those of the first planes are used.
    """

    MOST_PLANES = 2

    def __init__(self, planes: Sequence[Plane], objects: Sequence[ObjectRef]) -> None:
        first = list(dict.fromkeys(ref.plane for ref in objects))[: self.MOST_PLANES]
        self._planes, self._objects = planes, [ref for ref in objects if ref.plane in first]

    def measure(self, tree: Sam, head: DenseHead, instances: InstanceConfig) -> float:
        """Return the average precision of a state; NaN if there is nothing to find."""
        # With a cache of its own, because the key of an embedding does not include the state.
        predictor = Predictor(tree, "", Preprocessing(), EmbeddingCache(), DenseModel(head, instances))
        return total(list(held_out_maps(predictor, self._planes, self._objects)), instances).average_precision

"""Count the held-out objects that are found without prompts, and choose the parameters that find most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from segment_anything.modeling import Sam

from napari_sam_lora.images import Preprocessing
from napari_sam_lora.labels import find_objects
from napari_sam_lora.model.dense.dense_model import DenseModel
from napari_sam_lora.model.dense.head import DenseHead
from napari_sam_lora.model.dense.instances import maps_to_labels
from napari_sam_lora.model.embeddings import EmbeddingCache
from napari_sam_lora.model.predictor import Predictor
from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.stacks.dense import dense_maps, dense_model, refined
from napari_sam_lora.training.data.samples import ObjectRef, Plane
from napari_sam_lora.training.evaluation.instance_matching import Matches, Overlaps, average_precision

SENSITIVITIES = (0.4, 0.5, 0.6)
SEPARATIONS = (0.7, 0.75, 0.8, 0.85, 0.9)
# Least gain of a choice other than the given one, and of refining, which costs time.
_LEAST_GAIN = 0.01
_LEAST_GAIN_OF_REFINING = 0.02
# Refining is judged by the mean average precision at these IoUs: it finds no more objects, but draws them better.
_IOUS_OF_REFINING = (0.5, 0.8)
# Found objects are left out that have less than this share of the pixels of the labelled ones at this percentile.
_SMALLEST_SHARE, _SMALL_PERCENTILE = 0.5, 5
MOST_PLANES = 6
# Two more objects for the uncertainty of a gain, each found by one model only, so that few objects do not seem certain.
_UNCERTAIN = (np.array([[1, 0, 0], [0, 0, 1]]), np.array([[0, 0, 1], [1, 0, 0]]))

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class HeldOutMaps:
    """Maps of a plane, and what is held out in it.

    Attributes
    ----------
    plane : Plane
    maps : float32 (2, y, x)
    labels : tuple of int
        Ids of the held-out objects.
    """

    plane: Plane
    maps: NDArray[np.float32]
    labels: tuple[int, ...]

    def matches(self, found: NDArray[np.integer[Any]], iou: float = 0.5) -> Counts:
        """Compare objects that were found with those held out, see `match_known`."""
        return match_known(found, self.plane.labels, self.labels, self.plane.background, iou)


def match_known(
    found: NDArray[np.integer[Any]],
    labels: NDArray[np.integer[Any]],
    wanted: Sequence[int],
    background: NDArray[np.bool_] | None,
    iou: float = 0.5,
) -> Counts:
    """Match found objects with some of the labelled ones where not everything is known; all (y, x).

    Objects match if their IoU is more than ``iou``, at least 0.5.

    A found object without a match counts as a mistake only if most of it lies on known background or on wanted
    objects: elsewhere it may be right, and other labelled objects were learned from.

    Returns
    -------
    int (n, 3)
        True positives, false positives and false negatives of each wanted object; a mistake counts for the nearest.
    """
    overlaps = Overlaps.of(found, labels)
    columns = np.searchsorted(overlaps.other_ids, wanted)
    is_found = overlaps.ids > 0
    hits = (overlaps.iou[:, columns] > iou) & is_found[:, None]
    judged = overlaps.shared[:, columns].sum(1)
    if background is not None:
        at = np.searchsorted(overlaps.ids, found)
        judged = judged + np.bincount(at.ravel(), background.ravel(), len(overlaps.ids))
    mistakes = set(overlaps.ids[is_found & ~hits.any(1) & (2 * judged > overlaps.shared.sum(1))].tolist())
    centre_of = {one.label: one.centre for one in find_objects(labels)}
    centres = np.array([centre_of[label] for label in wanted])
    false = np.zeros(len(wanted), np.int64)
    for one in find_objects(found) if mistakes else ():
        if one.label in mistakes:
            false[np.linalg.norm(centres - one.centre, axis=1).argmin()] += 1
    is_hit = hits.any(0)
    return np.stack([is_hit, false, ~is_hit], 1).astype(np.int64)


def held_out_maps(predictor: Predictor, planes: Sequence[Plane], objects: Sequence[ObjectRef]) -> Iterator[HeldOutMaps]:
    """Yield the maps of at most `MOST_PLANES` planes with held-out objects."""
    held: dict[int, set[int]] = {}
    for ref in objects:
        held.setdefault(ref.plane, set()).add(ref.label)
    for number in list(held)[:MOST_PLANES]:
        yield HeldOutMaps(planes[number], plane_maps(predictor, planes[number]), tuple(sorted(held[number])))


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


def count_found(held: Sequence[HeldOutMaps], config: InstanceConfig, iou: float = 0.5) -> Counts:
    """Count what is found of each held-out object with these parameters, see `match_known`."""
    return np.concatenate(
        [np.empty((0, 3), np.int64), *(one.matches(maps_to_labels(one.maps, config), iou) for one in held)]
    )


def choose_instances(held: Sequence[HeldOutMaps], given: InstanceConfig) -> InstanceConfig:
    """Choose the sensitivity and separation with the best average precision on held-out objects.

    The given ones are kept unless others are clearly better.
    """
    tried = _tried(given)
    return tried[_best(np.stack([count_found(held, config) for config in tried]))]


def suits_refining(predictor: Predictor, held: Sequence[HeldOutMaps], config: InstanceConfig) -> bool:
    """Return whether segmenting found objects again is clearly better on held-out objects."""
    after = _count_refined(predictor, held, config)
    return after is not None and _is_better_refined(after, _count_unrefined(held, config))


def count_by_halves(predictor: Predictor, held: Sequence[HeldOutMaps], given: InstanceConfig) -> Counts:
    """Count what is found of each held-out object with parameters that were chosen on the other half of the objects.

    Objects that chose the parameters would judge them too well. Whether found objects are segmented again is chosen
    likewise, if the dense head asks for it.

    Returns
    -------
    int (n, 3)
        See `match_known`.
    """
    tried = _tried(given)
    tables = np.stack([count_found(held, config) for config in tried])
    before = cache(lambda number: _count_unrefined(held, tried[number]))
    after = cache(lambda number: _count_refined(predictor, held, tried[number]))
    counts = tables[0].copy()
    is_even = np.arange(len(counts)) % 2 == 0
    for own in (is_even, ~is_even):
        best = _best(tables[:, ~own])
        chosen = tables[best]
        again = after(best) if dense_model(predictor).refine else None
        if again is not None and _is_better_refined(again[:, ~own], before(best)[:, ~own]):
            chosen = again[0]
        counts[own] = chosen[own]
    return counts


def _tried(given: InstanceConfig) -> list[InstanceConfig]:
    """Return the parameters that are compared, the given ones first."""
    return [given] + [
        replace(given, sensitivity=sensitivity, separation=separation)
        for sensitivity, separation in product(SENSITIVITIES, SEPARATIONS)
    ]


def _best(tables: Counts) -> int:
    """Return which counts (c, n, 3) are the best; the first unless others are clearly better."""
    precisions = np.nan_to_num(average_precision(tables.sum(1)))
    best = int(precisions.argmax())
    return best if precisions[best] >= precisions[0] + _LEAST_GAIN else 0


def _is_better_refined(after: Counts, before: Counts) -> bool:
    """Compare counts (i, n, 3) at each of `_IOUS_OF_REFINING`."""
    gains = average_precision(after.sum(1)) - average_precision(before.sum(1))
    return bool(gains.mean() > _LEAST_GAIN_OF_REFINING)


def _count_unrefined(held: Sequence[HeldOutMaps], config: InstanceConfig) -> Counts:
    """Count what is found (i, n, 3) at each of `_IOUS_OF_REFINING`."""
    return np.stack([count_found(held, config, iou) for iou in _IOUS_OF_REFINING])


def _count_refined(predictor: Predictor, held: Sequence[HeldOutMaps], config: InstanceConfig) -> Counts | None:
    """Count the same if found objects are segmented again; None without pixels at the resolution of the labels."""
    shown = replace(predictor, preprocessing=Preprocessing())
    counts = [np.empty((len(_IOUS_OF_REFINING), 0, 3), np.int64)]
    for one in held:
        image = one.plane.prepared.pixels if one.plane.native is None else one.plane.native
        if image.shape[:2] != one.plane.prepared.shape:
            return None
        found = refined(shown, image, maps_to_labels(one.maps, config), config.smallest)
        counts.append(np.stack([one.matches(found, iou) for iou in _IOUS_OF_REFINING]))
    return np.concatenate(counts, 1)


def smallest_size(planes: Sequence[Plane], learned: Mapping[int, Sequence[int]]) -> int:
    """Return the number of pixels below which a found object is too small to be one of the labelled kind."""
    areas = [found.area for number, ids in learned.items() for found in planes[number].objects if found.label in ids]
    if not areas:
        return InstanceConfig().smallest
    return max(1, int(_SMALLEST_SHARE * np.percentile(areas, _SMALL_PERCENTILE)))


def adjusted(predictor: Predictor, held: Sequence[HeldOutMaps], model: DenseModel) -> DenseModel:
    """Return the dense head with the parameters that are best on held-out objects."""
    config = choose_instances(held, model.instances)
    return replace(model, instances=config, refine=suits_refining(predictor, held, config))


@dataclass(frozen=True)
class FoundPair:
    """Matches of base and adapted model, without prompts, on the same held-out objects.

    Attributes
    ----------
    base_objects : tuple of Matches, optional
        Of each object, with the mistakes nearest to it. None if the base model has no dense head.
    adapted_objects : tuple of Matches
        Likewise, in the same order.
    """

    base_objects: tuple[Matches, ...] | None
    adapted_objects: tuple[Matches, ...]

    def __add__(self, other: FoundPair) -> FoundPair:
        is_known = self.base_objects is not None and other.base_objects is not None
        base = (*(self.base_objects or ()), *(other.base_objects or ())) if is_known else None
        return FoundPair(base, (*self.adapted_objects, *other.adapted_objects))

    @property
    def base(self) -> Matches | None:
        """Sum over all objects; None if the base model has no dense head."""
        return None if self.base_objects is None else sum(self.base_objects, start=Matches())

    @property
    def adapted(self) -> Matches:
        """Sum over all objects."""
        return sum(self.adapted_objects, start=Matches())

    @property
    def gain(self) -> float:
        """Average precision of the adapted model less that of the base; NaN where one of them is not known."""
        return self.adapted.average_precision - self.base.average_precision if self.base else float("nan")

    @property
    def standard_error(self) -> float:
        """Standard error of the gain over the objects, which are the same for both models (jackknife)."""
        if not self.base_objects:
            return float("nan")
        base, adapted = (
            np.concatenate([[one.as_tuple() for one in objects], more])
            for objects, more in zip((self.base_objects, self.adapted_objects), _UNCERTAIN, strict=True)
        )
        # The gain without each of the objects.
        gains = average_precision(adapted.sum(0) - adapted) - average_precision(base.sum(0) - base)
        return float(np.sqrt((len(gains) - 1) * gains.var()))


def compare_found(
    base: Predictor | None, adapted: Predictor, planes: Sequence[Plane], objects: Sequence[ObjectRef]
) -> FoundPair:
    """Compare what two predictors with dense heads find of held-out objects, see `count_by_halves`.

    The parameters of both are chosen for the labelled kind of objects, so that neither has an advantage from that.
    """
    smallest = dense_model(adapted).instances.smallest

    def matches(predictor: Predictor) -> tuple[Matches, ...]:
        held = list(held_out_maps(predictor, planes, objects))
        given = replace(dense_model(predictor).instances, smallest=smallest)
        return tuple(Matches(*row) for row in count_by_halves(predictor, held, given).tolist())

    return FoundPair(None if base is None else matches(base), matches(adapted))


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
        held = list(held_out_maps(predictor, self._planes, self._objects))
        return float(average_precision(count_found(held, instances).sum(0)))

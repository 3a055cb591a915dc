"""Score predicted classes: Dice of semantic maps, and the share of found objects with the right class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam_lora.model.predictor import Predictor
from napari_sam_lora.stacks.dense import dense_maps, find_classes, find_instances, segment_semantic
from napari_sam_lora.training.evaluation.instance_matching import Overlaps


@dataclass(frozen=True)
class ClassFigures:
    """Figures of predicted classes over some planes, which can be added.

    Attributes
    ----------
    shared, predicted, labelled : mapping of int to int
        Pixels of each class: those with it in both maps, in the predicted map, and in the labels.
    right, matched : int
        Found objects that match a labelled one with a class (IoU above 0.5): those with its class, and all.
    """

    shared: Mapping[int, int] = field(default_factory=dict)
    predicted: Mapping[int, int] = field(default_factory=dict)
    labelled: Mapping[int, int] = field(default_factory=dict)
    right: int = 0
    matched: int = 0

    def __add__(self, other: ClassFigures) -> ClassFigures:
        return ClassFigures(
            _sum(self.shared, other.shared),
            _sum(self.predicted, other.predicted),
            _sum(self.labelled, other.labelled),
            self.right + other.right,
            self.matched + other.matched,
        )

    @property
    def dice(self) -> dict[int, float]:
        """Dice of each class that is labelled or predicted, over all pixels together: that of the volume for a stack.

        Averages over planes, such as those of MONAI, would leave out planes without the class.
        """
        areas = _sum(self.predicted, self.labelled)
        return {number: 2 * self.shared.get(number, 0) / area for number, area in sorted(areas.items())}

    @property
    def accuracy(self) -> float:
        """Share of the found objects with the right class, of those that match a labelled one; NaN without any."""
        return self.right / self.matched if self.matched else float("nan")


def score_classes(
    predictor: Predictor, image: ArrayLike, labels: NDArray[np.integer[Any]], classes: Mapping[int, int]
) -> ClassFigures:
    """Compare the predicted classes of a plane, which is labelled completely, with those of its labels.

    Parameters
    ----------
    predictor : Predictor
        With a dense head that was trained on classes.
    image : array_like
        (y, x) or (y, x, c).
    labels : int (y, x)
        One id an object; 0 is background. Pixels of objects without a class do not count.
    classes : mapping of int to int
        Class by object id.

    Raises
    ------
    InputError
        If the predictor has no dense head or this has no classes.
    """
    maps = dense_maps(predictor, image)
    predicted = segment_semantic(predictor, image, maps)
    found = find_instances(predictor, image, maps)
    right, matched = _count_matches(found, find_classes(predictor, image, found, maps), labels, classes)
    ids, at = np.unique(labels, return_inverse=True)
    of_id = np.array([classes.get(int(label), 0) if label else 0 for label in ids], np.int64)
    labelled = of_id[at.reshape(labels.shape)]
    counted = (labels == 0) | (labelled > 0)
    return ClassFigures(
        _areas(predicted[counted & (predicted == labelled)]),
        _areas(predicted[counted]),
        _areas(labelled[counted]),
        right,
        matched,
    )


def _count_matches(
    found: NDArray[np.integer[Any]],
    found_classes: Mapping[int, int],
    labels: NDArray[np.integer[Any]],
    classes: Mapping[int, int],
) -> tuple[int, int]:
    """Return how many found objects have the right class, and how many match a labelled one that has a class."""
    overlaps = Overlaps.of(found, labels)
    rows, columns = np.nonzero(overlaps.iou > 0.5)
    pairs = [
        (found_classes[one], classes[other])
        for one, other in zip(overlaps.ids[rows].tolist(), overlaps.other_ids[columns].tolist(), strict=True)
        if one in found_classes and other in classes
    ]
    return sum(first == second for first, second in pairs), len(pairs)


def _areas(pixels: NDArray[np.integer[Any]]) -> dict[int, int]:
    numbers, counts = np.unique(pixels[pixels > 0], return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def _sum(some: Mapping[int, int], more: Mapping[int, int]) -> dict[int, int]:
    return dict(Counter(some) + Counter(more))

"""Match the objects of two label images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Matches:
    """Numbers of found and labelled objects that match and that do not.

    Attributes
    ----------
    true_positives, false_positives, false_negatives : int
    """

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0

    def __add__(self, other: Matches) -> Matches:
        return Matches(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
        )

    @property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN); NaN if there are no objects at all."""
        total = self.true_positives + self.false_positives + self.false_negatives
        return self.true_positives / total if total else float("nan")


def match_objects(found: NDArray[np.integer[Any]], wanted: NDArray[np.integer[Any]]) -> Matches:
    """Match objects of two label images (y, x) whose IoU exceeds 0.5; no object can have two such partners.

    A found object where nothing is labelled is a false positive, so use this for completely labelled planes.
    """
    found_ids, found_at, found_area = np.unique(found, return_inverse=True, return_counts=True)
    wanted_ids, wanted_at, wanted_area = np.unique(wanted, return_inverse=True, return_counts=True)
    both = np.zeros((len(found_ids), len(wanted_ids)), np.int64)
    np.add.at(both, (found_at.ravel(), wanted_at.ravel()), 1)
    iou = both / (found_area[:, None] + wanted_area[None, :] - both)
    matched = int(np.count_nonzero((iou > 0.5)[np.ix_(found_ids > 0, wanted_ids > 0)]))
    return Matches(matched, int((found_ids > 0).sum()) - matched, int((wanted_ids > 0).sum()) - matched)

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
        return float(average_precision(np.array(self.as_tuple())))

    def as_tuple(self) -> tuple[int, int, int]:
        """Return true positives, false positives and false negatives."""
        return self.true_positives, self.false_positives, self.false_negatives


def average_precision(counts: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return TP / (TP + FP + FN) of counts (…, 3) in this order; NaN where all are 0."""
    total = counts.sum(-1)
    return np.where(total > 0, counts[..., 0] / np.maximum(total, 1), np.nan)


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Overlaps of the labels of two label images, background (0) included where it occurs.

    Attributes
    ----------
    ids, other_ids : int (n,) and (m,)
    shared : int (n, m)
        Number of pixels that two labels share.
    """

    ids: NDArray[np.integer[Any]]
    other_ids: NDArray[np.integer[Any]]
    shared: NDArray[np.int64]

    @classmethod
    def of(cls, labels: NDArray[np.integer[Any]], others: NDArray[np.integer[Any]]) -> Overlaps:
        """Count the shared pixels of two label images (y, x) with ids of any size."""
        ids, at = np.unique(labels, return_inverse=True)
        other_ids, other_at = np.unique(others, return_inverse=True)
        shared = np.zeros((len(ids), len(other_ids)), np.int64)
        np.add.at(shared, (at.ravel(), other_at.ravel()), 1)
        return cls(ids, other_ids, shared)

    @property
    def iou(self) -> NDArray[np.float64]:
        """IoU (n, m) of each two labels."""
        return np.asarray(self.shared / (self.shared.sum(1)[:, None] + self.shared.sum(0)[None] - self.shared))

    @property
    def object_iou(self) -> NDArray[np.float64]:
        """IoU of the objects alone, without background."""
        return self.iou[np.ix_(self.ids > 0, self.other_ids > 0)]


def match_objects(found: NDArray[np.integer[Any]], wanted: NDArray[np.integer[Any]]) -> Matches:
    """Match objects of two label images (y, x) whose IoU exceeds 0.5; no object can have two such partners.

    A found object where nothing is labelled is a false positive, so use this for completely labelled planes.
    """
    iou = Overlaps.of(found, wanted).object_iou
    matched = int(np.count_nonzero(iou > 0.5))
    return Matches(matched, iou.shape[0] - matched, iou.shape[1] - matched)

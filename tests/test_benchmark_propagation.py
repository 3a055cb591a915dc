"""The benchmark of propagation: which planes are trained on, and what its figures mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.propagation import LabelledStack, copied, holds_stacks, interpolated, score, split, training_pairs


def _cone(name: str = "cone") -> LabelledStack:
    """Draw a disc that grows by two pixels a plane, in planes 2 to 8 of 12."""
    y, x = np.mgrid[:40, :96]
    labels = np.zeros((12, 40, 96), np.int64)
    for z in range(2, 9):
        labels[z][(y - 20) ** 2 + (x - 20) ** 2 < (2 * z) ** 2] = 1
    return LabelledStack(name, labels.astype(np.uint8), labels)


def test_a_perfect_result_scores_one_and_interpolation_beats_copying() -> None:
    stack = _cone()
    assert stack.middle == 5
    assert score(stack, stack.labels) == [1.0]
    assert score(stack, interpolated(stack))[0] > score(stack, copied(stack))[0]
    assert score(stack, interpolated(stack))[0] > 0.9


def test_without_ids_each_near_plane_is_scored_with_the_object_of_largest_overlap() -> None:
    stack = _cone()
    renamed = np.where(stack.labels > 0, 10 + np.arange(12)[:, None, None], 0)
    renamed[5] = stack.labels[5]
    alone = LabelledStack("alone", stack.image, renamed, has_ids=False)
    assert score(alone, stack.labels) == [1.0] * 6


def test_stacks_that_are_tested_on_are_not_trained_on() -> None:
    train, test = split([_cone(name) for name in "abcde"], 3)
    assert ([one.name for one in train], [one.name for one in test]) == (["a", "b", "c"], ["d", "e"])
    assert len(training_pairs(train, 4)) == 4
    (left,), (right,) = split([_cone()], 3)
    assert left.image.shape[2] + right.image.shape[2] < 96


def test_sets_with_and_without_stacks_are_distinguished(tmp_path: Path) -> None:
    folder = tmp_path
    for name in ("slice_0.png", "slice_1.png", "slice_2.png"):
        for kind in ("images", "labels"):
            (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / kind / name)
    assert holds_stacks(folder)
    for kind in ("images", "labels"):
        (folder / kind / "slice_1.png").rename(folder / kind / "other.png")
    assert not holds_stacks(folder)

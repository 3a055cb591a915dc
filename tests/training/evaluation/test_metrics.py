"""Scores of a simulated user, with predictors whose answers are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam_lora import Preprocessing, Prompts, Result
from napari_sam_lora.images import Prepared
from napari_sam_lora.training.data.samples import Plane, snapshot
from napari_sam_lora.training.data.split import list_objects
from napari_sam_lora.training.evaluation.metrics import (
    Figures,
    ObjectScore,
    clicks_until_good,
    iou_after_clicks,
    score_objects,
    summarise,
)

Mask = NDArray[np.bool_]


class _Stub:
    """A predictor that gives each object what ``answer`` makes of its true mask and the number of its clicks."""

    def __init__(self, labels: NDArray[np.int64], answer: Callable[[Mask, int], Mask]) -> None:
        self.labels, self.answer = labels, answer
        self.asked: list[Prompts] = []

    def encode_prepared(self, prepared: Prepared) -> Prepared:
        return prepared

    def segment(self, embedding: Prepared, prompts: Prompts) -> Result:
        self.asked.append(prompts)
        masks = []
        for row in range(len(prompts)):
            if prompts.boxes is not None and prompts.has_box(row):
                y0, x0, y1, x1 = (int(value) for value in prompts.boxes[row])
                label = np.bincount(self.labels[y0:y1, x0:x1].ravel())[1:].argmax() + 1
            else:
                assert prompts.points is not None
                label = self.labels[tuple(prompts.points[row][0].astype(int))]
            masks.append(self.answer(self.labels == label, prompts.point_count(row)))
        stacked = np.stack(masks)
        scores = np.ones(len(masks), np.float32)
        logits = np.zeros((len(masks), 64, 64), np.float32)
        return Result(stacked, scores, logits, stacked[:, None].repeat(3, 1), np.ones((len(masks), 3), np.float32))


def _labels() -> NDArray[np.int64]:
    labels = np.zeros((128, 128), np.int64)
    for number in range(20):
        y, x = 4 + 24 * (number // 5), 4 + 24 * (number % 5)
        labels[y : y + 16, x : x + 16] = number + 1
    return labels


def _score(answer: Callable[[Mask, int], Mask]) -> tuple[list[ObjectScore], _Stub]:
    labels = _labels()
    planes: Sequence[Plane] = snapshot([(labels.astype(np.uint8), labels)], 128, 2, Preprocessing())
    stub: Any = _Stub(labels, answer)
    return score_objects(stub, planes, list_objects(planes)), stub


def _left_half(mask: Mask) -> Mask:
    half = mask.copy()
    half[:, int(np.flatnonzero(mask.any(0)).mean()) + 1 :] = False
    return half


def test_a_perfect_predictor_is_good_after_one_click() -> None:
    scores, _ = _score(lambda wanted, clicks: wanted)
    assert scores == [ObjectScore(0, label, 1.0, 1.0, 1.0, 1.0, 1, area=256) for label in range(1, 21)]


def test_a_predictor_that_finds_nothing_is_never_good() -> None:
    scores, stub = _score(lambda wanted, clicks: np.zeros_like(wanted))
    assert scores == [ObjectScore(0, label, 0.0, 0.0, 0.0, 0.0, 7, area=256) for label in range(1, 21)]
    assert max(prompts.point_count(0) for prompts in stub.asked) == 6


def test_clicks_are_counted_until_the_mask_is_good() -> None:
    # half of the object until the third click, and for a box
    scores, _ = _score(lambda wanted, clicks: wanted if clicks >= 3 else _left_half(wanted))
    for score in scores:
        assert score.box_iou == pytest.approx(0.5)
        assert score.box_dice == pytest.approx(2 / 3)
        assert score.click_iou == pytest.approx(0.5)
        assert score.corrected_iou == 1.0
        assert score.clicks_to_good == 3


def test_a_mask_that_gets_worse_again_was_good_at_its_first_click() -> None:
    scores, _ = _score(lambda wanted, clicks: wanted if clicks == 2 else _left_half(wanted))
    assert {(score.clicks_to_good, score.corrected_iou) for score in scores} == {(2, 0.5)}


@pytest.mark.parametrize(
    ("answer", "side", "label"),
    [
        (lambda wanted, clicks: _left_half(wanted), slice(12, 20), 1),  # the right half is missing
        (lambda wanted, clicks: wanted | np.roll(wanted, 12, 1), slice(20, 32), 0),  # 12 columns too many
    ],
    ids=["missing", "too much"],
)
def test_each_click_goes_to_the_error_with_the_right_label(
    answer: Callable[[Mask, int], Mask], side: slice, label: int
) -> None:
    _, stub = _score(answer)
    last = stub.asked[6]  # a box, then six rounds of clicks for the first objects
    assert last.points is not None
    assert last.point_labels is not None
    assert last.masks is not None
    assert last.points[0].shape == (6, 2)
    assert last.point_labels[0].tolist() == [1] + [label] * 5
    assert (last.points[0][1:, 1] >= side.start).all()
    assert (last.points[0][1:, 1] < side.stop).all()
    assert 4 <= last.points[0][0, 0] < 20


def test_means_over_objects() -> None:
    scores = [ObjectScore(0, 1, 0.5, 0.6, 0.2, 0.8, 1), ObjectScore(0, 2, 0.7, 0.8, 0.4, 1.0, 4)]
    figures = summarise(scores)
    expected = Figures(0.6, 0.7, 0.3, 0.9, 2.5, 2)
    for name in ("box_iou", "box_dice", "click_iou", "corrected_iou", "clicks_to_good"):
        assert getattr(figures, name) == pytest.approx(getattr(expected, name)), name
    assert figures.count == 2


def test_no_object_has_no_mean() -> None:
    figures = summarise([])
    assert figures.count == 0
    assert all(
        math.isnan(value)
        for value in (
            figures.box_iou,
            figures.box_dice,
            figures.click_iou,
            figures.corrected_iou,
            figures.clicks_to_good,
        )
    )


def test_a_found_mask_is_corrected_where_it_is_wrong() -> None:
    labels = _labels()
    truth = [labels == 1, labels == 2]
    found = [_left_half(mask) for mask in truth]
    stub: Any = _Stub(labels, lambda wanted, clicks: wanted if clicks == 2 else _left_half(wanted))
    rounds = list(iou_after_clicks(stub, stub, truth, 2, found))
    assert rounds == [[0.5, 0.5], [1.0, 1.0]]
    first = stub.asked[0]
    np.testing.assert_array_equal(first.masks, found)
    for row, mask in enumerate(truth):
        y, x = first.points[row][0].astype(int)
        assert mask[y, x]
        assert not found[row][y, x]
        assert first.point_labels[row].tolist() == [1]


def test_clicks_are_counted_until_the_first_good_mask() -> None:
    assert clicks_until_good([[0.8, 0.1, 0.2], [0.5, 0.9, 0.79]]) == [1, 2, 3]

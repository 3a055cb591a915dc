"""The estimated time of fine-tuning follows what a run does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from napari_sam_lora._qt.finetuning.estimates import Speed, estimate_seconds
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.training.data.split import FOLDS
from napari_sam_lora.training.evaluation.acceptance import MOST_JUDGED

CONFIG = TrainConfig(mode="full", steps=10, objects=2, corrections=0, validation_share=0.2)
DECODING = Speed(encode=0.0, decode=1.0, blocks=12)
STEPS = 10 * 3.0 * 2  # ten steps of two objects each, forward and backward


def test_no_more_objects_are_judged_than_a_run_judges() -> None:
    longest = STEPS + 2 * MOST_JUDGED * 7
    assert estimate_seconds(CONFIG, DECODING, 1, 5 * MOST_JUDGED, 1) == pytest.approx(longest)
    assert estimate_seconds(CONFIG, DECODING, 1, 500 * MOST_JUDGED, 1) == pytest.approx(longest)
    assert estimate_seconds(CONFIG, DECODING, 1, 50, 1) == pytest.approx(STEPS + 2 * 10 * 7)


def test_planes_of_a_stack_count_as_one_image() -> None:
    """The planes of one stack are held out by region; of two images, one is held out with half of the objects."""
    assert estimate_seconds(CONFIG, DECODING, 2, 40, 1) == pytest.approx(STEPS + 2 * 8 * 7)
    assert estimate_seconds(CONFIG, DECODING, 2, 40, 2) == pytest.approx(STEPS + 2 * 20 * 7)


def test_only_planes_with_judged_objects_are_encoded() -> None:
    encoding = replace(DECODING, encode=1.0, decode=0.0)
    of_steps = 10 * 3.0
    assert estimate_seconds(CONFIG, encoding, 10, 50, 1) == pytest.approx(of_steps + 2 * 10)
    assert estimate_seconds(CONFIG, encoding, 10, 50, 10) == pytest.approx(of_steps + 2 * 2)
    assert estimate_seconds(CONFIG, encoding, 10, 10 * MOST_JUDGED, 1) == pytest.approx(of_steps + 2 * 5)


def test_few_objects_are_all_judged_by_cross_validation() -> None:
    assert estimate_seconds(CONFIG, DECODING, 1, 9, 1) == pytest.approx((1 + FOLDS) * STEPS + 2 * 9 * 7)
    assert estimate_seconds(replace(CONFIG, validation_share=0.0), DECODING, 1, 9, 1) == pytest.approx(STEPS)

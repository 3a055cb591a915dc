"""The estimated time of fine-tuning follows what a run does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from napari_sam_lora._qt.finetuning.estimates import Speed, estimate_seconds
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.training.evaluation.acceptance import MOST_JUDGED

CONFIG = TrainConfig(mode="full", steps=10, objects=2, corrections=0, validation_share=0.2)
DECODING = Speed(encode=0.0, decode=1.0, blocks=12)
STEPS = 10 * 3.0 * 2  # ten steps of two objects each, forward and backward


def test_no_more_objects_are_judged_than_a_run_judges() -> None:
    longest = STEPS + 2 * MOST_JUDGED * 7
    assert estimate_seconds(CONFIG, DECODING, 1, 5 * MOST_JUDGED, 1) == pytest.approx(longest)
    assert estimate_seconds(CONFIG, DECODING, 1, 500 * MOST_JUDGED, 1) == pytest.approx(longest)
    assert estimate_seconds(CONFIG, DECODING, 1, 100, 1) == pytest.approx(STEPS + 2 * 20 * 7)


def test_planes_of_a_stack_count_as_one_image() -> None:
    """The planes of one stack are held out by region; of four images, one is held out with a quarter of the objects."""
    assert estimate_seconds(CONFIG, DECODING, 4, 120, 1) == pytest.approx(STEPS + 2 * 24 * 7)
    assert estimate_seconds(CONFIG, DECODING, 4, 120, 4) == pytest.approx(STEPS + 2 * 30 * 7)


def test_only_planes_with_judged_objects_are_encoded() -> None:
    encoding = replace(DECODING, encode=1.0, decode=0.0)
    of_steps = 10 * 3.0
    assert estimate_seconds(CONFIG, encoding, 10, 100, 1) == pytest.approx(of_steps + 2 * 10)
    assert estimate_seconds(CONFIG, encoding, 10, 100, 10) == pytest.approx(of_steps + 2 * 2)
    assert estimate_seconds(CONFIG, encoding, 10, 10 * MOST_JUDGED, 1) == pytest.approx(of_steps + 2 * 5)


def test_few_objects_are_all_judged_by_cross_validation() -> None:
    """Three adapters with two of three objects each, and two of three steps."""
    assert estimate_seconds(CONFIG, DECODING, 1, 9, 1) == pytest.approx((1 + 3 * 2 / 3) * STEPS + 2 * 9 * 7)
    assert estimate_seconds(replace(CONFIG, validation_share=0.0), DECODING, 1, 9, 1) == pytest.approx(STEPS)


def test_where_few_are_held_out_two_more_adapters_test_the_rest() -> None:
    """Of 50 objects 10 are held out; the others learn from 30 each, where the adapter learns from 40."""
    assert estimate_seconds(CONFIG, DECODING, 1, 50, 1) == pytest.approx((1 + 2 * 30 / 40) * STEPS + 2 * 50 * 7)

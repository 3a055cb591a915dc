"""The figures of the benchmarks on labelled sets."""

from dataclasses import replace

import numpy as np

from benchmarks.alternatives import score, to_instances
from benchmarks.learning_tables import LearningRow, error_changes, is_harmful, summary_table
from benchmarks.sets import LabelledPlane
from napari_sam_lora.training.evaluation.instance_matching import Matches, match_objects

BASE = LearningRow("cells", "base", 0, 5, box_iou=0.8, click_iou=0.6, clicks=3.0)


def test_objects_match_when_more_than_half_is_shared() -> None:
    wanted = np.zeros((10, 40), int)
    wanted[:, :10], wanted[:, 10:20], wanted[:, 30:] = 3, 7, 9
    found = np.zeros_like(wanted)
    found[:, :8] = 1  # IoU 0.8
    found[:, 12:27] = 2  # 8 of 17 columns
    assert match_objects(found, wanted) == Matches(1, 1, 2)
    assert Matches(1, 1, 2).average_precision == 0.25


def test_background_matches_nothing() -> None:
    nothing = np.zeros((5, 5), int)
    assert match_objects(nothing, nothing) == Matches()


def test_error_is_one_minus_iou_and_its_change_is_relative() -> None:
    changes = error_changes(replace(BASE, box_iou=0.9, click_iou=0.7), BASE)
    np.testing.assert_allclose(changes, (-0.5, -0.25))


def test_an_adapter_judged_better_that_is_worse_is_named_in_the_summary() -> None:
    worse = replace(BASE, method="late", images=4, box_iou=0.7, verdict="better")
    honest = replace(worse, verdict="not better")
    assert is_harmful(worse, BASE)
    assert not is_harmful(honest, BASE)
    assert "cells (late, 4 images)" in summary_table([BASE, worse])
    assert "none" in summary_table([BASE, honest])


def test_touching_objects_with_an_outline_between_are_two_instances() -> None:
    probabilities = np.zeros((3, 20, 41), np.float32)
    probabilities[1] = 1
    probabilities[2, :, 20] = 2
    instances = to_instances(probabilities)
    assert instances[10, 5] != instances[10, 35]
    assert (instances > 0).all()


def test_a_perfect_classifier_scores_one_from_boxes_and_clicks() -> None:
    labels = np.zeros((40, 60), np.int64)
    labels[5:25, 5:25], labels[10:30, 35:55] = 4, 6
    plane = LabelledPlane("plane", labels.astype(np.uint8), labels)
    perfect = np.stack([labels == 0, labels > 0, np.zeros_like(labels)]).astype(np.float32)
    scores = score(lambda image: perfect, [plane], [(0, 4), (0, 6)])
    assert (scores.box_iou, scores.click_iou) == (1.0, 1.0)
    nothing = np.stack([np.ones_like(labels), np.zeros_like(labels), np.zeros_like(labels)]).astype(np.float32)
    assert score(lambda image: nothing, [plane], [(0, 4), (0, 6)]).click_iou == 0.0

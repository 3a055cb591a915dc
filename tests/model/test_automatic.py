"""Everything mode, against segment-anything's generator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from error_codes import raises
from numpy.typing import NDArray
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam

from napari_sam_lora import EverythingConfig, Model
from napari_sam_lora.errors import InputError
from napari_sam_lora.model.automatic import (
    everything,
    records_to_labels,
    thresholds,
    without_small_regions,
)

# Low thresholds, so that these tests do not depend on how sure of itself the bundled model is.
FEW = EverythingConfig(points_per_side=12, pred_iou_thresh=0.2, stability_score_thresh=0.5)
Nuclei = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def records(nano: Model, nuclei: Nuclei) -> list[dict[str, Any]]:
    return everything(nano.predictor, nuclei[0], FEW)


def _matched(labels: NDArray[np.int32], truth: NDArray[np.uint8]) -> int:
    """Count true objects that are found with an IoU above one half."""
    count = 0
    for number in np.unique(truth)[1:]:
        mask = truth == number
        overlaps = [(labels[mask] == found).sum() / (mask | (labels == found)).sum() for found in np.unique(labels)[1:]]
        count += max(overlaps, default=0) > 0.5
    return count


def test_several_nuclei_are_found(records: list[dict[str, Any]], nuclei: Nuclei) -> None:
    assert _matched(records_to_labels(records, (256, 256), smallest=30), nuclei[1]) >= 4


def test_several_nuclei_are_found_with_the_thresholds_that_are_set_by_default(nano: Model, nuclei: Nuclei) -> None:
    labels = nano.segment_everything(nuclei[0], EverythingConfig(points_per_side=12))
    assert _matched(labels, nuclei[1]) >= 3


def test_thresholds_that_are_left_open_suit_the_model(nano: Model, tiny_sam: Sam) -> None:
    assert thresholds(tiny_sam, EverythingConfig()) == (0.88, 0.95)  # segment-anything's own defaults
    assert thresholds(nano.loaded.sam, EverythingConfig()) == (0.65, 0.65)
    assert thresholds(tiny_sam, EverythingConfig(pred_iou_thresh=0.0, stability_score_thresh=0.5)) == (0.0, 0.5)


def test_records_are_complete_and_the_best_comes_first(records: list[dict[str, Any]]) -> None:
    scores = [record["predicted_iou"] for record in records]
    assert len(scores) > 3
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0.2
    for record in records:
        mask = record["segmentation"]
        assert mask.shape == (256, 256)
        assert mask.dtype == bool
        assert record["area"] == mask.sum() > 0
        assert record["stability_score"] >= FEW.stability_score_thresh
        x, y, width, height = record["bbox"]
        rows, columns = np.nonzero(mask)
        assert (columns.min(), rows.min()) == (x, y)
        assert (columns.max(), rows.max()) == (x + width, y + height)


def _by_place(record: dict[str, Any]) -> tuple[Any, ...]:
    return (*record["point_coords"][0], record["area"], record["predicted_iou"])


@pytest.mark.parametrize("crops", [0, 1])
def test_records_are_those_of_segment_anything(nano: Model, nuclei: Nuclei, crops: int) -> None:
    chosen = {
        "points_per_side": 4,
        "points_per_batch": 7,
        "pred_iou_thresh": 0.25,
        "stability_score_thresh": 0.5,
        "stability_score_offset": 0.8,
        "box_nms_thresh": 0.4,
        "crop_n_layers": crops,
    }
    image = nuclei[0][:200]
    plane = np.stack([image, image // 2, 255 - image], -1)
    expected = SamAutomaticMaskGenerator(nano.predictor.sam, **chosen).generate(plane)
    found = everything(nano.predictor, plane, EverythingConfig(**chosen))  # type: ignore[arg-type]
    assert len(found) == len(expected) > 0
    for ours, theirs in zip(sorted(found, key=_by_place), sorted(expected, key=_by_place), strict=True):
        assert ours.keys() == theirs.keys()
        for key in ours:
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)


GRIDS = [np.array([[0.25, 0.5], [0.6, 0.4], [0.9, 0.1]]), np.array([[0.5, 0.5], [0.2, 0.8]])]


@pytest.mark.parametrize("crops", [0, 1])
def test_chosen_clicks_give_what_they_give_in_segment_anything(nano: Model, nuclei: Nuclei, crops: int) -> None:
    chosen = {"pred_iou_thresh": 0.1, "stability_score_thresh": 0.3, "box_nms_thresh": 0.6, "crop_n_layers": crops}
    grids = GRIDS[: 1 + crops]
    plane = np.stack([nuclei[0][:200]] * 3, -1)
    generator = SamAutomaticMaskGenerator(nano.predictor.sam, None, point_grids=grids, **chosen)
    expected = generator.generate(plane)
    found = everything(nano.predictor, plane, EverythingConfig(point_grids=grids, **chosen))  # type: ignore[arg-type]
    assert len(found) == len(expected) > 0
    for ours, theirs in zip(sorted(found, key=_by_place), sorted(expected, key=_by_place), strict=True):
        np.testing.assert_array_equal(ours["segmentation"], theirs["segmentation"])
        assert ours["point_coords"] == theirs["point_coords"]


@pytest.mark.parametrize(
    ("grids", "rounds", "error_code"),
    [
        (GRIDS, 0, "wrong-number-of-point-grids"),
        (GRIDS[:1], 1, "wrong-number-of-point-grids"),
        ([np.zeros((0, 2))], 0, "invalid-point-grid"),
        ([[0.5, 0.5]], 0, "invalid-point-grid"),
        ([[[0.5, 1.5]]], 0, "invalid-point-grid"),
    ],
)
def test_clicks_that_make_no_sense_are_refused(grids: Any, rounds: int, error_code: str) -> None:
    with raises(InputError, error_code):
        EverythingConfig(point_grids=grids, crop_n_layers=rounds)


@pytest.mark.parametrize(
    "numbers",
    [
        {"points_per_side": 0},
        {"points_per_batch": 0},
        {"crop_n_layers": -1},
        {"min_mask_region_area": -5},
        {"box_nms_thresh": 1.5},
        {"crop_overlap_ratio": -0.1},
        {"crop_n_points_downscale_factor": 0},
        {"points_per_side": 4, "crop_n_layers": 2, "crop_n_points_downscale_factor": 3},
    ],
    ids=str,
)
def test_numbers_that_make_no_sense_are_refused_by_name(numbers: dict[str, Any]) -> None:
    name = next(iter(numbers))
    with raises(InputError, f"{name}-out-of-range" if len(numbers) == 1 else "no-clicks-in-last-round", match=name):
        EverythingConfig(**numbers)


def test_configurations_with_the_same_clicks_are_equal() -> None:
    assert EverythingConfig(point_grids=GRIDS[:1]) == EverythingConfig(point_grids=[GRIDS[0].tolist()])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "batches"),
    [
        (EverythingConfig(points_per_side=4, points_per_batch=16), 1),
        (EverythingConfig(points_per_side=4, points_per_batch=5), 4),
        # 16 clicks on the plane, then on each of 2 x 2 crops
        (EverythingConfig(4, 9, pred_iou_thresh=0.1, stability_score_thresh=0.1, crop_n_layers=1), 2 + 4 * 2),
    ],
)
def test_progress_counts_every_batch(nano: Model, nuclei: Nuclei, config: EverythingConfig, batches: int) -> None:
    calls: list[tuple[int, int]] = []
    everything(nano.predictor, nuclei[0], config, lambda done, total: calls.append((done, total)))
    assert calls == [(done, batches) for done in range(1, batches + 1)]


class StoppedError(Exception):
    """Raised by a user interface to stop."""


def test_an_exception_in_progress_stops_the_search(nano: Model, nuclei: Nuclei) -> None:
    calls = []

    def stop(done: int, total: int) -> None:
        calls.append(done)
        if done == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        everything(nano.predictor, nuclei[0], EverythingConfig(points_per_side=8, points_per_batch=4), stop)
    assert calls == [1, 2]


def test_a_plane_of_any_kind_is_accepted_and_has_its_labels_in_place(nano: Model, nuclei: Nuclei) -> None:
    plane = nuclei[0][:180].astype(np.float32) * 40 - 1000
    labels = nano.segment_everything(plane, EverythingConfig(points_per_side=12), smallest=20)
    assert labels.shape == (180, 256)
    assert labels.dtype == np.int32
    assert len(np.unique(labels)) > 2
    assert plane[labels > 0].mean() > plane[labels == 0].mean()


@pytest.mark.parametrize("shape", [(50, 70), (1, 1), (1, 600), (600, 1, 3)])
def test_a_constant_plane_does_not_fail(nano: Model, shape: tuple[int, ...]) -> None:
    labels = nano.segment_everything(np.zeros(shape, np.uint8), EverythingConfig(points_per_side=2))
    assert labels.shape == shape[:2]


@pytest.mark.parametrize("crops", [0, 1])
def test_finding_nothing_is_no_error(nano: Model, nuclei: Nuclei, crops: int) -> None:
    strict = EverythingConfig(points_per_side=2, pred_iou_thresh=5.0, crop_n_layers=crops)
    assert everything(nano.predictor, nuclei[0], strict) == []
    assert not nano.segment_everything(nuclei[0], strict).any()


def _record(rows: slice, columns: slice) -> dict[str, Any]:
    mask = np.zeros((10, 12), bool)
    mask[rows, columns] = True
    return {"segmentation": mask, "area": int(mask.sum())}


LARGE = _record(slice(0, 6), slice(0, 10))  # 60 pixels, half of the plane
MIDDLE = _record(slice(2, 8), slice(2, 6))  # 24
SMALL = _record(slice(3, 5), slice(3, 5))  # 4
TOO_LARGE = _record(slice(0, 7), slice(0, 9))  # 63


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_where_masks_overlap_the_smaller_one_is_in_front(order: tuple[int, ...]) -> None:
    chosen = [LARGE, MIDDLE, SMALL]
    labels = records_to_labels([chosen[place] for place in order], (10, 12))
    assert labels.dtype == np.int32
    assert sorted(np.unique(labels)) == [0, 1, 2, 3]
    sizes = {int(labels[0, 0]): 60 - 4 * 4, int(labels[7, 2]): 24 - 4, int(labels[3, 3]): 4}
    assert {number: int((labels == number).sum()) for number in (1, 2, 3)} == sizes
    assert labels[9].tolist() == [0] * 12


def test_small_masks_and_masks_of_the_background_are_left_out() -> None:
    everyone = [TOO_LARGE, LARGE, MIDDLE, SMALL]
    np.testing.assert_array_equal(
        records_to_labels(everyone, (10, 12), smallest=5) > 0, LARGE["segmentation"] | MIDDLE["segmentation"]
    )
    np.testing.assert_array_equal(
        records_to_labels(everyone, (10, 12), largest_share=0.2) > 0, MIDDLE["segmentation"] | SMALL["segmentation"]
    )
    assert records_to_labels(everyone, (10, 12), smallest=24).max() == 2
    assert records_to_labels(everyone, (10, 12), largest_share=0.53).max() == 4
    assert not records_to_labels([], (10, 12)).any()


def test_ids_are_contiguous_even_if_a_mask_is_hidden_by_smaller_ones() -> None:
    halves = [_record(slice(2, 8), slice(2, 4)), _record(slice(2, 8), slice(4, 6))]
    labels = records_to_labels([*halves, MIDDLE], (10, 12))
    assert np.unique(labels).tolist() == [0, 1, 2]


def test_small_holes_are_filled_and_small_parts_removed_but_the_largest() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:12, 2:12] = True
    mask[4:6, 4:6] = False  # a hole of 4 pixels
    mask[8, 8] = False
    mask[15:17, 15:18] = True  # a part of 6 pixels
    expected = np.zeros_like(mask)
    expected[2:12, 2:12] = True
    assert np.array_equal(without_small_regions(mask, 7), expected)
    expected[4:6, 4:6] = False
    expected[15:17, 15:18] = True
    assert np.array_equal(without_small_regions(mask, 3), expected)
    assert not without_small_regions(np.zeros((4, 4), bool), 3).any()


def test_records_are_cleaned_of_small_regions(nano: Model, nuclei: Nuclei) -> None:
    config = EverythingConfig(points_per_side=6, pred_iou_thresh=0.1, stability_score_thresh=0.3)
    records = everything(nano.predictor, nuclei[0], replace(config, min_mask_region_area=40))
    assert len(records) >= 3
    for record in records:
        mask = record["segmentation"]
        assert record["area"] == mask.sum()
        assert np.array_equal(without_small_regions(mask, 40), mask)
    assert len(records) <= len(everything(nano.predictor, nuclei[0], config))

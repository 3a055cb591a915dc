"""Prompts, and their way into SAM's coordinates."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from error_codes import raises
from segment_anything.utils.transforms import ResizeLongestSide

from napari_sam_lora.errors import InputError
from napari_sam_lora.prompts import ObjectPrompts, Prompts, to_sam
from napari_sam_lora.regions import Region


def _mixed() -> Prompts:
    """Five objects: box and point, box alone, two points, one point, box and another point."""
    return Prompts(
        boxes=[(0, 1, 4, 5), (2, 3, 8, 9), None, None, (1, 1, 3, 3)],
        points=[[(1, 2)], [], [(3, 4), (5, 6)], [(7, 8)], [(2, 2)]],
        point_labels=[[1], [], [1, 0], [1], [0]],
    )


def test_points_and_boxes_are_scaled_and_turned_into_x_y() -> None:
    prompts = Prompts(boxes=[(10, 20, 30, 60)], points=[[(5, 8), (0, 100)]], point_labels=[[1, 0]])
    sam = to_sam(prompts, (100, 200), (50, 400))  # y halves, x doubles
    assert sam.coordinates is not None
    assert sam.labels is not None
    assert sam.boxes is not None
    assert sam.coordinates.tolist() == [[[16, 2.5], [200, 0]]]
    assert sam.labels.tolist() == [[1, 0]]
    assert sam.boxes.tolist() == [[40, 5, 120, 15]]
    assert {sam.coordinates.dtype, sam.labels.dtype, sam.boxes.dtype} == {np.dtype(np.float32)}


@pytest.mark.parametrize("shape", [(37, 61), (512, 300), (1024, 1024), (5, 2000)])
def test_coordinates_are_those_of_segment_anything(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (3, 4, 2)) * shape
    corners = np.sort(rng.uniform(0, 1, (3, 2, 2)), axis=1) * shape
    reference = ResizeLongestSide(1024)
    resized = reference.get_preprocess_shape(*shape, 1024)
    sam = to_sam(Prompts(boxes=corners.reshape(3, 4), points=list(points)), shape, resized)
    assert sam.coordinates is not None
    assert sam.boxes is not None
    np.testing.assert_allclose(sam.coordinates, reference.apply_coords(points[..., ::-1], shape), rtol=1e-5)
    boxes = reference.apply_boxes(corners[..., ::-1].reshape(3, 4), shape)
    np.testing.assert_allclose(sam.boxes, boxes, rtol=1e-5)


def test_kinds_that_were_not_given_stay_none() -> None:
    shapes = (10, 10), (20, 20)
    lone_box = to_sam(Prompts(boxes=[(1, 2, 3, 4)]), *shapes)
    assert lone_box.coordinates is None
    assert lone_box.labels is None
    lone_point = to_sam(Prompts(points=[[(1, 2)]]), *shapes)
    assert lone_point.boxes is None
    lone_mask = to_sam(Prompts(masks=np.ones((1, 10, 10), bool)), *shapes)
    assert (lone_mask.coordinates, lone_mask.labels, lone_mask.boxes) == (None, None, None)


def test_each_group_of_a_mixture_goes_to_sam_with_what_it_has() -> None:
    prompts = _mixed()
    found = {}
    for rows in prompts.like_shaped():
        sam = to_sam(prompts[rows], (10, 10), (10, 10))
        found[tuple(rows.tolist())] = (
            None if sam.boxes is None else sam.boxes.tolist(),
            None if sam.coordinates is None else sam.coordinates.tolist(),
            None if sam.labels is None else sam.labels.tolist(),
        )
    assert found == {
        (0, 4): ([[1, 0, 5, 4], [1, 1, 3, 3]], [[[2, 1]], [[2, 2]]], [[1], [0]]),
        (1,): ([[3, 2, 9, 8]], None, None),
        (2,): (None, [[[4, 3], [6, 5]]], [[1, 0]]),
        (3,): (None, [[[8, 7]]], [[1]]),
    }


def test_points_are_inside_unless_labelled_otherwise() -> None:
    prompts = Prompts(points=[[(1, 2), (3, 4)], [(5, 6)]])
    assert prompts.point_labels is not None
    assert [row.tolist() for row in prompts.point_labels] == [[1, 1], [1]]


def test_objects_without_a_box_or_without_a_point_are_counted_so() -> None:
    prompts = _mixed()
    assert len(prompts) == 5
    assert [prompts.has_box(row) for row in range(5)] == [True, True, False, False, True]
    assert [prompts.point_count(row) for row in range(5)] == [1, 0, 2, 1, 1]


def test_only_one_point_with_nothing_else_is_a_lone_point() -> None:
    assert [_mixed().is_lone_point(row) for row in range(5)] == [False, False, False, True, False]
    assert not Prompts(points=[[(1, 1)]], masks=np.ones((1, 4, 4), bool)).is_lone_point(0)
    assert Prompts(points=[[(1, 1)]], point_labels=[[0]]).is_lone_point(0)


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, -1), [4, 3, 2, 1, 0]),
        ([3, 0, 3], [3, 0, 3]),
        (np.array([4, 2]), [4, 2]),
        ([-1], [4]),
        (np.array([False, True, False, False, True]), [1, 4]),
    ],
)
def test_rows_are_picked_in_the_order_given(rows: Any, chosen: list[int]) -> None:
    prompts, picked = _mixed(), _mixed()[rows]
    assert len(picked) == len(chosen)
    assert prompts.points is not None
    assert picked.points is not None
    assert prompts.point_labels is not None
    assert picked.point_labels is not None
    for row, source in enumerate(chosen):
        assert picked.has_box(row) == prompts.has_box(source)
        np.testing.assert_array_equal(picked.points[row], prompts.points[source])
        np.testing.assert_array_equal(picked.point_labels[row], prompts.point_labels[source])
        if picked.has_box(row) and picked.boxes is not None and prompts.boxes is not None:
            np.testing.assert_array_equal(picked.boxes[row], prompts.boxes[source])


def test_masks_are_picked_with_their_rows() -> None:
    masks = np.zeros((3, 4, 5), bool)
    for row in range(3):
        masks[row, row] = True
    picked = Prompts(masks=masks)[[2, 0]]
    assert picked.masks is not None
    np.testing.assert_array_equal(picked.masks, masks[[2, 0]])
    assert picked.boxes is None
    assert picked.points is None


def test_a_mask_stands_for_an_object_without_box_or_point() -> None:
    prompts = Prompts(boxes=[None, (0, 0, 2, 2)], points=[[], [(1, 1)]], masks=np.ones((2, 4, 4), bool))
    assert [prompts.has_box(0), prompts.point_count(0), prompts.has_box(1), prompts.point_count(1)] == [0, 0, 1, 1]
    assert [rows.tolist() for rows in prompts.like_shaped()] == [[0], [1]]


def test_logits_of_an_earlier_result_are_masks_of_any_size() -> None:
    logits = np.full((2, 64, 64), -3.0, np.float32)
    prompts = Prompts(masks=logits)
    assert prompts.masks is not None
    assert prompts.masks.dtype == np.float32
    np.testing.assert_array_equal(prompts.masks, logits)


def test_prompts_cannot_be_reassigned() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        _mixed().boxes = None  # type: ignore[misc]


BOX, POINT = (0, 0, 2, 2), [(1, 1)]
DRAWN = np.ones((1, 4, 4), bool)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, "no-prompts"),
        ({"points": [[]]}, "object-without-prompt"),
        ({"boxes": [BOX, None]}, "object-without-prompt"),
        ({"boxes": [BOX, None], "points": [POINT, []]}, "object-without-prompt"),
        ({"boxes": [BOX], "points": [POINT, POINT]}, "prompt-rows-disagree"),
        ({"boxes": [BOX, BOX], "masks": DRAWN}, "prompt-rows-disagree"),
        ({"points": [POINT, POINT], "masks": DRAWN}, "prompt-rows-disagree"),
        ({"point_labels": [[1]]}, "point-labels-without-points"),
        ({"boxes": [BOX], "point_labels": [[1]]}, "point-labels-without-points"),
    ],
)
def test_objects_that_do_not_add_up_are_refused(given: dict[str, Any], code: str) -> None:
    with raises(InputError, code):
        Prompts(**given)


@pytest.mark.parametrize(("boxes", "number"), [([None], 0), ([BOX, None], 1)])
def test_an_object_without_a_prompt_is_refused_by_its_number(boxes: list[Any], number: int) -> None:
    with raises(InputError, "object-without-prompt", match=f"Object {number} "):
        Prompts(boxes=boxes)


@pytest.mark.parametrize(
    ("box", "code"),
    [
        ((2, 0, 2, 5), "box-without-area"),
        ((0, 5, 5, 5), "box-without-area"),
        ((5, 0, 2, 5), "box-without-area"),
        ((0, 5, 5, 2), "box-without-area"),
        ((0, 0, 2, np.nan), "box-not-finite"),
        ((np.nan,) * 4, "box-not-finite"),
        ((-np.inf, 0, 2, 2), "box-not-finite"),
        ((0, 0, np.inf, 2), "box-not-finite"),
        ((0, 0, 2), "box-not-four-numbers"),
        ((0, 0, 2, 2, 2), "box-not-four-numbers"),
        (((0, 0), (2, 2)), "box-not-four-numbers"),
        (3, "box-not-four-numbers"),
    ],
)
def test_a_box_that_is_none_is_refused(box: Any, code: str) -> None:
    with raises(InputError, code):
        Prompts(boxes=[BOX, box])


@pytest.mark.parametrize(
    ("points", "code"),
    [
        ([(1, 2), (3, 4)], "points-wrong-shape"),
        ([[(1, 2, 3)]], "points-wrong-shape"),
        ([[[(1, 2)]]], "points-wrong-shape"),
        ([5], "points-wrong-shape"),
        ([[(1, np.nan)]], "points-not-finite"),
        ([[(np.inf, 1)]], "points-not-finite"),
    ],
)
def test_points_that_are_none_are_refused(points: Any, code: str) -> None:
    with raises(InputError, code):
        Prompts(points=points)


@pytest.mark.parametrize(
    ("labels", "code"),
    [
        ([[1]], "point-labels-do-not-fit"),
        ([[1, 1, 0]], "point-labels-do-not-fit"),
        ([[1, 0], [1]], "point-labels-do-not-fit"),
        ([], "point-labels-do-not-fit"),
        ([[1, 2]], "point-label-not-0-or-1"),
        ([[1, -1]], "point-label-not-0-or-1"),
        ([[1, 0.5]], "point-label-not-0-or-1"),
        ([np.array([1, 256])], "point-label-not-0-or-1"),
        ([[1, 300]], "point-label-not-0-or-1"),
        ([[1, np.nan]], "point-label-not-0-or-1"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_point_labels_that_do_not_fit_are_refused(labels: Any, code: str) -> None:
    with raises(InputError, code):
        Prompts(points=[[(1, 2), (3, 4)]], point_labels=labels)


@pytest.mark.parametrize("dtype", [int, float, bool])
def test_point_labels_may_be_of_any_type_that_holds_0_and_1(dtype: type) -> None:
    prompts = Prompts(points=[[(1, 2), (3, 4)]], point_labels=[np.array([1, 0], dtype)])
    assert prompts.point_labels is not None
    assert prompts.point_labels[0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("masks", "code"),
    [
        (np.ones((4, 4), bool), "masks-wrong-shape"),
        (np.ones((1, 1, 4, 4), np.float32), "masks-wrong-shape"),
        (np.ones((1, 4, 4), int), "masks-wrong-type"),
        (np.ones((1, 4, 4), np.uint8), "masks-wrong-type"),
        (np.stack([np.ones((4, 4), bool), np.zeros((4, 4), bool)]), "mask-empty"),
        (np.full((1, 4, 4), np.nan, np.float32), "mask-logits-not-finite"),
    ],
)
def test_masks_that_are_none_are_refused(masks: Any, code: str) -> None:
    with raises(InputError, code):
        Prompts(masks=masks)


def test_prompts_within_a_box_are_in_its_pixels_without_points_outside() -> None:
    mask = np.zeros((40, 40), bool)
    mask[12:20, 18:30] = True
    prompts = ObjectPrompts((12, 18, 20, 30), np.array([[14, 20], [2, 3], [29, 34]]), None, Region.of(mask))
    inside = prompts.within((10, 15, 30, 35))
    assert inside.box == (2, 3, 10, 15)
    assert inside.points is not None
    assert inside.points.tolist() == [[4, 5], [19, 19]]
    assert inside.point_labels is not None
    assert inside.point_labels.tolist() == [1, 1]
    assert inside.mask is not None
    assert np.array_equal(inside.mask.to_mask((20, 20)), mask[10:30, 15:35])


def test_objects_are_stacked_for_sam_as_a_batch_of_prompts_is() -> None:
    mask = np.zeros((2, 10, 10), bool)
    mask[0, 2:5, 3:6] = mask[1, 4:8, 4:9] = True
    batch = Prompts([[1, 2, 6, 7], [3, 3, 9, 9]], [[[3, 4]], [[5, 6]]], [[1], [0]], mask)
    expected = to_sam(batch, (10, 10), (20, 30))
    found = to_sam(ObjectPrompts.from_prompts(batch), (10, 10), (20, 30))
    for name in ("coordinates", "labels", "boxes", "masks"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    again = [one.as_prompts((10, 10)) for one in ObjectPrompts.from_prompts(batch)]
    np.testing.assert_array_equal(again[1].boxes, batch.boxes[1:])  # type: ignore[index]
    np.testing.assert_array_equal(again[1].masks, mask[1:])


def test_negative_points_do_not_count_for_the_extent_if_there_is_anything_else() -> None:
    assert ObjectPrompts((5, 5, 9, 9), np.array([[30, 30]]), np.array([0])).extent == (5, 5, 9, 9)
    assert ObjectPrompts(None, np.array([[30, 31]]), np.array([0])).extent == (30, 31, 31, 32)

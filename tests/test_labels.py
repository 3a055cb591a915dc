"""Label images: checking, finding objects, writing masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.labels import (
    LabelledObject,
    LabelMeaning,
    add_masks,
    check_labels,
    click_at_centre,
    find_objects,
    iter_masks,
    next_free_label,
    separate_objects,
)


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", ">u2", "<u4", ">i4", "u8", "f4", ">f8"])
def test_whole_numbers_of_any_type_become_int64(dtype: str) -> None:
    labels = np.array([[0, 1, 1], [0, 0, 1]]).astype(dtype)
    checked = check_labels(labels, (2, 3))
    assert checked.dtype == np.int64
    assert checked.tolist() == [[0, 1, 1], [0, 0, 1]]


def test_checked_labels_are_a_copy() -> None:
    labels = np.array([[0, 1]], np.int64)
    checked = check_labels(labels, (1, 2))
    labels[:] = 9
    assert checked.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("labels", "code"),
    [
        ([[0, -1]], "labels-negative"),
        (np.array([[0.0, -1.0]]), "labels-negative"),
        (np.array([[0.0, 0.5]]), "labels-not-whole-numbers"),
        (np.array([[0.0, np.nan]]), "labels-not-whole-numbers"),
        (np.array([[0.0, np.inf]]), "labels-not-whole-numbers"),
        (np.array([["0", "1"]]), "labels-not-whole-numbers"),
        (np.array([[0, 1j]]), "labels-not-whole-numbers"),
        (np.array([[0, None]]), "labels-not-whole-numbers"),
        ([[0], [1]], "labels-do-not-fit"),
        ([0, 1], "labels-do-not-fit"),
        ([[[0, 1]]], "labels-do-not-fit"),
        (3, "labels-do-not-fit"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(labels: Any, code: str) -> None:
    with raises(InputError, code):
        check_labels(labels, (1, 2))


def test_labels_of_another_shape_are_refused_with_both_shapes() -> None:
    with raises(InputError, "labels-do-not-fit", match=r"\(2, 1\).*\(1, 2\)"):
        check_labels([[0], [1]], (1, 2))


@pytest.fixture
def sparse() -> NDArray[np.int64]:
    labels = np.zeros((9, 12), np.int64)
    labels[0:2, 0:3] = 70000
    labels[4, 5] = 3
    labels[3:9, 10:12] = 2**40
    labels[8, 0] = labels[6, 2] = 12  # two parts, one object
    return labels


def test_objects_with_sparse_and_large_ids_are_found_in_their_order(sparse: NDArray[np.int64]) -> None:
    assert find_objects(sparse) == [
        LabelledObject(3, (4, 5, 5, 6), 1),
        LabelledObject(12, (6, 0, 9, 3), 2),
        LabelledObject(70000, (0, 0, 2, 3), 6),
        LabelledObject(2**40, (3, 10, 9, 12), 12),
    ]


@pytest.mark.parametrize(
    ("smallest", "found"), [(1, [3, 12, 70000, 2**40]), (2, [12, 70000, 2**40]), (7, [2**40]), (13, [])]
)
def test_objects_below_the_smallest_area_are_left_out(
    sparse: NDArray[np.int64], smallest: int, found: list[int]
) -> None:
    assert [each.label for each in find_objects(sparse, smallest)] == found
    assert [label for label, _ in iter_masks(sparse, smallest)] == found


def test_the_centre_of_an_object_is_the_middle_of_its_box() -> None:
    assert LabelledObject(1, (2, 3, 8, 6), 5).centre == (5.0, 4.5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_a_plane_may_be_empty_or_full(dtype: type) -> None:
    assert find_objects(np.zeros((4, 5), dtype)) == []
    assert find_objects(np.full((4, 5), 7, dtype)) == [LabelledObject(7, (0, 0, 4, 5), 20)]


def test_each_mask_is_exactly_its_object(sparse: NDArray[np.int64]) -> None:
    masks = dict(iter_masks(sparse))
    assert list(masks) == [3, 12, 70000, 2**40]
    for label, mask in masks.items():
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, sparse == label)


def _disc(radius: float, centre: tuple[float, float] = (15, 15)) -> NDArray[np.bool_]:
    y, x = np.mgrid[:31, :31]
    return np.asarray(np.hypot(y - centre[0], x - centre[1]) <= radius)


RING = _disc(12) & ~_disc(8)
CRESCENT = _disc(12) & ~_disc(11, (15, 20))
SINGLE = np.arange(31 * 31).reshape(31, 31) == 4 * 31 + 30
CORNER = _disc(9, (0, 0))
LINE = np.eye(31, dtype=bool)


@pytest.mark.parametrize(
    "mask", [RING, CRESCENT, SINGLE, CORNER, LINE], ids=["ring", "crescent", "1", "corner", "line"]
)
def test_a_click_lies_inside_its_object(mask: NDArray[np.bool_]) -> None:
    before = mask.copy()
    assert mask[click_at_centre(mask)]
    np.testing.assert_array_equal(mask, before)


def test_a_click_is_as_far_from_the_outline_as_can_be() -> None:
    assert click_at_centre(_disc(7.5, (12, 16))) == (12, 16)
    assert click_at_centre(SINGLE) == (4, 30)
    bar = np.zeros((20, 20), bool)
    bar[3:8, 2:5] = True
    bar[5, 5:20] = True  # a thin arm does not move it
    assert click_at_centre(bar)[1] == 3


def test_the_border_of_the_image_counts_as_outline() -> None:
    assert click_at_centre(np.ones((5, 9), bool)) == (2, 2)
    strip = np.zeros((9, 9), bool)
    strip[:, :3] = True
    assert click_at_centre(strip)[1] == 1


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (np.zeros((3, 3), np.uint8), 1),
        (np.array([[0, 5], [2, 0]], np.int32), 6),
        (np.full((2, 2), 255, np.uint8), 256),
        (np.zeros((0, 3), np.int64), 1),
    ],
)
def test_the_next_label_is_above_all_in_use(labels: NDArray[Any], wanted: int) -> None:
    assert next_free_label(labels) == wanted


def _rows(*spans: tuple[int, int]) -> NDArray[np.bool_]:
    masks = np.zeros((len(spans), 1, 8), bool)
    for row, (start, stop) in enumerate(spans):
        masks[row, 0, start:stop] = True
    return masks


@pytest.mark.parametrize("scores", [None, np.array([0.1, 0.9])])
def test_masks_never_overwrite_what_is_labelled(scores: NDArray[np.float64] | None) -> None:
    labels = np.array([[0, 0, 7, 7, 0, 0, 0, 2]], np.uint8)
    out = add_masks(labels, _rows((0, 4), (3, 8)), scores)
    assert out.tolist() == [[8, 8, 7, 7, 9, 9, 9, 2]]
    assert out.dtype == np.int64
    assert labels.tolist() == [[0, 0, 7, 7, 0, 0, 0, 2]]


@pytest.mark.parametrize(
    ("scores", "wanted"),
    [
        (None, [1, 1, 1, 1, 2, 2, 3, 3]),
        ([0.5, 0.9, 0.7], [1, 1, 2, 2, 2, 2, 3, 3]),
        ([0.5, 0.7, 0.9], [1, 1, 2, 2, 3, 3, 3, 3]),
        ([0.9, 0.7, 0.8], [1, 1, 1, 1, 3, 3, 3, 3]),
        ([0.5, 0.5, 0.5], [1, 1, 1, 1, 2, 2, 3, 3]),
    ],
)
def test_overlaps_go_to_the_higher_score_and_else_to_the_earlier_mask(
    scores: list[float] | None, wanted: list[int]
) -> None:
    masks = _rows((0, 4), (2, 6), (4, 8))
    out = add_masks(np.zeros((1, 8), int), masks, None if scores is None else np.array(scores))
    assert out.tolist() == [wanted]


def test_a_mask_without_a_free_pixel_leaves_its_id_unused() -> None:
    labels = np.array([[4, 4, 0, 0, 0, 0, 0, 0]])
    out = add_masks(labels, _rows((0, 2), (2, 4), (4, 8)))
    assert out.tolist() == [[4, 4, 6, 6, 7, 7, 7, 7]]


def test_ids_go_on_beyond_what_the_type_of_the_labels_holds() -> None:
    labels = np.array([[255, 0, 0, 0, 0, 0, 0, 0]], np.uint8)
    out = add_masks(labels, _rows((1, 3), (3, 5)))
    assert out.tolist() == [[255, 256, 256, 257, 257, 0, 0, 0]]


def test_no_masks_give_an_equal_copy() -> None:
    labels = np.array([[0, 3]], np.int64)
    out = add_masks(labels, np.zeros((0, 1, 2), bool))
    assert out.tolist() == labels.tolist()
    assert not np.shares_memory(out, labels)


def test_instances_are_taken_as_they_are() -> None:
    labels = np.array([[1, 0, 1], [0, 3, 0]], np.int64)
    objects, classes = separate_objects(labels)
    assert objects is labels
    assert classes == {}


def test_each_connected_part_of_a_class_is_an_object_that_remembers_its_class() -> None:
    labels = np.array(
        [
            [2, 2, 0, 1, 0],
            [0, 0, 1, 0, 0],  # diagonal neighbours are connected
            [2, 3, 3, 0, 1],  # touching classes are not
        ],
        np.int64,
    )
    objects, classes = separate_objects(labels, "classes")
    assert sorted(classes.values()) == [1, 1, 2, 2, 3]
    assert ((objects > 0) == (labels > 0)).all()
    for number, class_id in classes.items():
        assert set(labels[objects == number]) == {class_id}
    assert objects[0, 3] == objects[1, 2] != objects[2, 4]
    assert objects[0, 0] == objects[0, 1] != objects[2, 0]


def test_a_mask_is_one_object_whatever_its_values() -> None:
    objects, classes = separate_objects(np.array([[0, 255, 1], [7, 0, 3]], np.int64), "mask")
    assert objects.tolist() == [[0, 1, 1], [1, 0, 1]]
    assert classes == {}


@pytest.mark.parametrize("meaning", ["instances", "classes", "mask"])
def test_labels_without_an_object_have_none_in_any_meaning(meaning: LabelMeaning) -> None:
    objects, classes = separate_objects(np.zeros((4, 5), np.int64), meaning)
    assert not objects.any()
    assert classes == {}

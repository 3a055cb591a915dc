"""Drafts: prompts while they are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from error_codes import raises
from skimage.draw import polygon2mask

from napari_sam_lora.errors import InputError
from napari_sam_lora.prompts import ObjectPrompts
from napari_sam_lora.regions import Region
from napari_sam_lora.session import Draft, PromptItem
from napari_sam_lora.session.prompting.draft import combine, make_item, scribble_points

SHAPE = (40, 50)


@pytest.fixture
def draft() -> Draft:
    return Draft(SHAPE)


def _square(y: int, x: int, size: int = 6) -> Any:
    mask = np.zeros(SHAPE, np.bool_)
    mask[y : y + size, x : x + size] = True
    return mask


def _combined(draft: Draft) -> list[ObjectPrompts | None]:
    return [combine(row) for row in draft.rows().values()]


def test_several_kinds_of_one_object_are_combined(draft: Draft) -> None:
    draft.add("box", [5, 6, 20, 30])
    draft.add("point", [10, 12])
    draft.add("point", [3, 3], positive=False)
    (one,) = _combined(draft)
    assert one is not None
    assert one.box == (5, 6, 20, 30)
    assert one.points is not None
    assert one.points.tolist() == [[10, 12], [3, 3]]
    assert one.point_labels is not None
    assert one.point_labels.tolist() == [1, 0]
    assert one.mask is None


def test_a_mask_comes_with_the_box_around_it(draft: Draft) -> None:
    draft.add("mask", _square(4, 4))
    (masked,) = _combined(draft)
    assert masked is not None
    assert masked.mask is not None
    assert np.array_equal(masked.mask.to_mask(SHAPE), _square(4, 4))
    assert masked.box == (4, 4, 10, 10)


def test_a_negative_mask_is_cut_out_of_the_positive_ones(draft: Draft) -> None:
    draft.add("mask", _square(4, 6, 2), positive=False)
    draft.add("mask", _square(4, 4))
    draft.add("lasso", [[20, 20], [20, 29], [29, 29], [29, 20]])
    (one,) = _combined(draft)
    assert one is not None
    assert one.mask is not None
    mask = one.mask.to_mask(SHAPE)
    assert mask[:12, :12].sum() == 36 - 4
    assert mask[21:29, 21:29].all()
    assert not mask[4, 6]


def test_a_lasso_over_the_edge_has_the_pixels_of_its_polygon(draft: Draft) -> None:
    corners = np.array([[-5.5, 30.2], [12.7, 60.0], [33.3, 41.9], [20.0, 10.5]])
    draft.add("lasso", corners)
    ((item,),) = draft.rows().values()
    assert item.region is not None
    np.testing.assert_array_equal(item.region.to_mask(SHAPE), polygon2mask(SHAPE, corners))


def test_two_boxes_of_an_object_are_the_box_around_both(draft: Draft) -> None:
    draft.add("box", [5, 6, 10, 12])
    draft.add("box", [8, 2, 20, 9])
    (one,) = _combined(draft)
    assert one is not None
    assert one.box == (5, 2, 20, 12)


def test_an_object_without_a_positive_prompt_is_left_out(draft: Draft) -> None:
    draft.add("point", [3, 3], positive=False, obj=0)
    draft.add("mask", _square(3, 3), positive=False, obj=1)
    draft.add("point", [9, 9], obj=2)
    assert [one is not None for one in _combined(draft)] == [False, False, True]


def test_a_scribble_becomes_points_along_it(draft: Draft) -> None:
    draft.add("scribble", [[10, 2], [10, 42]])
    (one,) = _combined(draft)
    assert one is not None
    assert one.points is not None
    assert one.points[:, 0].tolist() == [10] * 4
    assert np.allclose(one.points[:, 1], [2, 2 + 40 / 3, 2 + 80 / 3, 42])


@pytest.mark.parametrize(("path", "count"), [([[5, 5]], 1), ([[5, 5], [6, 6]], 1), ([[0, 0], [0, 500]], 8)])
def test_a_scribble_gives_few_points(path: list[list[int]], count: int) -> None:
    assert len(scribble_points(np.array(path))) == count


def test_a_repeated_place_in_a_scribble_does_no_harm() -> None:
    points = scribble_points(np.array([[0, 0], [0, 0], [0, 12], [0, 12], [0, 24]]))
    assert points.tolist() == [[0, 0], [0, 12], [0, 24]]


def test_a_box_can_be_drawn_from_any_corner_and_over_the_edge(draft: Draft) -> None:
    draft.add("box", [20, 60, -5, 30])
    ((item,),) = draft.rows().values()
    assert item.coordinates.tolist() == [[0, 30], [20, 50]]


@pytest.mark.parametrize(
    ("kind", "data", "code"),
    [
        ("point", [45, 3], "point-outside-plane"),
        ("point", [[1, 1], [2, 2]], "coordinates-do-not-fit"),
        ("point", [np.nan, 3], "coordinates-not-finite"),
        ("box", [5, 5, 5, 9], "box-without-area"),
        ("box", [100, 100, 120, 120], "box-without-area"),
        ("lasso", [[1, 1], [5, 5]], "lasso-too-short"),
        ("lasso", [[100, 100], [120, 100], [120, 120]], "mask-empty"),
        ("scribble", [[100, 100], [120, 100]], "scribble-outside-plane"),
        ("scribble", [], "coordinates-do-not-fit"),
        ("mask", np.zeros(SHAPE, np.bool_), "mask-empty"),
        ("mask", np.ones((3, 3), np.bool_), "mask-does-not-fit"),
        ("mask", np.ones(SHAPE), "mask-does-not-fit"),
        ("star", [3, 3], "unknown-prompt-kind"),
    ],
)
def test_what_cannot_be_a_prompt_is_refused_and_changes_nothing(draft: Draft, kind: Any, data: Any, code: str) -> None:
    kept = draft.add("point", [3, 3])
    with raises(InputError, code):
        draft.add(kind, data)
    assert [item.id for row in draft.rows().values() for item in row] == [kept]


def test_a_box_is_never_negative(draft: Draft) -> None:
    with raises(InputError, "negative-box"):
        draft.add("box", [1, 1, 5, 5], positive=False)
    box = draft.add("box", [1, 1, 5, 5])
    with raises(InputError, "negative-box"):
        draft.flip(box)


def test_items_are_moved_flipped_removed_and_cleared(draft: Draft) -> None:
    first, second = draft.add("point", [3, 3]), draft.add("point", [4, 4], obj=1)
    before = draft.rows()
    draft.move(first, [5, 6])
    draft.flip(first)
    ((item,), (other,)) = draft.rows().values()
    assert (item.id, item.positive, item.coordinates.tolist()) == (first, False, [[5, 6]])
    assert before[0][0].coordinates.tolist() == [[3, 3]]  # a snapshot stays as it was
    assert other.id == second
    draft.remove(second)
    draft.remove(second)
    assert list(draft.rows()) == [0]
    with raises(InputError, "prompt-not-found"):
        draft.move(second, [1, 1])
    draft.clear()
    assert len(draft) == 0


def test_stored_items_come_back_as_a_new_object_with_new_ids(draft: Draft) -> None:
    draft.add("point", [3, 3])
    stored = draft.rows()[0]
    assert draft.put_back(stored) == 1
    (back,) = draft.rows()[1]
    assert isinstance(back, PromptItem)
    assert back.id != stored[0].id
    assert np.array_equal(back.coordinates, stored[0].coordinates)


def _drawn(kind: Any, data: Any, positive: bool = True, obj: int = 0) -> tuple[int, PromptItem]:
    return obj, make_item(0, kind, data, positive, SHAPE)


def test_only_what_is_drawn_differently_is_changed(draft: Draft) -> None:
    point, box = draft.add("point", [3, 3]), draft.add("box", [5, 5, 9, 9])
    other = draft.add("point", [20, 20], obj=1)
    kept = draft.rows()[0][1]
    drawn = [_drawn("box", [5, 5, 9, 9]), _drawn("point", [4, 6]), _drawn("point", [20, 20], False, 1)]
    assert draft.update([*drawn, _drawn("lasso", [[0, 0], [0, 9], [9, 9]], obj=2)])
    (moved, same), (flipped,), (added,) = draft.rows().values()
    assert (moved.id, moved.coordinates.tolist()) == (point, [[4, 6]])
    assert same is kept
    assert same.id == box
    assert (flipped.id, flipped.positive) == (other, False)
    assert (added.kind, added.id) == ("lasso", 3)
    assert draft.update(drawn[:2])
    assert list(draft.rows()) == [0]


def test_the_same_drawing_changes_nothing_whatever_its_order_or_precision(draft: Draft) -> None:
    for data in ([3.3, 3.1], [8, 8], [3.3, 3.1]):
        draft.add("point", data)
    draft.add("mask", _square(4, 4))
    before = draft.rows()
    drawn = [_drawn("point", np.array(data, np.float32)) for data in ([8, 8], [3.3, 3.1], [3.3, 3.1])]
    assert not draft.update([_drawn("mask", Region.of(_square(4, 4))), *drawn])
    assert all(a is b for a, b in zip(before[0], draft.rows()[0], strict=True))

"""The simulated user points where a user would, and as the real one did."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam_lora import Prompts
from napari_sam_lora.training.data.simulated_user import (
    Groups,
    click_inside,
    corrective_clicks,
    first_prompts,
    jittered_box,
    rough_mask,
    with_click,
)


def _mask(box: tuple[int, int, int, int], shape: tuple[int, int] = (512, 512)) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.bool_)
    mask[box[0] : box[2], box[1] : box[3]] = True
    return mask


@pytest.mark.parametrize("box", [(10, 20, 11, 21), (10, 20, 40, 140), (5, 5, 505, 405)])
def test_jittered_boxes_stay_within_limits(box: tuple[int, int, int, int]) -> None:
    mask = _mask(box)
    for seed in range(100):
        got = np.array(jittered_box(mask, np.random.default_rng(seed)))
        assert (np.abs(got - box)[:2] <= 20).all()
        assert (np.abs(got - box)[2:] <= 21).all()
        assert (got[2:] - got[:2] >= 0.999).all()


def test_the_error_of_a_box_follows_the_length_of_its_side() -> None:
    rng = np.random.default_rng(0)
    box = np.array((100, 20, 140, 180))  # 40 high, 160 wide: 20 pixels are out of reach for most
    moved = np.array([jittered_box(_mask((100, 20, 140, 180)), rng) for _ in range(600)]) - box
    # a normal error whose scale is uniform up to 0.1 has a standard deviation of 0.1 / sqrt(3)
    np.testing.assert_allclose(moved.std(0), 0.1 / np.sqrt(3) * np.array([40, 160, 40, 160]), rtol=0.15)
    np.testing.assert_allclose(moved.mean(0), 0, atol=1.2)


def test_clicks_lie_inside_the_mask_and_vary() -> None:
    ring = _mask((10, 10, 50, 50), (64, 64)) & ~_mask((14, 14, 46, 46), (64, 64))
    clicks = [click_inside(ring, np.random.default_rng(seed)) for seed in range(100)]
    assert all(ring[int(y), int(x)] for y, x in clicks)
    assert len(set(clicks)) > 30
    most_common = max(set(clicks), key=clicks.count)
    assert 30 <= clicks.count(most_common) <= 70  # the centre, half of the time


def _indices(groups: Groups, kind: str) -> list[int]:
    """Objects that were prompted by one kind alone."""
    found: list[int] = []
    for prompts, indices in groups:
        kinds = {
            "box": prompts.has_box(0),
            "click": prompts.point_count(0) > 0,
            "mask": prompts.masks is not None,
        }
        if [name for name, used in kinds.items() if used] == [kind]:
            found += indices.tolist()
    return found


@pytest.mark.parametrize(
    ("box_share", "mask_share", "kind"),
    [(1.0, 1.0, "box"), (0.0, 0.0, "click"), (0.0, 1.0, "mask")],
)
def test_shares_of_one_and_none_give_one_kind_alone(box_share: float, mask_share: float, kind: str) -> None:
    masks = np.stack([_mask((10, 10, 30, 30)), _mask((50, 50, 90, 90))])
    groups = first_prompts(masks, box_share, np.random.default_rng(0), mask_share)
    assert _indices(groups, kind) == [0, 1]
    assert len(groups) == 1


def test_prompts_are_mixed_by_their_shares_and_every_object_is_prompted_once() -> None:
    masks = np.stack([_mask((10, 10, 30, 30), (64, 64))] * 400)
    groups = first_prompts(masks, 0.5, np.random.default_rng(0), 0.2)
    counts = [len(_indices(groups, kind)) for kind in ("box", "click", "mask")]
    # 0.5, 0.5 * 0.8 and 0.5 * 0.2 of 400, each within four standard deviations
    np.testing.assert_allclose(counts, [200, 160, 40], atol=40)
    assert sorted(index for _, indices in groups for index in indices) == list(range(400))


def test_prompts_keep_the_order_of_their_objects() -> None:
    corners = [(20 + 90 * y, 20 + 90 * x) for y in range(5) for x in range(5)]
    masks = np.stack([_mask((y, x, y + 40, x + 40)) for y, x in corners])
    groups = first_prompts(masks, 0.4, np.random.default_rng(0), 0.5)
    assert len(groups) == 3
    for prompts, indices in groups:
        assert len(prompts) == len(indices)
        for row, index in enumerate(indices):
            if prompts.boxes is not None:
                y, x = corners[index]
                assert np.abs(prompts.boxes[row] - (y, x, y + 40, x + 40)).max() <= 21
            elif prompts.points is not None:
                assert prompts.is_lone_point(row)
                assert masks[index][tuple(prompts.points[row][0].astype(int))]
            else:
                assert prompts.masks is not None
                assert (prompts.masks[row] & masks[index]).sum() > 400


def test_the_same_seed_gives_the_same_prompts() -> None:
    masks = np.stack([_mask((10 * n, 10, 10 * n + 9, 30), (64, 64)) for n in range(1, 5)])
    first, again = (first_prompts(masks, 0.4, np.random.default_rng(7), 0.5) for _ in range(2))
    for (prompts, indices), (other, other_indices) in zip(first, again, strict=True):
        assert indices.tolist() == other_indices.tolist()
        for name in ("boxes", "masks"):
            np.testing.assert_array_equal(getattr(prompts, name) is None, getattr(other, name) is None)
            if getattr(prompts, name) is not None:
                np.testing.assert_array_equal(getattr(prompts, name), getattr(other, name))


@pytest.mark.parametrize("box", [(20, 20, 21, 21), (20, 20, 60, 24), (0, 0, 128, 128), (90, 100, 128, 128)])
def test_a_rough_mask_is_never_empty_and_close_to_the_object(box: tuple[int, int, int, int]) -> None:
    mask = _mask(box, (128, 128))
    areas = set()
    for seed in range(40):
        drawn = rough_mask(mask, np.random.default_rng(seed))
        assert drawn.shape == mask.shape
        assert drawn.dtype == bool
        assert (drawn & mask).any()
        areas.add(int(drawn.sum()))
        reach = 0.15 * np.sqrt(mask.sum()) + 1
        rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
        assert rows[0] >= box[0] - reach
        assert rows[-1] < box[2] + reach
        assert columns[0] >= box[1] - reach
        assert columns[-1] < box[3] + reach
    if mask.sum() > 1:
        assert min(areas) < mask.sum()
    if mask.sum() < mask.size:
        assert max(areas) >= mask.sum()


def test_prompts_that_the_user_gave_are_used_half_of_the_time() -> None:
    masks = np.stack([_mask((10, 10, 30, 30), (64, 64))] * 300)
    own = Prompts(points=[[[12, 13], [40, 40]]], point_labels=[[1, 0]])
    groups = first_prompts(masks, 0.5, np.random.default_rng(0), 0.2, [own if n < 200 else None for n in range(300)])
    assert sorted(index for _, indices in groups for index in indices) == list(range(300))
    (given,) = [(prompts, indices) for prompts, indices in groups if prompts.point_count(0) == 2]
    assert len(given[0]) == len(given[1])
    assert given[1].max() < 200
    assert 70 <= len(given[1]) <= 130
    assert given[0].points is not None
    assert given[0].points[0].tolist() == [[12, 13], [40, 40]]
    assert given[0].point_labels is not None
    assert given[0].point_labels[0].tolist() == [1, 0]


def test_given_prompts_of_different_kinds_go_to_different_groups() -> None:
    mask = _mask((10, 10, 30, 30), (64, 64))
    given = [
        Prompts(boxes=[[10, 10, 30, 30]]),
        Prompts(boxes=[[10, 10, 30, 31]]),
        Prompts(boxes=[[10, 10, 30, 30]], points=[[[20, 20]]]),
        Prompts(masks=mask[None]),
        Prompts(points=[[[20, 20]]], masks=mask[None]),
    ]

    class AllGiven:
        """Draws that always choose what the user gave."""

        def random(self, size: int) -> NDArray[np.float64]:
            return np.zeros(size)

    rng: Any = AllGiven()
    groups = first_prompts(np.stack([mask] * 5), 0.0, rng, 0.0, given)
    assert sorted(indices.tolist() for _, indices in groups) == [[0, 1], [2], [3], [4]]
    for prompts, _ in groups:
        assert len(prompts.like_shaped()) == 1
    (boxes,) = [prompts.boxes for prompts, _ in groups if len(prompts) == 2]
    assert boxes is not None
    assert boxes.tolist() == [[10, 10, 30, 30], [10, 10, 30, 31]]


def test_corrective_clicks_hit_the_error_with_the_right_label() -> None:
    wanted = np.stack([_mask((10, 10, 30, 30), (64, 64))] * 3)
    found = np.stack(
        [
            _mask((10, 10, 30, 20), (64, 64)),  # a half is missing
            _mask((10, 10, 30, 45), (64, 64)),  # too much
            wanted[2],  # all right
        ]
    )
    for seed in range(50):
        missing, extra, right = corrective_clicks(found, wanted, np.random.default_rng(seed))
        assert 10 <= missing[0][0] < 30
        assert 20 <= missing[0][1] < 30
        assert missing[1] == 1
        assert 10 <= extra[0][0] < 30
        assert 30 <= extra[0][1] < 45
        assert extra[1] == 0
        assert wanted[2][tuple(int(value) for value in right[0])]
        assert right[1] == 1


def test_a_click_is_added_to_boxes_and_to_earlier_clicks() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 8, 8)).astype(np.float32)
    clicks = [((3.0, 4.0), 1), ((5.0, 6.0), 0)]
    boxes = [[0.0, 0.0, 10.0, 12.0], [1.0, 1.0, 9.0, 9.0]]

    by_box = with_click(Prompts(boxes=boxes), clicks, logits)
    assert by_box.boxes is not None
    assert by_box.boxes.tolist() == boxes
    assert by_box.points is not None
    assert [row.tolist() for row in by_box.points] == [[[3, 4]], [[5, 6]]]

    by_click = with_click(Prompts(points=[[[1, 2]], [[7, 8]]]), clicks, logits)
    assert by_click.boxes is None
    assert by_click.points is not None
    assert by_click.point_labels is not None
    assert [row.tolist() for row in by_click.points] == [[[1, 2], [3, 4]], [[7, 8], [5, 6]]]
    assert [row.tolist() for row in by_click.point_labels] == [[1, 1], [1, 0]]
    assert by_click.masks is not None
    assert np.array_equal(by_click.masks, logits)
    assert not by_click.is_lone_point(0)

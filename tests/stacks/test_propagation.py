"""Objects are followed through a stack."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora import Model, Preprocessing, Prompts, PropagationConfig, load_model, propagate, propagate_volume
from napari_sam_lora.errors import InputError
from napari_sam_lora.overlap import mask_iou
from napari_sam_lora.stacks.propagation.state import PropagatedPlane

from .conftest import Discs, draw_discs


class Counted:
    """A stack that remembers which planes were read, and hands out one plane at a time."""

    def __init__(self, image: NDArray[Any]) -> None:
        self._image = image
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self._image)

    def __getitem__(self, index: int) -> NDArray[Any]:
        self.read.append(index)
        return self._image[index]


def ended(planes: list[PropagatedPlane]) -> dict[tuple[int, int], str]:
    """Return the reason by plane and object."""
    return {(one.index, label): reason for one in planes for label, reason in one.ended.items()}


def test_objects_of_a_plane_are_followed_both_ways_until_they_end(small: Model, discs: Discs) -> None:
    planes = list(propagate(small, discs.image, discs.labels[4], plane=4))
    assert [one.index for one in planes] == [4, 5, 6, 7, 8, 3, 2, 1, 0]
    assert [one.is_seed for one in planes] == [True] + [False] * 8
    for one in planes:
        assert mask_iou(one.labels == 1, discs.labels[one.index] == 1) > 0.6, one.index
        if 2 <= one.index <= 6:
            assert mask_iou(one.labels == 2, discs.labels[one.index] == 2) > 0.8, one.index
    assert set(ended(planes)) == {(7, 2), (1, 2)}
    assert (planes[-1].done, planes[-1].total) == (8, 8)


def test_prompts_are_segmented_first_and_then_followed(small: Model, discs: Discs) -> None:
    prompts = Prompts(boxes=[[9, 11, 28, 30], [38, 32, 55, 49]])
    planes = list(small.propagate(discs.image, prompts, 4, PropagationConfig(direction="up")))
    assert [one.index for one in planes] == [4, 5, 6, 7, 8]
    first = planes[0]
    assert first.is_seed
    assert set(first.scores) == {1, 2}
    assert mask_iou(first.labels == 1, discs.labels[4] == 1) > 0.8
    assert mask_iou(planes[-1].labels == 1, discs.labels[8] == 1) > 0.6


def test_bounds_and_chosen_objects_limit_what_is_followed(small: Model, discs: Discs) -> None:
    config = PropagationConfig(first=3, last=5)
    planes = list(propagate(small, discs.image, discs.labels[4], 4, config, ids=[2]))
    assert [one.index for one in planes] == [4, 5, 3]
    assert {label for one in planes for label in one.objects} == {2}


@pytest.mark.parametrize("projection", ["box", "mask", "points", "box+mask+points"])
def test_each_projection_follows_a_plain_object(small: Model, discs: Discs, projection: Any) -> None:
    config = PropagationConfig(projection=projection, direction="up", last=6, min_score=0.1, max_growth=4)
    planes = list(propagate(small, discs.image, discs.labels[4], 4, config))
    assert mask_iou(planes[-1].labels == 2, discs.labels[6] == 2) > 0.7
    prompts = planes[-1].prompts[2]
    assert (prompts.box is not None, prompts.points is not None, prompts.mask is not None) == tuple(
        kind in projection for kind in ("box", "points", "mask")
    )


def test_touching_objects_keep_their_ids_and_never_overlap(small: Model) -> None:
    y, x = np.mgrid[:64, :64]
    labels = np.zeros((4, 64, 64), np.int64)
    for z in range(4):
        labels[z][(y - 32) ** 2 + (x - 22) ** 2 < 121] = 1
        labels[z][((y - 32) ** 2 + (x - 42) ** 2 < 121) & (labels[z] == 0)] = 2
    image = np.where(labels == 1, 150, np.where(labels == 2, 220, 30)).astype(np.uint8)
    for one in propagate(small, image, labels[0], 0):
        assert sum(region.area for region in one.objects.values()) == np.count_nonzero(one.labels)
        for label in (1, 2):
            assert mask_iou(one.labels == label, labels[one.index] == label) > 0.6


def test_an_object_that_splits_keeps_its_id_in_both_parts(small: Model) -> None:
    image = np.full((2, 64, 64), 30, np.uint8)
    image[0, 24:40, 8:56] = 200
    image[1, 24:40, 8:26] = image[1, 24:40, 38:56] = 200
    planes = list(propagate(small, image, (image[0] > 100).astype(int), 0, PropagationConfig(projection="mask")))
    assert set(planes[-1].objects) == {1}
    after = planes[-1].labels == 1
    assert after[24:40, 8:26].mean() > 0.7
    assert after[24:40, 38:56].mean() > 0.7


def test_key_planes_stay_and_the_nearer_one_decides_between_them(small: Model, discs: Discs) -> None:
    painted = np.zeros((64, 64), np.int64)
    painted[10:26, 14:38] = 1
    planes = list(propagate(small, discs.image, {1: discs.labels[1], 7: painted}))
    seeds = {one.index: one.labels for one in planes if one.is_seed}
    assert np.array_equal(seeds[7], painted)
    order = [one.index for one in planes if not one.is_seed]
    assert order == [2, 3, 4, 8, 6, 5, 0]
    volume = propagate_volume(small, discs.image, {1: discs.labels[1], 7: painted})
    assert np.array_equal(volume[7], painted)


def test_objects_with_different_key_planes_do_not_overlap_where_they_meet(small: Model, discs: Discs) -> None:
    ones, twos = (np.where(discs.labels == label, label, 0) for label in (1, 2))
    planes = list(propagate(small, discs.image, {0: ones[0], 6: twos[6]}, config=PropagationConfig(first=0, last=6)))
    count = np.zeros((9, 64, 64), int)
    for one in planes:
        count[one.index] += one.labels > 0
    assert count.max() == 1
    assert {label for one in planes if one.index == 3 for label in one.objects} == {1, 2}


def test_finished_pixels_are_never_overwritten(small: Model, discs: Discs) -> None:
    finished = np.zeros_like(discs.labels)
    finished[5, :, :20] = 9
    planes = {one.index: one for one in propagate(small, discs.image, discs.labels[4], 4, finished=finished)}
    assert not (planes[5].labels[:, :20] > 0).any()
    assert (planes[5].labels == 1).any()


def test_objects_end_at_closed_planes(small: Model, discs: Discs) -> None:
    planes = list(propagate(small, discs.image, discs.labels[4], 4, PropagationConfig(direction="up"), closed=[6]))
    assert ended(planes) == {(6, 1): "closed", (6, 2): "closed"}
    assert [one.index for one in planes] == [4, 5, 6]


def test_a_stopped_propagation_resumes_where_it_was(small: Model, discs: Discs) -> None:
    prompts = Prompts(boxes=[[9, 11, 28, 30], [38, 32, 55, 49]])
    whole = list(propagate(small, discs.image, prompts, 4))
    for stop in range(1, len(whole)):
        stack = Counted(discs.image)
        rest = list(propagate(small, stack, prompts, 4, state=whole[stop - 1].state))
        assert [one.index for one in rest] == [one.index for one in whole[stop:]]
        for one, other in zip(rest, whole[stop:], strict=True):
            assert np.array_equal(one.labels, other.labels)


def test_planes_are_read_one_by_one_when_they_are_needed(small: Model, discs: Discs) -> None:
    stack = Counted(discs.image)
    planes = propagate(small, stack, discs.labels[4], 4)
    next(planes)
    assert set(stack.read) <= {4}
    next(planes)
    assert set(stack.read) <= {4, 5}


def test_the_state_does_not_grow_with_the_number_of_planes(small: Model) -> None:
    sizes = []
    for count in (3, 12):
        long = draw_discs(count)
        last = list(propagate(small, Counted(long.image), np.where(long.labels[0] == 1, 1, 0), 0))[-1]
        assert last.index == count - 1
        sizes.append((len(last.state.objects), len(last.state.occupancy.planes), len(last.state.seeded)))
    assert sizes[0] == sizes[1] == (1, 0, 0)


def test_objects_end_with_the_reason_of_the_rule(small: Model, discs: Discs) -> None:
    # Discs that move, in much noise: no mask is as good as it can be, or as it was in the plane before.
    moving = np.stack([np.roll(plane, 2 * (index - 4), 0) for index, plane in enumerate(discs.image)])
    noise = np.random.default_rng(0).normal(0, 90, moving.shape)
    noisy = np.clip(moving + noise, 0, 255).astype(np.uint8)
    for config, reason in (
        (PropagationConfig(min_score=1.0), "score"),
        (PropagationConfig(min_score=0.0, smallest=4000), "size"),
        (PropagationConfig(min_score=0.0, min_overlap=1.0), "overlap"),
    ):
        planes = list(propagate(small, noisy, discs.labels[4], 4, config))
        assert set(ended(planes).values()) == {reason}
        assert [one.index for one in planes] == [4, 5, 3]


def test_contrast_is_measured_in_the_channel_that_the_model_sees(discs: Discs) -> None:
    other = np.where(discs.labels[4] == 2, 190, 40).astype(np.uint8)
    both = np.stack([np.repeat(other[None], 9, 0), discs.image], axis=-1)
    config = PropagationConfig(min_score=0, min_overlap=0, max_growth=100, max_shrinkage=100, smallest=0)
    found = []
    for image, channel in ((discs.image, None), (both, 1)):
        model = load_model("sam_nano", device="cpu", preprocessing=Preprocessing(channel=channel), input_size=128)
        found.append(ended(list(propagate(model, image, discs.labels[4], 4, config))))
    assert found[0] == found[1]
    assert found[0][7, 2] == found[0][1, 2] == "contrast"


def test_seeds_that_do_not_fit_the_stack_are_refused(small: Model, discs: Discs) -> None:
    with raises(InputError, "seed-plane-missing", match="plane="):
        propagate(small, discs.image, discs.labels[4])
    with raises(InputError, "plane-outside-stack", match="plane 9"):
        propagate(small, discs.image, discs.labels[4], 9)
    with raises(InputError, "bounds-outside-stack", match="3 to 99"):
        propagate(small, discs.image, discs.labels[4], 4, PropagationConfig(first=3, last=99))
    with raises(InputError, "no-seed-within-bounds"):
        propagate(small, discs.image, discs.labels[4], 4, PropagationConfig(last=3))
    with raises(InputError, "nothing-to-propagate"):
        list(propagate(small, discs.image, discs.labels[4], 4, ids=[7]))
    with raises(InputError, "labels-do-not-fit", match="Plane 4"):
        list(propagate(small, discs.image, np.zeros((3, 3), int), 4))


@pytest.mark.parametrize(
    ("settings", "error_code"),
    [
        ({"direction": "left"}, "setting-not-among-choices"),
        ({"projection": "circle"}, "setting-not-among-choices"),
        ({"first": 3, "last": 2}, "first-plane-after-last"),
        ({"padding": -1.0}, "padding-out-of-range"),
        ({"min_overlap": 1.5}, "min_overlap-out-of-range"),
        ({"max_growth": 0.5}, "max_growth-out-of-range"),
        ({"smallest": -1}, "smallest-out-of-range"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], error_code: str) -> None:
    with raises(InputError, error_code):
        PropagationConfig(**settings)


def test_a_dask_stack_is_followed_like_an_array(small: Model, discs: Discs) -> None:
    dask = pytest.importorskip("dask.array", reason="dask is not installed")
    stack = dask.from_array(discs.image, chunks=(1, 64, 64))
    config = PropagationConfig(direction="up", last=6)
    lazy = propagate_volume(small, stack, discs.labels[4], 4, config)
    assert np.array_equal(lazy, propagate_volume(small, discs.image, discs.labels[4], 4, config))

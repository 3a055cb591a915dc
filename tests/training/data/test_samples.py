"""Snapshots of labelled planes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from error_codes import raises

from napari_sam_lora import Preprocessing, Prompts
from napari_sam_lora.errors import InputError, TrainingError
from napari_sam_lora.training.data.samples import snapshot, unused_labels
from napari_sam_lora.training.data.split import list_objects

from ..squares import GRID, make_pair, make_planes


def test_a_snapshot_does_not_follow_its_inputs() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (128, 128, 3), np.uint8)
    labels = np.zeros((128, 128), np.int64)
    labels[10:30, 10:30] = 1
    (plane,) = make_planes((image, labels))
    copies = image.copy(), labels.copy()
    image[:] = 0
    labels[:] = 5
    assert np.array_equal(plane.prepared.pixels, copies[0])
    assert np.array_equal(plane.labels, copies[1])
    assert np.array_equal(plane.resized_labels, copies[1])
    assert [found.label for found in plane.objects] == [1]


@pytest.mark.parametrize(
    ("shape", "kept"),
    # seven and eight pixels where the plane is not resized; at half size 4 x 4 pixels become 4 and 6 x 6 become 9
    [((128, 128), {(1, 7): False, (2, 4): True}), ((256, 256), {(4, 4): False, (6, 6): True})],
)
def test_objects_of_less_than_two_mask_pixels_are_left_out(
    shape: tuple[int, int], kept: dict[tuple[int, int], bool]
) -> None:
    labels = np.zeros(shape, np.int64)
    for number, (height, width) in enumerate(kept, start=1):
        labels[20 * number : 20 * number + height, 20 : 20 + width] = number
    (plane,) = snapshot([(np.zeros(shape), labels)], 128, 2, Preprocessing())
    assert [found.label for found in plane.objects] == [
        number for number, is_kept in enumerate(kept.values(), start=1) if is_kept
    ]
    assert np.array_equal(plane.labels, labels)  # but they are no background


def test_labels_are_resized_with_the_plane() -> None:
    labels = np.zeros((64, 128), np.uint16)
    labels[16:32, 32:64] = 40000
    (plane,) = snapshot([(np.zeros((64, 128)), labels)], 256, 2, Preprocessing())
    expected = np.zeros((128, 256), np.int64)
    expected[32:64, 64:128] = 40000
    assert np.array_equal(plane.resized_labels, expected)
    assert plane.objects[0].box == (16, 32, 32, 64)


def test_large_ids_stay_apart() -> None:
    labels = np.zeros((128, 128), np.uint64)
    labels[10:20, 10:20] = 1
    labels[40:50, 40:50] = 2**32 + 1
    (plane,) = snapshot([(np.zeros((128, 128)), labels)], 128, 2, Preprocessing())
    assert [found.label for found in plane.objects] == [1, 2**32 + 1]


def test_no_image_is_refused() -> None:
    with raises(TrainingError, "no-images"):
        make_planes()


def test_labels_without_a_large_object_are_refused() -> None:
    with raises(TrainingError, "no-objects"):
        make_planes(make_pair(0, []), make_pair(1, [(5, 5)], side=2))


def test_labels_of_another_shape_are_refused_with_the_number_of_the_image() -> None:
    image, labels = make_pair(0, GRID)
    with raises(InputError, "labels-do-not-fit", match=r"Image 1: .*\(128, 127\)"):
        make_planes((image, labels), (image, labels[:, :-1]))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, ">u2"])
def test_ids_one_to_three_survive(dtype: str) -> None:
    image, labels = make_pair(0, GRID[:3])
    (plane,) = snapshot([(image, labels.astype(dtype))], 128, 2, Preprocessing())
    assert [found.label for found in plane.objects] == [1, 2, 3]
    assert np.unique(plane.resized_labels).tolist() == [0, 1, 2, 3]


def test_classes_are_split_into_their_parts() -> None:
    image, labels = make_pair(0, GRID[:6])
    semantic = np.where(labels > 0, 1 + labels % 2, 0)
    (plane,) = snapshot([(image, semantic)], 128, 2, Preprocessing(), "classes")
    assert len(plane.objects) == 6
    assert sorted(plane.classes.values()) == [1, 1, 1, 2, 2, 2]
    for found in plane.objects:
        y, x = (int(value) for value in found.centre)
        assert plane.classes[found.label] == semantic[y, x]


def test_a_mask_is_one_object_of_its_image() -> None:
    planes = snapshot([make_pair(seed, GRID[:6]) for seed in range(2)], 128, 2, Preprocessing(), "mask")
    assert [[found.label for found in plane.objects] for plane in planes] == [[1], [1]]
    assert planes[0].objects[0].area == 6 * 64
    assert [ref.label for ref in list_objects(planes)] == [1, 1]


def test_what_is_left_out_is_said() -> None:
    image, labels = make_pair(2, GRID[:2])
    labels[100, 100] = 9
    planes = make_planes(make_pair(0, GRID), make_pair(1, []), (image, labels))
    empty, small = unused_labels(planes)
    assert (empty.code, small.code) == ("image-without-objects", "objects-too-small")
    assert "Image 1" in empty
    assert small.startswith("1 object ")
    assert unused_labels(make_planes(make_pair(0, GRID))) == ()


BOX = Prompts(boxes=[[4, 4, 12, 12]])


def test_prompts_of_the_user_are_kept_without_logits() -> None:
    drawn = np.zeros((1, 128, 128), bool)
    drawn[:, 4:12, 4:12] = True
    logits = np.zeros((1, 64, 64), np.float32)
    given = {
        1: Prompts(boxes=[None], points=[[[8, 8]]], masks=logits),
        2: Prompts(masks=logits),
        3: Prompts(masks=drawn),
    }
    image, labels = make_pair(0, GRID)
    (plane,) = snapshot([(image, labels, given)], 128, 2, Preprocessing())
    assert sorted(plane.prompts) == [1, 3]
    assert plane.prompts[1].is_lone_point(0)
    assert plane.prompts[3].masks is not None


@pytest.mark.parametrize(
    ("given", "code", "named"),
    [
        ({1: Prompts(boxes=[[4, 4, 12, 12]] * 2)}, "prompts-not-one-row", "Image 0: .*object 1 .* 2"),
        ({2: Prompts(masks=np.ones((1, 5, 5), bool))}, "mask-prompt-does-not-fit", r"Image 0: .*object 2 .*\(5, 5\)"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(given: dict[int, Prompts], code: str, named: str) -> None:
    with raises(InputError, code, match=named):
        snapshot([(*make_pair(0, GRID), given)], 128, 2, Preprocessing())


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (({}, "stack"), "not-a-stack-position"),
        (([1, 2],), "not-a-training-pair"),
        (({}, None, 3), "bad-background"),
        (({}, None, True, 3), "not-a-training-pair"),
    ],
)
def test_what_is_no_pair_is_refused(more: Any, code: str) -> None:
    with raises(InputError, code, match="Image 0: "):
        snapshot([(*make_pair(0, GRID), *more)], 128, 2, Preprocessing())
    with raises(InputError, "not-a-training-pair", match="Image 0: "):
        snapshot([(make_pair(0, GRID)[0],)], 128, 2, Preprocessing())  # type: ignore[list-item]


def test_prompts_and_position_may_be_none() -> None:
    (plane,) = snapshot([(*make_pair(0, GRID), None, None)], 128, 2, Preprocessing())  # type: ignore[list-item]
    assert plane.prompts == {}
    assert plane.position is None


def test_prompts_by_object_need_instances() -> None:
    with raises(InputError, "prompts-need-instances"):
        snapshot([(*make_pair(0, GRID), {1: BOX})], 128, 2, Preprocessing(), "classes")

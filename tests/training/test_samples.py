"""Snapshots of labelled planes, and a split that stays as it is when labels are added."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam_lora import Preprocessing, Prompts
from napari_sam_lora.errors import InputError, TrainingError
from napari_sam_lora.training.samples import (
    ObjectRef,
    Plane,
    Split,
    cross_validation,
    list_objects,
    remarks,
    snapshot,
    split_objects,
)

Pair = tuple[NDArray[np.uint8], NDArray[np.int64]]


def _pair(seed: int, corners: Iterable[tuple[int, int]], side: int = 8) -> Pair:
    """A noise image (128, 128) and square objects, numbered from 1."""
    image = np.random.default_rng(seed).integers(0, 256, (128, 128), np.uint8)
    labels = np.zeros((128, 128), np.int64)
    for number, (y, x) in enumerate(corners, start=1):
        labels[y : y + side, x : x + side] = number
    return image, labels


def _planes(*pairs: Pair, size: int = 128) -> tuple[Plane, ...]:
    return snapshot(pairs, size, 2, Preprocessing())


GRID = [(y, x) for y in range(4, 128, 32) for x in range(4, 128, 32)]  # one in each of 4 x 4 parts


def _names(refs: Iterable[ObjectRef]) -> set[tuple[int, int]]:
    return {(ref.plane, ref.label) for ref in refs}


def test_a_snapshot_does_not_follow_its_inputs() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (128, 128, 3), np.uint8)
    labels = np.zeros((128, 128), np.int64)
    labels[10:30, 10:30] = 1
    (plane,) = _planes((image, labels))
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
    with pytest.raises(TrainingError, match="no image"):
        _planes()


def test_labels_without_a_large_object_are_refused() -> None:
    with pytest.raises(TrainingError, match="no object that is large enough"):
        _planes(_pair(0, []), _pair(1, [(5, 5)], side=2))


def test_labels_of_another_shape_are_refused_with_the_number_of_the_image() -> None:
    image, labels = _pair(0, GRID)
    with pytest.raises(InputError, match=r"Image 1: .*\(128, 127\)"):
        _planes((image, labels), (image, labels[:, :-1]))


def test_several_images_are_held_out_whole() -> None:
    planes = _planes(*(_pair(seed, GRID) for seed in range(4)))
    split = split_objects(list_objects(planes), 0.25)
    held = {ref.plane for ref in split.test}
    assert len(held) == 1
    assert {ref.plane for ref in split.train} == {0, 1, 2, 3} - held
    assert len(split.test) == 16
    assert len(split.train) == 48


@pytest.mark.parametrize("crowded", range(4))
def test_an_image_with_most_of_the_objects_is_trained_on(crowded: int) -> None:
    planes = _planes(*(_pair(seed, GRID if seed == crowded else GRID[:2]) for seed in range(4)))
    split = split_objects(list_objects(planes), 0.25)
    assert crowded in {ref.plane for ref in split.train}
    assert 0 < len(split.test) <= 6


def test_no_more_than_the_share_of_the_images_is_held_out_if_they_have_objects_enough() -> None:
    for crowded in range(4):
        planes = _planes(*(_pair(seed, GRID if seed == crowded else GRID[:5]) for seed in range(4)))
        split = split_objects(list_objects(planes), 0.25)
        assert len({ref.plane for ref in split.test}) == 1
        assert len(split.test) == 5


def test_of_two_uneven_images_the_smaller_one_is_held_out() -> None:
    for crowded in (0, 1):
        planes = _planes(*(_pair(seed, GRID if seed == crowded else GRID[:2]) for seed in range(2)))
        split = split_objects(list_objects(planes), 0.05)
        assert {ref.plane for ref in split.test} == {1 - crowded}


def test_images_without_objects_do_not_make_a_lone_image_several() -> None:
    planes = _planes(_pair(0, GRID), _pair(1, []))
    split = split_objects(list_objects(planes), 0.25)
    assert len(split.test) == 4
    assert {ref.plane for ref in split.train} == {0}


def test_a_lone_image_is_split_by_space() -> None:
    # four objects in each block of 32 x 32 pixels
    corners = [(y + dy, x + dx) for y, x in GRID for dy in (0, 14) for dx in (0, 14)]
    planes = _planes(_pair(0, corners))
    split = split_objects(list_objects(planes), 0.25)
    where = {found.label: tuple(int(c // 32) for c in found.centre) for found in planes[0].objects}
    held, trained = ({where[ref.label] for ref in part} for part in (split.test, split.train))
    assert len(planes[0].objects) == 64
    assert not held & trained
    assert len(held) == 4
    assert len(split.test) == 16


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 0.75, 0.99])
@pytest.mark.parametrize("images", [1, 3])
def test_a_split_takes_each_object_once_and_leaves_something_to_train(share: float, images: int) -> None:
    objects = list_objects(_planes(*(_pair(seed, GRID) for seed in range(images))))
    split = split_objects(objects, share)
    assert _names(split.train) | _names(split.test) == _names(objects)
    assert len(split.train) + len(split.test) == len(objects)
    assert split.train
    assert split.test
    largest_unit = 16 if images > 1 else 1
    assert len(split.test) < share * len(objects) + largest_unit


def test_a_lone_object_is_trained_on() -> None:
    objects = list_objects(_planes(_pair(0, [(50, 50)])))
    split = split_objects(objects, 0.9)
    assert split == Split(objects, (), ())


def test_a_share_of_zero_holds_nothing_out() -> None:
    objects = list_objects(_planes(_pair(0, GRID), _pair(1, GRID)))
    assert split_objects(objects, 0.0) == Split(objects, (), ())


def test_units_held_out_before_are_left_to_train_if_there_is_nothing_else() -> None:
    objects = list_objects(_planes(_pair(0, GRID), _pair(1, GRID)))
    units = sorted({ref.unit for ref in objects})
    split = split_objects(objects, 0.25, units)
    assert len(split.train) == 16


def test_the_split_does_not_depend_on_the_order_of_the_images() -> None:
    pairs = [_pair(seed, GRID) for seed in range(5)]
    held = []
    for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2]):
        split = split_objects(list_objects(_planes(*(pairs[index] for index in order))), 0.4)
        held.append({order[ref.plane] for ref in split.test})
    assert held[0] == held[1]


@pytest.mark.parametrize("first", range(6))
def test_an_object_stays_held_out_when_labels_are_added(first: int) -> None:
    before = split_objects(list_objects(_planes(_pair(first, GRID[::2]))), 0.25)
    image, labels = _pair(first, GRID[::2])
    for number, (y, x) in enumerate(GRID[1::2], start=9):
        labels[y : y + 8, x : x + 8] = number
    after = split_objects(list_objects(_planes((image, labels))), 0.25, before.held_out)
    assert _names(before.test) <= _names(after.test)
    assert after.train


@pytest.mark.parametrize("first", range(6))
def test_an_image_stays_held_out_when_images_are_added(first: int) -> None:
    pairs = [_pair(seed, GRID) for seed in range(first, first + 3)]
    before = split_objects(list_objects(_planes(*pairs)), 0.25)
    more = [*pairs, *(_pair(seed, GRID) for seed in range(100, 105))]
    after = split_objects(list_objects(_planes(*more)), 0.25, before.held_out)
    assert _names(before.test) <= _names(after.test)
    assert set(before.held_out) <= set(after.held_out)


@pytest.mark.parametrize("first", range(6))
def test_what_was_held_out_of_a_lone_image_stays_so_among_several(first: int) -> None:
    before = split_objects(list_objects(_planes(_pair(first, GRID))), 0.25)
    several = [_pair(first, GRID), *(_pair(seed, GRID) for seed in range(100, 103))]
    after = split_objects(list_objects(_planes(*several), before.held_out), 0.25, before.held_out)
    assert _names(before.test) <= _names(after.test)
    # and the rest of it is still learned from
    assert any(ref.plane == 0 for ref in after.train)


@pytest.mark.parametrize("count", [3, 4, 7, 16])
@pytest.mark.parametrize("images", [1, 2, 4])
def test_cross_validation_holds_each_object_out_once(count: int, images: int) -> None:
    objects = list_objects(_planes(*(_pair(seed, GRID[:count]) for seed in range(images))))
    splits = cross_validation(objects)
    assert len(splits) == 3
    tested = [ref for split in splits for ref in split.test]
    assert sorted(tested, key=lambda ref: (ref.plane, ref.label)) == list(objects)
    for split in splits:
        assert split.test
        assert split.train
        assert _names(split.train) == _names(objects) - _names(split.test)


def test_cross_validation_keeps_images_whole_where_there_are_enough() -> None:
    objects = list_objects(_planes(*(_pair(seed, GRID[:4]) for seed in range(3))))
    assert all(len({ref.plane for ref in split.test}) == 1 for split in cross_validation(objects))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, ">u2"])
def test_ids_one_to_three_survive(dtype: str) -> None:
    image, labels = _pair(0, GRID[:3])
    (plane,) = snapshot([(image, labels.astype(dtype))], 128, 2, Preprocessing())
    assert [found.label for found in plane.objects] == [1, 2, 3]
    assert np.unique(plane.resized_labels).tolist() == [0, 1, 2, 3]


def test_classes_are_split_into_their_parts() -> None:
    image, labels = _pair(0, GRID[:6])
    semantic = np.where(labels > 0, 1 + labels % 2, 0)
    (plane,) = snapshot([(image, semantic)], 128, 2, Preprocessing(), "classes")
    assert len(plane.objects) == 6
    assert sorted(plane.classes.values()) == [1, 1, 1, 2, 2, 2]
    for found in plane.objects:
        y, x = (int(value) for value in found.centre)
        assert plane.classes[found.label] == semantic[y, x]


def test_a_mask_is_one_object_of_its_image() -> None:
    planes = snapshot([_pair(seed, GRID[:6]) for seed in range(2)], 128, 2, Preprocessing(), "mask")
    assert [[found.label for found in plane.objects] for plane in planes] == [[1], [1]]
    assert planes[0].objects[0].area == 6 * 64
    assert [ref.label for ref in list_objects(planes)] == [1, 1]


def test_what_is_left_out_is_said() -> None:
    image, labels = _pair(2, GRID[:2])
    labels[100, 100] = 9
    planes = _planes(_pair(0, GRID), _pair(1, []), (image, labels))
    empty, small = remarks(planes)
    assert "Image 1" in empty
    assert small.startswith("1 object is too small")
    assert remarks(_planes(_pair(0, GRID))) == ()


def test_the_split_does_not_follow_the_intensity_window_or_the_input_size() -> None:
    pair = _pair(0, GRID)
    splits = [
        split_objects(list_objects(snapshot([pair], size, 2, preprocessing)), 0.25)
        for size, preprocessing in ((128, Preprocessing()), (128, Preprocessing((0, 100))), (256, Preprocessing()))
    ]
    assert splits[0] == splits[1] == splits[2]


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
    image, labels = _pair(0, GRID)
    (plane,) = snapshot([(image, labels, given)], 128, 2, Preprocessing())
    assert sorted(plane.prompts) == [1, 3]
    assert plane.prompts[1].is_lone_point(0)
    assert plane.prompts[3].masks is not None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({1: Prompts(boxes=[[4, 4, 12, 12]] * 2)}, "Image 0: .*object 1 must be one row, not 2"),
        ({2: Prompts(masks=np.ones((1, 5, 5), bool))}, r"Image 0: .*object 2 is \(5, 5\)"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(given: dict[int, Prompts], message: str) -> None:
    with pytest.raises(InputError, match=message):
        snapshot([(*_pair(0, GRID), given)], 128, 2, Preprocessing())


def test_prompts_by_object_need_instances() -> None:
    with pytest.raises(InputError, match="instances"):
        snapshot([(*_pair(0, GRID), {1: BOX})], 128, 2, Preprocessing(), "classes")


def test_what_was_held_out_is_remembered_while_its_image_is_away() -> None:
    pairs = [_pair(seed, GRID) for seed in range(3)]
    first = split_objects(list_objects(_planes(*pairs)), 0.25)
    (away,) = {ref.plane for ref in first.test}
    others = _planes(*(pair for index, pair in enumerate(pairs) if index != away))
    second = split_objects(list_objects(others, first.held_out), 0.25, first.held_out)
    third = split_objects(list_objects(_planes(*pairs), second.held_out), 0.25, second.held_out)
    assert _names(first.test) <= _names(third.test)

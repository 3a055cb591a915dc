"""Test the held-out units: whole images or stacks or parts of a lone one, and the same when labels are added."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from error_codes import raises

from napari_sam_lora import Preprocessing
from napari_sam_lora.errors import InputError
from napari_sam_lora.images import StackPosition
from napari_sam_lora.training.data.leakage import MAX_PLANES_AWAY, drop_leaking_objects
from napari_sam_lora.training.data.samples import Labelled, ObjectRef, Plane, snapshot
from napari_sam_lora.training.data.split import (
    DEPTH,
    Plan,
    Split,
    cross_validation,
    list_objects,
    plan_folds,
    split_objects,
)

from ..squares import GRID, make_pair, make_planes, names


def test_several_images_are_held_out_whole() -> None:
    planes = make_planes(*(make_pair(seed, GRID) for seed in range(4)))
    split = split_objects(list_objects(planes), 0.25)
    held = {ref.plane for ref in split.test}
    assert len(held) == 1
    assert {ref.plane for ref in split.train} == {0, 1, 2, 3} - held
    assert len(split.test) == 16
    assert len(split.train) == 48


@pytest.mark.parametrize("crowded", range(4))
def test_an_image_with_most_of_the_objects_is_trained_on(crowded: int) -> None:
    planes = make_planes(*(make_pair(seed, GRID if seed == crowded else GRID[:2]) for seed in range(4)))
    split = split_objects(list_objects(planes), 0.25)
    assert crowded in {ref.plane for ref in split.train}
    assert 0 < len(split.test) <= 6


def test_no_more_than_the_share_of_the_images_is_held_out_if_they_have_objects_enough() -> None:
    for crowded in range(4):
        planes = make_planes(*(make_pair(seed, GRID if seed == crowded else GRID[:5]) for seed in range(4)))
        split = split_objects(list_objects(planes), 0.25)
        assert len({ref.plane for ref in split.test}) == 1
        assert len(split.test) == 5


def test_of_uneven_images_the_smallest_one_is_held_out() -> None:
    for small in range(4):
        planes = make_planes(*(make_pair(seed, GRID[:2] if seed == small else GRID) for seed in range(4)))
        split = split_objects(list_objects(planes), 0.01)
        assert {ref.plane for ref in split.test} == {small}


@pytest.mark.parametrize("images", [2, 3])
def test_of_few_images_parts_of_each_are_held_out(images: int) -> None:
    planes = make_planes(*(make_pair(seed, GRID) for seed in range(images)))
    split = split_objects(list_objects(planes), 0.25)
    assert {ref.plane for ref in split.train} == set(range(images))
    assert len(split.test) == 4 * images
    assert len({ref.unit for ref in split.test}) == 4 * images


def test_an_image_that_was_held_out_whole_stays_so_among_few() -> None:
    """Three of four images are left; the held-out one is among them."""
    planes = make_planes(*(make_pair(seed, GRID) for seed in range(4)))
    before = split_objects(list_objects(planes), 0.25)
    (held,) = {ref.plane for ref in before.test}
    few = [held, *(number for number in range(4) if number != held)][:3]
    left = make_planes(*(make_pair(seed, GRID) for seed in few))
    after = split_objects(list_objects(left, before.held_out), 0.25, before.held_out)
    assert {ref.plane for ref in after.test} == {0}
    assert names(after.train) == {(plane, label) for plane in (1, 2) for label in range(1, 17)}


def test_images_without_objects_do_not_make_a_lone_image_several() -> None:
    planes = make_planes(make_pair(0, GRID), make_pair(1, []))
    split = split_objects(list_objects(planes), 0.25)
    assert len(split.test) == 4
    assert {ref.plane for ref in split.train} == {0}


def test_a_lone_image_is_split_by_space() -> None:
    # four objects in each block of 32 x 32 pixels
    corners = [(y + dy, x + dx) for y, x in GRID for dy in (0, 14) for dx in (0, 14)]
    planes = make_planes(make_pair(0, corners))
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
    objects = list_objects(make_planes(*(make_pair(seed, GRID) for seed in range(images))))
    split = split_objects(objects, share)
    assert names(split.train) | names(split.test) == names(objects)
    assert len(split.train) + len(split.test) == len(objects)
    assert split.train
    assert split.test
    largest_unit = 16 if images > 1 else 1
    assert len(split.test) < share * len(objects) + largest_unit


def test_a_lone_object_is_trained_on() -> None:
    objects = list_objects(make_planes(make_pair(0, [(50, 50)])))
    split = split_objects(objects, 0.9)
    assert split == Split(objects, (), ())


def test_a_share_of_zero_holds_nothing_out() -> None:
    objects = list_objects(make_planes(make_pair(0, GRID), make_pair(1, GRID)))
    assert split_objects(objects, 0.0) == Split(objects, (), ())


def test_units_held_out_before_are_left_to_train_if_there_is_nothing_else() -> None:
    objects = list_objects(make_planes(*(make_pair(seed, GRID) for seed in range(4))))
    units = sorted({ref.unit for ref in objects})
    split = split_objects(objects, 0.25, units)
    assert len(split.train) == 16


def test_the_split_does_not_depend_on_the_order_of_the_images() -> None:
    pairs = [make_pair(seed, GRID) for seed in range(5)]
    held = []
    for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2]):
        split = split_objects(list_objects(make_planes(*(pairs[index] for index in order))), 0.4)
        held.append({order[ref.plane] for ref in split.test})
    assert held[0] == held[1]


@pytest.mark.parametrize("first", range(6))
def test_an_object_stays_held_out_when_labels_are_added(first: int) -> None:
    before = split_objects(list_objects(make_planes(make_pair(first, GRID[::2]))), 0.25)
    image, labels = make_pair(first, GRID[::2])
    for number, (y, x) in enumerate(GRID[1::2], start=9):
        labels[y : y + 8, x : x + 8] = number
    after = split_objects(list_objects(make_planes((image, labels))), 0.25, before.held_out)
    assert names(before.test) <= names(after.test)
    assert after.train


@pytest.mark.parametrize("first", range(6))
def test_an_image_stays_held_out_when_images_are_added(first: int) -> None:
    pairs = [make_pair(seed, GRID) for seed in range(first, first + 3)]
    before = split_objects(list_objects(make_planes(*pairs)), 0.25)
    more = [*pairs, *(make_pair(seed, GRID) for seed in range(100, 105))]
    after = split_objects(list_objects(make_planes(*more), before.held_out), 0.25, before.held_out)
    assert names(before.test) <= names(after.test)
    assert set(before.held_out) <= set(after.held_out)


@pytest.mark.parametrize("first", range(6))
def test_what_was_held_out_of_a_lone_image_stays_so_among_several(first: int) -> None:
    before = split_objects(list_objects(make_planes(make_pair(first, GRID))), 0.25)
    several = [make_pair(first, GRID), *(make_pair(seed, GRID) for seed in range(100, 103))]
    after = split_objects(list_objects(make_planes(*several), before.held_out), 0.25, before.held_out)
    assert names(before.test) <= names(after.test)
    # and the rest of it is still learned from
    assert any(ref.plane == 0 for ref in after.train)


@pytest.mark.parametrize("count", [3, 4, 7, 16])
@pytest.mark.parametrize("images", [1, 2, 4])
def test_cross_validation_holds_each_object_out_once(count: int, images: int) -> None:
    objects = list_objects(make_planes(*(make_pair(seed, GRID[:count]) for seed in range(images))))
    splits = cross_validation(objects)
    assert len(splits) == 3
    tested = [ref for split in splits for ref in split.test]
    assert sorted(tested, key=lambda ref: (ref.plane, ref.label)) == list(objects)
    for split in splits:
        assert split.test
        assert split.train
        assert names(split.train) == names(objects) - names(split.test)


def test_cross_validation_keeps_images_whole_where_there_are_enough() -> None:
    objects = list_objects(make_planes(*(make_pair(seed, GRID[:4]) for seed in range(6))))
    tested = [{ref.plane for ref in split.test} for split in cross_validation(objects)]
    assert sorted(plane for planes in tested for plane in planes) == [0, 1, 2, 3, 4, 5]


def _plan(counts: list[int], share: float = 0.25, resumed: bool = False) -> Plan:
    planes = make_planes(*(make_pair(seed, GRID[:count]) for seed, count in enumerate(counts)))
    objects = list_objects(planes)
    return plan_folds(objects, split_objects(objects, share, (), planes), share, planes, resumed)


def test_enough_held_out_objects_need_no_cross_validation() -> None:
    plan = _plan([16] * 6, 0.3)
    assert len(plan.main.test) == 32
    assert plan.folds == ()
    assert plan.fold_steps(100) == ()


def test_where_few_are_held_out_the_others_are_tested_in_two_folds() -> None:
    plan = _plan([10, 10, 10, 10])
    assert len(plan.main.test) == 10
    tested = [names(split.test) for split in (plan.main, *plan.folds)]
    assert len(tested) == 3
    assert set.union(*tested) == {(plane, label) for plane in range(4) for label in range(1, 11)}
    assert sum(map(len, tested)) == 40
    for fold in plan.folds:
        assert not {ref.plane for ref in fold.test} & {ref.plane for ref in fold.train}
        assert names(plan.main.test) <= names(fold.train), "what the adapter does not learn from, others may"
    # 30 objects are trained on; the folds have 20 and 30 of them
    assert sorted(plan.fold_steps(90)) == [60, 90]


def test_a_lone_image_is_cross_validated_by_area() -> None:
    plan = _plan([16], 0.5)
    assert len(plan.main.test) == 8
    assert [len(fold.test) for fold in plan.folds] == [4, 4]
    assert plan.fold_steps(8) == (8, 8), "twelve objects, but no more steps than the run itself"


def test_where_next_to_none_are_held_out_the_adapter_learns_from_all() -> None:
    plan = _plan([16])
    assert plan.main.test == ()
    assert len(plan.main.train) == 16
    assert [len(fold.test) for fold in plan.folds] == [6, 5, 5]
    assert plan.fold_steps(16) == (10, 11, 11)


def test_what_an_adapter_has_seen_does_not_test_its_successor() -> None:
    assert _plan([10, 10, 10, 10], resumed=True).folds == ()


def test_an_adapter_of_a_few_objects_does_not_stand_for_one_of_many() -> None:
    """Without the crowded image, six objects are left; the adapter itself learns from twenty."""
    planes = make_planes(*(make_pair(seed, GRID[:count]) for seed, count in enumerate([16, 5, 2, 2])))
    objects = list_objects(planes)
    plan = plan_folds(objects, split_objects(objects, 0.25, [planes[1].key]), 0.25)
    assert (len(plan.main.train), len(plan.main.test)) == (20, 5)
    (fold,) = plan.folds
    assert {ref.plane for ref in fold.test} == {2, 3}
    assert len(fold.train) == 21


def test_the_split_does_not_follow_the_intensity_window_or_the_input_size() -> None:
    pair = make_pair(0, GRID)
    splits = [
        split_objects(list_objects(snapshot([pair], size, 2, preprocessing)), 0.25)
        for size, preprocessing in ((128, Preprocessing()), (128, Preprocessing((0, 100))), (256, Preprocessing()))
    ]
    assert splits[0] == splits[1] == splits[2]


def test_what_was_held_out_is_remembered_while_its_image_is_away() -> None:
    pairs = [make_pair(seed, GRID) for seed in range(5)]
    first = split_objects(list_objects(make_planes(*pairs)), 0.25)
    (away,) = {ref.plane for ref in first.test}
    others = make_planes(*(pair for index, pair in enumerate(pairs) if index != away))
    second = split_objects(list_objects(others, first.held_out), 0.25, first.held_out)
    third = split_objects(list_objects(make_planes(*pairs), second.held_out), 0.25, second.held_out)
    assert names(first.test) <= names(third.test)


# Stacks


def _stack(
    depths: Iterable[int], corners: Iterable[tuple[int, int]] = GRID, side: int = 8, name: str = "a", first: int = 0
) -> tuple[Plane, ...]:
    """Planes of a stack at some depths, with the same objects on each."""
    return snapshot(
        [(*make_pair(first + z, corners, side), {}, StackPosition(name, (z,))) for z in depths],
        128,
        2,
        Preprocessing(),
    )


def _split(planes: tuple[Plane, ...], share: float = 0.25, held_out: Iterable[str] = ()) -> Split:
    earlier = tuple(held_out)
    return split_objects(list_objects(planes, earlier), share, earlier, planes)


def _depth(planes: tuple[Plane, ...], plane: int) -> int:
    position = planes[plane].position
    assert position is not None
    return position.index[-1]


def test_planes_of_a_stack_are_on_one_side_of_the_split() -> None:
    planes = _stack(range(4), name="a") + _stack(range(4), name="b", first=10) + _stack(range(3), name="c", first=20)
    split = _split(planes)
    held = {planes[ref.plane].position.stack for ref in split.test}  # type: ignore[union-attr]
    assert len(held) == 1
    assert not held & {planes[ref.plane].position.stack for ref in split.train}  # type: ignore[union-attr]
    assert split.leaking == 0
    assert len(split.train) + len(split.test) == 11 * 16


def test_an_image_beside_stacks_is_a_whole_of_its_own() -> None:
    planes = make_planes(make_pair(50, GRID)) + _stack(range(2)) + _stack(range(2), name="b", first=10)
    units = {ref.unit for ref in list_objects(planes)}
    assert len(units) == 3
    assert planes[0].key in units


def test_all_planes_of_a_lone_stack_have_the_same_regions_held_out() -> None:
    planes = _stack(range(5))
    split = _split(planes)
    held = [{ref.label for ref in split.test if ref.plane == plane} for plane in range(5)]
    assert held == [held[0]] * 5
    assert len(held[0]) == 4
    assert {ref.label for ref in split.train} == set(range(1, 17)) - held[0]


def test_an_object_that_reaches_out_of_a_held_out_region_on_another_plane_is_not_trained_on() -> None:
    """Its middle is in another region there, but its mask on the first plane tells a part of it."""
    regions = _split(_stack(range(1))).test
    held = {ref.label for ref in regions}
    label = next(label for label in sorted(held) if label % 4 != 0 and label + 1 not in held)
    y, x = GRID[label - 1]
    image, labels = make_pair(1, [])
    labels[y : y + 8, x : x + 60] = 77
    planes = _stack(range(1)) + snapshot([(image, labels, {}, StackPosition("a", (1,)))], 128, 2, Preprocessing())
    split = _split(planes)
    assert (0, label) in names(split.test)
    assert (1, 77) not in names(split.train) | names(split.test)
    (caution,) = split.cautions
    assert caution.code == "leaking-objects"
    assert caution.startswith("1 object ")


LARGE = [(20, 20)]


def test_layers_of_a_lone_stack_are_held_out_where_objects_are_large_and_planes_beside_them_are_not_trained_on() -> (
    None
):
    planes = _stack(range(6 * DEPTH), LARGE, side=60)
    split = _split(planes)
    held, trained = ({_depth(planes, ref.plane) for ref in part} for part in (split.test, split.train))
    assert len(held) == 2 * DEPTH
    assert len({depth // DEPTH for depth in held}) == 2
    assert min(abs(a - b) for a in held for b in trained) > MAX_PLANES_AWAY
    assert split.leaking == 6 * DEPTH - len(held) - len(trained) > 0


@pytest.mark.parametrize("side", [8, 60])
@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
def test_what_was_held_out_of_a_stack_stays_so_when_planes_are_labelled_or_stacks_added(side: int, name: str) -> None:
    corners = GRID if side == 8 else LARGE
    early = _stack(range(0, 40, 5), corners, side, name)
    before = _split(early)
    held = {(_depth(early, ref.plane), ref.label) for ref in before.test}
    assert held
    for more in (_stack(range(40), corners, side, name), early + _stack(range(9), GRID, name="new", first=90)):
        after = _split(more, held_out=before.held_out)
        still = {
            (_depth(more, ref.plane), ref.label)
            for ref in after.test
            if more[ref.plane].position.stack == name  # type: ignore[union-attr]
        }
        assert held <= still
        assert after.train


@pytest.mark.parametrize(("planes", "learned"), [(74, 46), (48, 28)])
@pytest.mark.parametrize("across", [0, 40])
def test_most_sections_of_one_structure_through_a_stack_are_trained_on(planes: int, learned: int, across: int) -> None:
    """One object a plane, which stays in one region or wanders through several: regions would lose nearly all."""
    stack = snapshot(
        [(*make_pair(z, [(56, 44 + across * z // planes)], 16), {}, StackPosition("a", (z,))) for z in range(planes)],
        128,
        2,
        Preprocessing(),
    )
    split = _split(stack)
    held, trained = ({_depth(stack, ref.plane) for ref in part} for part in (split.test, split.train))
    assert len(held) >= DEPTH
    assert len(trained) >= learned
    assert len(held) + len(trained) + split.leaking == planes
    assert min(abs(a - b) for a in held for b in trained) > MAX_PLANES_AWAY


def test_planes_of_one_object_that_look_alike_cannot_judge_each_other() -> None:
    planes = _stack(range(3), LARGE, side=60)
    objects = list_objects(planes)
    split = split_objects(objects, 0.25, (), planes)
    assert split == Split(objects, (), ())
    assert plan_folds(objects, split, 0.25, planes) == Plan(split)


def test_a_cross_validation_of_a_stack_trains_on_nothing_beside_what_is_held_out() -> None:
    planes = _stack(range(2), GRID[:2])
    objects = list_objects(planes)
    splits = cross_validation(objects, planes)
    assert splits
    for split in splits:
        assert not {ref.label for ref in split.train} & {ref.label for ref in split.test}


def test_planes_in_several_orientations_are_kept_apart_where_they_cross() -> None:
    """A cube around (64, 64, 64): from the front, from the side, and a plane far away from it."""
    places = (StackPosition("a", (60,), (1, 2)), StackPosition("a", (60,), (0, 1)), StackPosition("a", (4,), (0, 1)))
    pairs: list[Labelled] = [(*make_pair(number, [(56, 56)], 16), {}, place) for number, place in enumerate(places)]
    planes = snapshot(pairs, 128, 2, Preprocessing())
    front, side, far = (ObjectRef(number, 1, "unit") for number in range(3))
    assert drop_leaking_objects([side, far], [front], planes) == (far,)
    assert drop_leaking_objects([front], [far], planes) == (front,)


def test_crops_of_a_plane_are_split_in_the_parts_of_the_whole_plane() -> None:
    """Whatever crops are chosen, an object is in the same part."""
    _, labels = make_pair(0, GRID)
    image = np.random.default_rng(0).integers(0, 256, (128, 128), np.uint8)

    def crops(size: int) -> tuple[Plane, ...]:
        places = [(y, x) for y in range(0, 128, size) for x in range(0, 128, size)]
        return snapshot(
            [
                (
                    image[y : y + size, x : x + size],
                    labels[y : y + size, x : x + size],
                    {},
                    StackPosition("plane", corner=(y, x), plane_shape=(128, 128)),
                )
                for y, x in places
            ],
            size,
            2,
            Preprocessing(),
        )

    held = [{ref.label for ref in _split(crops(size)).test} for size in (32, 64, 128)]
    assert held[0] == held[1] == held[2]
    assert len(held[0]) == 4


@pytest.mark.parametrize("axes", [(0, 0), (1, 3), (-1, 0)])
def test_a_position_that_is_no_plane_is_refused(axes: tuple[int, int]) -> None:
    with raises(InputError, "invalid-stack-position"):
        StackPosition("a", (3,), axes)


def test_the_extent_of_a_box_follows_the_orientation_and_the_corner_of_a_crop() -> None:
    box = (1, 2, 5, 7)
    assert StackPosition("a", (30,)).extent(box) == ((30, 31), (1, 5), (2, 7))
    assert StackPosition("a", (30,), (2, 0)).extent(box) == ((2, 7), (30, 31), (1, 5))
    assert StackPosition("a", (4, 9), corner=(10, 20)).extent(box) == ((4, 5), (9, 10), (11, 15), (22, 27))

"""Commits and edits of a label image: nothing finished is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.regions import Region
from napari_sam_lora.session import (
    ArrayStore,
    CommitPolicy,
    LabelSet,
    ObjectClass,
    PlaneKey,
    Proposal,
    ProposedChange,
)
from napari_sam_lora.session.labels.records import ObjectRecord

from ..helpers import make_preview, rectangle

SHAPE = (20, 30)
PLANE = PlaneKey.of("image", 2)
CELL, DEBRIS = ObjectClass(1, "cell", (1, 0, 0)), ObjectClass(2, "debris", (0, 1, 0))


@pytest.fixture
def labels() -> LabelSet:
    return LabelSet(ArrayStore(np.zeros(SHAPE, np.int32)), [CELL, DEBRIS])


def _pixels(labels: LabelSet) -> NDArray[np.integer[Any]]:
    return labels.store.read(PLANE)


def _commit(labels: LabelSet, *boxes: tuple[int, int, int, int], policy: CommitPolicy | None = None):  # type: ignore[no-untyped-def]
    return labels.commit(make_preview(np.stack([rectangle(SHAPE, *box) for box in boxes])), policy)


def test_a_commit_makes_an_object_with_the_next_id_and_keeps_its_prompts(labels: LabelSet) -> None:
    result = _commit(labels, (2, 3, 6, 8))
    assert (result.ids, result.pixels, result.kept_out) == ((1,), 20, 0)
    assert np.array_equal(_pixels(labels), rectangle(SHAPE, 2, 3, 6, 8))
    (record,) = labels.records()
    assert (record.id, record.origin, record.approved) == (1, "prompted", False)
    assert record.score == pytest.approx(0.9)
    assert [stored.row[0].kind for stored in record.prompts[PLANE]] == ["mask"]
    assert _commit(labels, (10, 3, 12, 8)).ids == (2,)


def test_finished_objects_keep_their_pixels(labels: LabelSet) -> None:
    _commit(labels, (2, 3, 6, 8))
    result = _commit(labels, (4, 3, 10, 8))
    assert (result.ids, result.pixels, result.kept_out) == ((2,), 20, 10)
    assert result.code == "added"
    assert "10 pixels" in result.message
    assert (_pixels(labels) == 1).sum() == 20


def test_objects_are_overwritten_only_when_asked_to(labels: LabelSet) -> None:
    _commit(labels, (2, 3, 6, 8))
    result = _commit(labels, (4, 3, 10, 8), policy=CommitPolicy(overwrite=True))
    assert (result.pixels, result.kept_out) == (30, 0)
    assert (_pixels(labels) == 1).sum() == 10


def test_a_model_is_never_surer_than_sure(labels: LabelSet) -> None:
    labels.commit(make_preview(rectangle(SHAPE, 0, 0, 4, 4)[None], scores=(1.03,)))
    (record,) = labels.records()
    assert record.score == 1.0


def test_overlapping_masks_of_a_batch_go_to_the_better_one(labels: LabelSet) -> None:
    masks = np.stack([rectangle(SHAPE, 0, 0, 4, 4), rectangle(SHAPE, 2, 0, 6, 4)])
    labels.commit(make_preview(masks, scores=(0.5, 0.8)))
    assert [(_pixels(labels) == label).sum() for label in (1, 2)] == [8, 16]


@pytest.mark.parametrize(("box", "code"), [((0, 0, 0, 0), "mask-empty"), ((3, 4, 5, 6), "no-free-pixels")])
def test_a_commit_without_free_pixels_changes_nothing_and_says_why(
    labels: LabelSet, box: tuple[int, int, int, int], code: str
) -> None:
    _commit(labels, (2, 3, 6, 8))
    before, number = _pixels(labels), labels.last_done
    result = _commit(labels, box)
    assert (result.ids, result.pixels) == ((), 0)
    assert result.code == code
    assert result.message
    assert np.array_equal(_pixels(labels), before)
    assert labels.last_done == number


def test_an_empty_mask_takes_no_id_in_a_batch(labels: LabelSet) -> None:
    assert _commit(labels, (0, 0, 2, 2), (0, 0, 0, 0), (5, 5, 7, 7)).ids == (1, 2)
    assert np.unique(_pixels(labels)).tolist() == [0, 1, 2]


def test_a_mask_becomes_another_part_of_an_object(labels: LabelSet) -> None:
    _commit(labels, (2, 3, 6, 8), (10, 3, 12, 8))
    result = _commit(labels, (5, 3, 11, 8), policy=CommitPolicy("part", 1))
    assert (result.ids, result.pixels, result.kept_out) == ((1,), 20, 5)
    assert (_pixels(labels) == 2).sum() == 10
    assert len(labels.record(1).prompts[PLANE]) == 2
    again = _commit(labels, (5, 3, 9, 8), policy=CommitPolicy("part", 1))
    assert again.code == "already-in-object"


def test_an_object_is_replaced_with_its_prompts_in_that_plane(labels: LabelSet) -> None:
    _commit(labels, (2, 3, 6, 8), (10, 3, 12, 8))
    result = _commit(labels, (4, 3, 11, 8), policy=CommitPolicy("replace", 1))
    assert (result.ids, result.kept_out) == ((1,), 5)
    assert np.array_equal(_pixels(labels) == 1, rectangle(SHAPE, 4, 3, 10, 8))
    assert len(labels.record(1).prompts[PLANE]) == 1
    nothing = _commit(labels, (10, 3, 11, 8), policy=CommitPolicy("replace", 1))
    assert nothing.ids == ()
    assert (_pixels(labels) == 1).any()


def _propagated(labels: LabelSet, index: int, mask: NDArray[np.bool_]) -> None:
    """Add a mask to object 1 as propagation does."""
    change = ProposedChange(PlaneKey.of("image", 3, (index,)), 1, Region.empty(), Region.of(mask), 0.8, 0.0)
    labels.apply(Proposal((change,), "propagated", ""))


@pytest.mark.parametrize(("target", "rows"), [("replace", (4, 6)), ("part", (2, 10))])
def test_a_propagated_mask_that_is_corrected_with_prompts_makes_a_key_plane(target: Any, rows: tuple[int, int]) -> None:
    data = np.zeros((3, *SHAPE), np.int32)
    data[0][rectangle(SHAPE, 2, 3, 8, 8)] = 1
    labels = LabelSet(ArrayStore(data))
    for index in (1, 2):
        _propagated(labels, index, rectangle(SHAPE, 2, 3, 8, 8))
    here = PlaneKey.of("image", 3, (1,))
    mask = rectangle(SHAPE, 4, 3, 6 if target == "replace" else 10, 8)
    labels.commit(make_preview(mask[None], here), CommitPolicy(target, 1))
    assert np.array_equal(data[1] == 1, rectangle(SHAPE, rows[0], 3, rows[1], 8))
    record = labels.record(1)
    assert [record.origin_in(PlaneKey.of("", 3, (index,))) for index in range(3)] == [
        "painted",
        "prompted",
        "propagated",
    ]
    assert record.propagated_planes == (PlaneKey.of("", 3, (2,)),)
    assert labels.undo() == "commit"
    assert len(labels.record(1).propagated_planes) == 2


def test_an_object_of_one_plane_that_is_replaced_is_prompted(labels: LabelSet) -> None:
    labels.store.write(PLANE, rectangle(SHAPE, 2, 3, 8, 8), 1)
    labels.note_painted(PLANE)
    assert labels.record(1).origin == "painted"
    _commit(labels, (4, 3, 6, 8), policy=CommitPolicy("replace", 1))
    assert (labels.record(1).origin, dict(labels.record(1).origins)) == ("prompted", {})


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((4, 4, 6, 6), True),  # inside
        ((0, 0, 20, 20), True),  # around
        ((5, 3, 14, 8), True),  # half of the object
        ((6, 3, 14, 8), False),
        ((12, 3, 14, 8), False),  # beside it
    ],
)
def test_a_mask_shows_an_object_again_if_half_of_the_smaller_one_is_shared(
    labels: LabelSet, box: tuple[int, int, int, int], expected: bool
) -> None:
    _commit(labels, (2, 3, 8, 8))
    assert labels.lies_on(make_preview(rectangle(SHAPE, *box)[None]), 1) is expected
    assert not labels.lies_on(make_preview(rectangle(SHAPE, *box)[None]), 2)


def test_a_semantic_class_is_written_with_its_own_value(labels: LabelSet) -> None:
    policy = CommitPolicy("class", class_id=2)
    _commit(labels, (2, 3, 6, 8), policy=policy)
    result = _commit(labels, (4, 3, 10, 8), (15, 3, 16, 8), policy=policy)
    assert (result.ids, result.pixels) == ((2,), 25)
    assert [(record.id, record.class_id) for record in labels.records()] == [(2, 2)]
    assert len(labels.record(2).prompts[PLANE]) == 3


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        (CommitPolicy("part", 5), "object-not-found"),
        (CommitPolicy("replace", 5), "object-not-found"),
        (CommitPolicy("class", class_id=9), "class-not-found"),
        (CommitPolicy("class"), "class-not-found"),
    ],
)
def test_an_object_or_class_that_is_not_there_is_refused(labels: LabelSet, policy: CommitPolicy, code: str) -> None:
    with raises(InputError, code):
        _commit(labels, (2, 3, 6, 8), policy=policy)
    assert not _pixels(labels).any()


def test_labels_of_another_size_are_refused(labels: LabelSet) -> None:
    with raises(InputError, "labels-do-not-fit"):
        labels.commit(make_preview(np.ones((1, 5, 5), np.bool_)))


def test_ids_that_do_not_fit_the_labels_are_refused_and_nothing_is_written() -> None:
    data = np.zeros(SHAPE, np.uint8)
    data[19] = 255
    labels = LabelSet(ArrayStore(data))
    with raises(InputError, "id-out-of-range", match="255"):
        _commit(labels, (2, 3, 6, 8))
    assert np.unique(data).tolist() == [0, 255]
    assert labels.last_done is None


def test_labels_from_elsewhere_are_painted_objects(labels: LabelSet) -> None:
    data = np.zeros(SHAPE, np.int32)
    data[3:5, 3:9] = 4
    record = LabelSet(ArrayStore(data)).record(4)
    assert (record.origin, dict(record.prompts)) == ("painted", {})


def test_area_centroid_and_box_are_those_of_the_pixels(labels: LabelSet) -> None:
    _commit(labels, (2, 3, 6, 8))
    stats = labels.stats(1)
    assert (stats.area, stats.centroid, stats.box) == (20, (3.5, 5.0), (slice(2, 6), slice(3, 8)))
    _commit(labels, (6, 3, 8, 8), policy=CommitPolicy("part", 1))
    assert labels.stats(1).area == 30
    with raises(InputError, "object-not-found", match="7"):
        labels.stats(7)


def test_deleting_merging_and_splitting(labels: LabelSet) -> None:
    _commit(labels, (0, 0, 4, 4), (0, 10, 2, 12), (10, 10, 12, 12))
    assert labels.merge([3, 1]).ids == (3,)
    assert sorted(record.id for record in labels.records()) == [2, 3]
    assert labels.stats(3).area == 20
    assert len(labels.record(3).prompts[PLANE]) == 2
    result = labels.split(3)
    assert result.ids == (3, 4)
    assert (labels.stats(3).area, labels.stats(4).area) == (16, 4)
    assert labels.split(3).code == "already-connected"
    labels.delete([2, 4])
    assert [record.id for record in labels.records()] == [3]
    for call in (lambda: labels.delete([2]), lambda: labels.merge([3, 2]), lambda: labels.split(2)):
        with raises(InputError, "object-not-found", match="2"):
            call()
    with raises(InputError, "no-object-selected"):
        labels.delete([])
    with raises(InputError, "too-few-objects"):
        labels.merge([3, 3])


def test_parts_that_touch_at_a_corner_stay_together(labels: LabelSet) -> None:
    _commit(labels, (0, 0, 2, 2))
    _commit(labels, (2, 2, 4, 4), policy=CommitPolicy("part", 1))
    assert labels.split(1).ids == ()


def test_classes_and_approval(labels: LabelSet) -> None:
    _commit(labels, (0, 0, 4, 4), (0, 10, 2, 12))
    labels.set_class([1, 2], 2)
    labels.approve([2])
    assert [(one.class_id, one.approved) for one in labels.records()] == [(2, False), (2, True)]
    labels.set_classes([CELL])
    assert [one.class_id for one in labels.records()] == [0, 0]
    with raises(InputError, "class-not-found", match=r"1 \(cell\)"):
        labels.set_class([1], 2)
    with raises(InputError, "invalid-class-ids"):
        labels.set_classes([CELL, CELL])
    labels.undo()
    assert [one.class_id for one in labels.records()] == [2, 2]
    assert labels.classes == (CELL, DEBRIS)


def test_planes_are_marked_complete(labels: LabelSet) -> None:
    labels.mark_complete(PLANE)
    assert labels.complete_planes == {PLANE.on("")}
    labels.undo()
    assert not labels.complete_planes


def _proposal(labels: LabelSet, *new: tuple[int, tuple[int, int, int, int]]) -> Proposal:
    pixels = _pixels(labels)
    changes = [
        ProposedChange(
            PLANE,
            label,
            Region.of(pixels == label if label else np.zeros(SHAPE, np.bool_)),
            Region.of(rectangle(SHAPE, *box)),
            0.7 + 0.01 * number,
            0.5,
        )
        for number, (label, box) in enumerate(new)
    ]
    return Proposal(tuple(changes), "re-segmented", "adapter")


def test_accepted_changes_are_one_step_and_the_rest_stays(labels: LabelSet) -> None:
    _commit(labels, (0, 0, 4, 4), (0, 10, 4, 14))
    before = _pixels(labels)
    proposal = _proposal(labels, (1, (1, 0, 6, 4)), (2, (0, 12, 4, 20)), (0, (10, 10, 12, 12)))
    result = labels.apply(proposal, accept=[0, 2])
    assert result.ids == (1, 3)
    assert np.array_equal(_pixels(labels) == 1, rectangle(SHAPE, 1, 0, 6, 4))
    assert np.array_equal(_pixels(labels) == 2, before == 2)
    assert [one.origin for one in labels.records()] == ["re-segmented", "prompted", "re-segmented"]
    assert labels.record(1).adapter == "adapter"
    assert list(labels.record(1).prompts) == [PLANE]
    labels.undo()
    assert np.array_equal(_pixels(labels), before)


def test_a_change_never_takes_pixels_of_others_and_never_makes_an_object_vanish(labels: LabelSet) -> None:
    _commit(labels, (0, 0, 4, 4), (0, 10, 4, 14), (10, 0, 14, 4))
    proposal = _proposal(labels, (1, (10, 0, 14, 4)), (2, (0, 10, 12, 14)))
    result = labels.apply(proposal)
    assert result.ids == (2,)
    assert (result.code, result.skipped) == ("changed", 1)
    assert labels.stats(1).area == 16
    assert labels.stats(3).area == 16
    assert labels.stats(2).area == 48


def test_objects_changed_or_approved_since_the_proposal_stay(labels: LabelSet) -> None:
    _commit(labels, (0, 0, 4, 4), (0, 10, 4, 14), (10, 0, 14, 4))
    proposal = _proposal(labels, (1, (0, 0, 6, 4)), (2, (0, 10, 6, 14)), (3, (10, 0, 16, 4)))
    labels.watch(PLANE)
    labels.store.write(PLANE, rectangle(SHAPE, 4, 0, 5, 1), 1)
    labels.note_painted(PLANE)
    labels.approve([2])
    labels.delete([3])
    before = _pixels(labels)
    result = labels.apply(proposal)
    assert (result.ids, result.code, result.skipped) == ((), "unchanged", 3)
    assert np.array_equal(_pixels(labels), before)


def test_an_object_prompted_across_a_plane_is_not_an_outline_in_it() -> None:
    labels = LabelSet(ArrayStore(np.zeros((6, 20, 30), np.int32)))
    flat, side = PlaneKey.of("image", 3, (2,)), PlaneKey.of("image", 3, (5,), (0, 2))
    labels.commit(make_preview(rectangle((20, 30), 10, 10, 14, 14)[None], flat))
    labels.commit(make_preview(rectangle((6, 30), 1, 2, 5, 9)[None], side))
    assert labels.stats(2).area == 28
    assert labels.stats(2).box == (slice(1, 5), slice(5, 6), slice(2, 9))
    assert [plane.index for plane in labels.labelled_planes("image")] == [(1,), (2,), (3,), (4,), (5,)]
    assert np.unique(labels.drawn_in(flat)).tolist() == [0, 1]
    assert np.unique(labels.drawn_in(side)).tolist() == [0, 2]
    assert not labels.drawn_in(flat.neighbour(1)).any()


def test_an_object_over_planes_is_split_where_it_is_not_connected() -> None:
    data = np.zeros((5, 8, 8), np.int32)
    data[0:2, 1:4, 1:4] = 3
    data[3:5, 5, 5] = 3
    labels = LabelSet(ArrayStore(data))
    assert labels.stats(3).plane_index == (0,)
    assert labels.split(3).ids == (3, 4)
    assert (data == 4).sum() == 2
    assert (data[:2] == 3).sum() == 18


def test_a_commit_looks_at_the_record_of_its_own_object_only(labels: LabelSet, monkeypatch: pytest.MonkeyPatch) -> None:
    for x in range(0, 12, 4):
        _commit(labels, (0, x, 2, x + 2))
    seen: list[int] = []
    record = LabelSet._record

    def note(self: LabelSet, label: int) -> ObjectRecord:
        seen.append(label)
        return record(self, label)

    monkeypatch.setattr(LabelSet, "_record", note)
    _commit(labels, (6, 0, 8, 2))
    assert seen == []
    _commit(labels, (6, 4, 8, 6), policy=CommitPolicy("part", 2))
    assert seen == [2]

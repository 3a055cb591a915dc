"""Painting, undo and redo, through the session and through the store's own history."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam_lora.session import ArrayStore, CommitPolicy, LabelSet, PlaneKey
from napari_sam_lora.session.labels.history import Step

from ..helpers import make_preview, rectangle

SHAPE = (20, 30)
PLANE = PlaneKey.of("image", 2)


@pytest.fixture
def labels() -> LabelSet:
    made = LabelSet(ArrayStore(np.zeros(SHAPE, np.int32)))
    made.watch(PLANE)
    made.commit(make_preview(rectangle(SHAPE, 0, 0, 4, 4)[None]))
    made.commit(make_preview(rectangle(SHAPE, 10, 0, 14, 4)[None]))
    return made


def _paint(labels: LabelSet, box: tuple[int, int, int, int], label: int) -> tuple[int, ...]:
    labels.store.write(PLANE, rectangle(SHAPE, *box), label)
    return labels.note_painted(PLANE)


def _pixels(labels: LabelSet) -> NDArray[np.integer[Any]]:
    return labels.store.read(PLANE)


def test_painting_over_an_object_makes_it_painted_and_keeps_its_prompts(labels: LabelSet) -> None:
    assert _paint(labels, (3, 0, 6, 4), 1) == (1,)
    assert labels.record(1).origin == "painted"
    assert PLANE in labels.record(1).prompts
    assert labels.record(2).origin == "prompted"


def test_painting_from_one_object_into_another_makes_both_painted(labels: LabelSet) -> None:
    assert _paint(labels, (3, 0, 11, 4), 2) == (1, 2)
    assert [one.origin for one in labels.records()] == ["painted", "painted"]


def test_a_new_painted_id_is_a_painted_object(labels: LabelSet) -> None:
    assert _paint(labels, (0, 10, 3, 13), 9) == (9,)
    assert (labels.record(9).origin, labels.stats(9).area, labels.next_id()) == ("painted", 9, 10)


def test_noting_painting_that_was_none_changes_nothing(labels: LabelSet) -> None:
    number = labels.last_done
    assert labels.note_painted(PLANE) == ()
    assert labels.last_done == number


def test_undo_takes_back_painting_with_its_mark(labels: LabelSet) -> None:
    before = _pixels(labels)
    _paint(labels, (3, 0, 6, 4), 1)
    assert labels.undo() == "painting"
    assert np.array_equal(_pixels(labels), before)
    assert labels.record(1).origin == "prompted"
    assert labels.redo() == "painting"
    assert labels.record(1).origin == "painted"


def test_every_edit_is_undone_and_redone_with_its_records(labels: LabelSet) -> None:
    states = [(_pixels(labels), labels.records())]
    for edit in (
        lambda: labels.commit(make_preview(rectangle(SHAPE, 0, 10, 9, 14)[None]), CommitPolicy("part", 1)),
        lambda: labels.approve([2]),
        lambda: labels.merge([2, 1]),
        lambda: labels.split(2),
        lambda: _paint(labels, (5, 20, 8, 25), 7),
        lambda: labels.delete([2]),
    ):
        edit()
        states.append((_pixels(labels), labels.records()))
    for pixels, records in reversed(states[:-1]):
        assert labels.undo()
        assert np.array_equal(_pixels(labels), pixels)
        assert labels.records() == records
    for pixels, records in states[1:]:
        assert labels.redo()
        assert np.array_equal(_pixels(labels), pixels)
        assert labels.records() == records
    assert labels.redo() is None


def test_nothing_to_undo_is_none(labels: LabelSet) -> None:
    assert [labels.undo(), labels.undo(), labels.undo()] == ["commit", "commit", None]


def test_the_stores_own_undo_takes_the_record_away_and_its_redo_brings_it_back(labels: LabelSet) -> None:
    record = labels.record(2)
    labels.store.undo()
    assert labels.note_painted(PLANE) == (2,)
    assert [one.id for one in labels.records()] == [1]
    assert labels.next_id() == 2
    labels.store.redo()
    assert labels.note_painted(PLANE) == (2,)
    assert labels.record(2) == record


def test_the_stores_own_undo_goes_below_edits_of_metadata(labels: LabelSet) -> None:
    labels.approve([2])
    labels.store.undo()
    labels.note_painted(PLANE)
    assert [one.id for one in labels.records()] == [1]
    labels.store.redo()
    labels.note_painted(PLANE)
    assert labels.record(2).approved


def test_several_steps_of_the_store_at_once_are_followed(labels: LabelSet) -> None:
    labels.merge([1, 2])
    merged = labels.record(1)
    for _ in range(3):
        labels.store.undo()
    labels.note_painted(PLANE)
    assert labels.records() == ()
    for _ in range(3):
        labels.store.redo()
    labels.note_painted(PLANE)
    assert labels.records() == (merged,)


def test_an_object_that_was_painted_over_comes_back_with_its_prompts(labels: LabelSet) -> None:
    """Erasing exactly the last commit looks like its undo; either way the prompts come back with the pixels."""
    _paint(labels, (10, 0, 14, 4), 0)
    assert [one.id for one in labels.records()] == [1]
    labels.commit(make_preview(rectangle(SHAPE, 0, 20, 4, 24)[None]))
    labels.store.undo()
    labels.store.undo()
    labels.note_painted(PLANE)
    assert PLANE in labels.record(2).prompts


def test_the_store_and_the_session_can_take_turns(labels: LabelSet) -> None:
    labels.delete([1])
    labels.store.undo()  # nobody noted it
    assert labels.undo() == "commit"
    assert [one.id for one in labels.records()] == [1]
    labels.store.redo()
    labels.note_painted(PLANE)
    assert [one.id for one in labels.records()] == [1, 2]
    assert labels.redo() == "delete"
    assert [one.id for one in labels.records()] == [2]


def test_several_strokes_noted_together_are_undone_one_by_one(labels: LabelSet) -> None:
    before = _pixels(labels)
    labels.store.write(PLANE, rectangle(SHAPE, 0, 10, 3, 13), 8)
    labels.store.write(PLANE, rectangle(SHAPE, 5, 10, 8, 13), 9)
    labels.note_painted(PLANE)
    assert labels.undo() == "painting"
    assert [one.id for one in labels.records()] == [1, 2, 8]
    assert labels.undo() == "painting"
    assert np.array_equal(_pixels(labels), before)
    assert labels.undo() == "commit"


def test_strokes_over_each_other_are_undone_one_by_one(labels: LabelSet) -> None:
    for label in (7, 8, 9):
        labels.store.write(PLANE, rectangle(SHAPE, 0, 10, 3, 13), label)
    assert labels.note_painted(PLANE) == (9,)
    for expected in ([1, 2, 8], [1, 2, 7], [1, 2]):
        labels.undo()
        assert [one.id for one in labels.records()] == expected
        assert [one.id for one in labels.records()] == np.unique(_pixels(labels))[1:].tolist()
    for expected in ([1, 2, 7], [1, 2, 8], [1, 2, 9]):
        labels.redo()
        assert [one.id for one in labels.records()] == expected


def test_undo_works_when_the_store_has_forgotten_its_history(labels: LabelSet) -> None:
    forgetful = ArrayStore(np.zeros(SHAPE, np.int32), steps=0)
    labels = LabelSet(forgetful)
    labels.commit(make_preview(rectangle(SHAPE, 0, 0, 4, 4)[None]))
    assert labels.undo() == "commit"
    assert not forgetful.data.any()
    assert labels.redo() == "commit"
    assert labels.stats(1).area == 16


def test_listeners_hear_of_every_change(labels: LabelSet) -> None:
    heard = []
    labels.objects_changed.connect(lambda: heard.append(len(labels.records())))
    labels.delete([1])
    labels.undo()
    labels.store.undo()
    labels.note_painted(PLANE)
    assert heard == [1, 2, 1]


def test_painting_in_another_view_is_seen(labels: LabelSet) -> None:
    stack = LabelSet(ArrayStore(np.zeros((6, *SHAPE), np.int32)))
    flat, side = PlaneKey.of("image", 3, (2,)), PlaneKey.of("image", 3, (5,), (0, 2))
    stack.watch(flat)
    stack.commit(make_preview(rectangle(SHAPE, 4, 2, 8, 9)[None], flat))
    stack.watch(side)
    stack.store.write(side, rectangle((6, 30), 2, 0, 5, 30), 1)
    assert stack.note_painted(side) == (1,)
    assert stack.record(1).origin == "painted"
    assert stack.stats(1).area == 28 + 90 - 7
    assert stack.note_painted(flat) == ()


def _stack() -> LabelSet:
    stack = LabelSet(ArrayStore(np.zeros((6, *SHAPE), np.int32)))
    stack.commit(make_preview(rectangle(SHAPE, 4, 2, 8, 9)[None], PlaneKey.of("image", 3, (2,))))
    return stack


def test_an_undo_in_a_plane_that_is_not_shown_is_reported_with_a_plane_that_shows_it() -> None:
    stack, steps = _stack(), list[Step]()
    stack.stepped.connect(steps.append)
    stack.undo()
    stack.redo()
    assert [(step.name, step.back) for step in steps] == [("commit", True), ("commit", False)]
    here, other = PlaneKey.of("image", 3, (2,)), PlaneKey.of("image", 3, (3,))
    assert steps[0].where_to_look(here) is None
    assert steps[0].where_to_look(other) == here.on("")
    assert steps[0].where_to_look(None) == here.on("")


def test_a_plane_of_another_view_shows_what_it_goes_through() -> None:
    stack, steps = _stack(), list[Step]()
    stack.stepped.connect(steps.append)
    stack.undo()
    through, beside = (PlaneKey.of("image", 3, (y,), (0, 2)) for y in (7, 8))
    assert steps[0].where_to_look(through) is None
    assert steps[0].where_to_look(beside) == PlaneKey.of("", 3, (2,))


def test_the_stores_own_undo_is_reported_too() -> None:
    stack, steps = _stack(), list[Step]()
    stack.stepped.connect(steps.append)
    stack.store.undo()
    stack.note_painted(PlaneKey.of("image", 3, (0,)))
    assert [(step.name, step.back) for step in steps] == [("commit", True)]


def test_edits_of_metadata_have_no_place_to_look_at(labels: LabelSet) -> None:
    steps: list[Step] = []
    labels.approve([1])
    labels.stepped.connect(steps.append)
    labels.undo()
    assert steps[0].where_to_look(None) is None

"""Lists of classes, and predicted classes of found objects."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam_lora.regions import Region
from napari_sam_lora.session import ArrayStore, LabelSet, ObjectClass, PlaneKey, Proposal, ProposedChange
from napari_sam_lora.session.labels.classes import PredictedClass, merge_classes, new_class, predict_classes

PLANE = PlaneKey.of("image", 2)
CELL, DEBRIS = ObjectClass(1, "cell", (1.0, 0.0, 0.0)), ObjectClass(5, "debris", (0.0, 1.0, 0.0))


def test_a_new_class_has_a_free_id_and_a_colour_of_its_own() -> None:
    classes: list[ObjectClass] = []
    for _ in range(7):
        classes.append(new_class(classes))
    assert [one.id for one in classes] == list(range(1, 8))
    assert classes[0] == ObjectClass(1, "class 1", (0xE6 / 255, 0x9F / 255, 0))
    assert len({one.colour for one in classes}) == 7
    assert new_class(classes).colour in {one.colour for one in classes}
    assert (new_class([CELL, DEBRIS]).id, new_class([CELL], "x", 9).name) == (6, "x")


@pytest.mark.parametrize(
    ("others", "ids", "added"),
    [
        ({5: "cell", 1: "debris"}, {5: 1, 1: 5}, []),  # by name
        ({1: "", 5: ""}, {1: 1, 5: 5}, []),  # by id where there is no name
        ({2: "dust"}, {2: 2}, [(2, "dust")]),
        ({1: "dust", 7: ""}, {1: 6, 7: 7}, [(6, "dust"), (7, "class 7")]),  # the id 1 is in use
        ({}, {}, []),
    ],
)
def test_lists_are_merged_by_name(others: dict[int, str], ids: dict[int, int], added: list[tuple[int, str]]) -> None:
    classes, found = merge_classes([CELL, DEBRIS], others)
    assert classes[:2] == (CELL, DEBRIS)
    assert [(one.id, one.name) for one in classes[2:]] == added
    assert found == ids


def test_predicted_classes_come_from_the_last_maps() -> None:
    instances = np.array([[1, 1, 0, 2]])
    maps = np.zeros((4, 1, 4), np.float32)
    maps[:2] = 1
    maps[2, 0, :2], maps[3, 0, 3] = 0.7, 0.9
    assert predict_classes(instances, maps, {3: "cell", 8: ""}) == {
        1: PredictedClass(3, "cell"),
        2: PredictedClass(8, ""),
    }
    assert predict_classes(instances, maps[:2], {}) == {}


def _proposal(*predicted: PredictedClass | None) -> Proposal:
    changes = [
        ProposedChange(PLANE, 0, Region.empty(), Region((4 * row, 0), np.ones((2, 3), bool)), 0.5, 0.0, predicted=one)
        for row, one in enumerate(predicted)
    ]
    return Proposal(tuple(changes), "everything", "adapter")


def test_accepted_objects_have_their_predicted_class() -> None:
    labels = LabelSet(ArrayStore(np.zeros((20, 30), np.int32)), [CELL])
    proposal = _proposal(PredictedClass(3, "dust"), PredictedClass(9, "cell"), None, PredictedClass(3, "dust"))
    labels.apply(proposal, [1, 2])
    assert [one.class_id for one in labels.records()] == [1, 0]
    assert labels.classes == (CELL,)  # the class of an object that was dropped is not added
    labels.apply(proposal, [0, 3])
    assert [(one.id, one.name) for one in labels.classes] == [(1, "cell"), (3, "dust")]
    assert [one.class_id for one in labels.records()] == [1, 0, 3, 3]
    labels.undo()
    assert labels.classes == (CELL,)
    assert [one.class_id for one in labels.records()] == [1, 0]


def test_objects_that_are_there_keep_their_class() -> None:
    labels = LabelSet(ArrayStore(np.zeros((20, 30), np.int32)), [CELL])
    labels.apply(_proposal(PredictedClass(1, "cell")))
    old, new = Region((0, 0), np.ones((2, 3), bool)), Region((0, 0), np.ones((3, 3), bool))
    change = ProposedChange(PLANE, 1, old, new, 0.5, 0.6, predicted=PredictedClass(3, "dust"))
    labels.apply(Proposal((change,), "re-segmented", ""))
    assert labels.record(1).class_id == 1
    assert labels.classes == (CELL,)

"""Test that dropped proposals stay dropped when objects are cut again."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam_lora.regions import Region
from napari_sam_lora.session import PlaneKey
from napari_sam_lora.session.everything.findings import Findings
from napari_sam_lora.session.everything.found_plane import FoundObject, FoundPlane, propose

FIRST, SECOND, OTHER = PlaneKey.of("a", 3, (0,)), PlaneKey.of("a", 3, (2,)), PlaneKey.of("b", 2)


def square(y: int, x: int, side: int = 4) -> FoundObject:
    return FoundObject(Region((y, x), np.ones((side, side), np.bool_)), 0.9)


@pytest.fixture
def labels() -> dict[PlaneKey, NDArray[np.int64]]:
    """Make empty labels of three planes."""
    return {plane: np.zeros((20, 20), np.int64) for plane in (FIRST, SECOND, OTHER)}


@pytest.fixture
def findings(labels: dict[PlaneKey, NDArray[np.int64]]) -> Findings:
    """Make findings of two planes of an image, found in the reverse order, and one of another image."""
    made = Findings(lambda found: propose(found, labels[found.plane]))
    for plane in (SECOND, FIRST, OTHER):
        made.put(FoundPlane(plane, (square(1, 1), square(10, 10)), ""))
    return made


def test_planes_are_sorted_within_their_image(findings: Findings) -> None:
    assert findings.planes == [FIRST, SECOND, OTHER]
    assert findings.images == ["a", "b"]
    assert findings.count() == 6


def test_a_dropped_object_is_kept_out_until_it_is_taken_back(findings: Findings) -> None:
    assert findings.toggle(FIRST, (2, 2))
    assert findings.count_dropped() == 1
    assert len(findings.kept("a").changes) == 3
    assert findings.toggle(FIRST, (4, 4)), "another pixel of the same object"
    assert findings.count_dropped() == 0
    assert not findings.toggle(FIRST, (19, 0)), "background"


def test_dropped_objects_stay_dropped_when_they_are_cut_again(findings: Findings) -> None:
    findings.toggle(FIRST, (12, 12))
    findings.put(FoundPlane(FIRST, (square(9, 9, 6), square(1, 1, 3)), ""))
    (dropped,) = findings.dropped(FIRST)
    assert findings.proposal(FIRST).changes[dropped].new.area == 36  # type: ignore[union-attr]
    assert [change.new.area for change in findings.kept("a").changes if change.plane == FIRST] == [9]


def test_labels_made_meanwhile_are_left_alone(findings: Findings, labels: dict[PlaneKey, NDArray[np.int64]]) -> None:
    labels[SECOND][10:14, 10:14] = 5
    labels[SECOND][1, 1:5] = 6
    findings.propose_again()
    (change,) = findings.proposal(SECOND).changes  # type: ignore[union-attr]
    assert change.new.area == 12


def test_the_planes_of_a_removed_image_are_forgotten(findings: Findings) -> None:
    findings.toggle(FIRST, (2, 2))
    findings.remove_image("a")
    assert findings.searched == [OTHER]
    assert findings.count_dropped() == 0

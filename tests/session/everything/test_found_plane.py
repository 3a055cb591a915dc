"""Objects are proposed from maps of the dense head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.session import PlaneKey
from napari_sam_lora.session.everything.found_plane import FoundPlane, cut_again, propose
from napari_sam_lora.session.labels.classes import PredictedClass

SHAPE = (60, 80)
PLANE = PlaneKey.of("image", 2)


def _discs(*centres: tuple[int, int]) -> NDArray[np.bool_]:
    y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
    discs = [(y - cy) ** 2 + (x - cx) ** 2 < 100 for cy, cx in centres]
    return np.any(discs, axis=0)


@pytest.fixture
def found() -> FoundPlane:
    """Make maps of two discs."""
    inside = _discs((20, 20), (40, 60))
    distance = ndi.distance_transform_edt(inside)
    maps = np.stack([np.where(inside, 0.9, 0.1), distance / distance.max()]).astype(np.float16)
    return cut_again(FoundPlane(PLANE, (), "adapter", maps=maps, config=InstanceConfig()), {})


def test_each_object_is_proposed_with_its_probability(found: FoundPlane) -> None:
    proposal = propose(found, np.zeros(SHAPE, np.uint16))
    assert [change.plane for change in proposal.changes] == [PLANE, PLANE]
    assert np.array_equal(sum(change.new.to_mask(SHAPE) for change in proposal.changes) > 0, _discs((20, 20), (40, 60)))
    assert [change.score for change in proposal.changes] == pytest.approx([0.9, 0.9], abs=1e-3)
    assert (proposal.origin, proposal.adapter) == ("everything", "adapter")


def test_labelled_objects_are_left_alone_and_their_pixels_never_proposed(found: FoundPlane) -> None:
    labels = np.where(_discs((20, 20)), 3, 0).astype(np.uint8)
    labels[40, 55:60] = 7
    proposal = propose(found, labels)
    (change,) = proposal.changes
    assert not (change.new.to_mask(SHAPE) & (labels > 0)).any()
    assert change.new.area == _discs((40, 60)).sum() - 5
    assert proposal.left_alone == 1


def test_nothing_is_proposed_where_nothing_is_sure_enough(found: FoundPlane) -> None:
    again = cut_again(found, {"sensitivity": 0.05})
    assert not propose(again, np.zeros(SHAPE, int)).changes


def test_objects_are_proposed_with_their_predicted_class(found: FoundPlane) -> None:
    assert found.maps is not None
    classes = np.zeros((2, *SHAPE), np.float16)
    classes[0, :30], classes[1, 30:] = 0.8, 0.8
    more = replace(found, maps=np.concatenate([found.maps, classes]), classes={4: "cell", 7: ""})
    proposal = propose(cut_again(more, {}), np.zeros(SHAPE, int))
    by_row = {change.new.origin[0] < 30: change.predicted for change in proposal.changes}
    assert by_row == {True: PredictedClass(4, "cell"), False: PredictedClass(7, "")}
    assert [change.predicted for change in propose(found, np.zeros(SHAPE, int)).changes] == [None, None]

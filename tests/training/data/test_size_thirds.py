"""Thirds of size, and how often objects of each are drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from napari_sam_lora.training.data.samples import Plane
from napari_sam_lora.training.data.size_thirds import balanced_shares, size_thirds
from napari_sam_lora.training.data.split import list_objects

from ..squares import make_pair, make_planes


def _plane(seed: int, sides: list[int]) -> Plane:
    """Return a plane with squares of these sides in a row of cells."""
    image, labels = make_pair(seed, [])
    for number, side in enumerate(sides):
        y, x = divmod(number, 4)
        labels[32 * y : 32 * y + side, 32 * x : 32 * x + side] = number + 1
    return make_planes((image, labels))[0]


def test_thirds_have_as_many_objects_each() -> None:
    assert size_thirds([9, 1, 5, 7, 3, 2]).tolist() == [2, 0, 1, 2, 1, 0]


def test_equal_objects_are_in_one_third() -> None:
    assert size_thirds([4, 4, 4, 4]).tolist() == [0, 0, 0, 0]
    assert size_thirds([]).tolist() == []


def test_rare_sizes_of_a_plane_are_drawn_as_often_as_usual_ones() -> None:
    """Of two planes one has three small objects and a large one, the other one four of each larger size."""
    planes = (_plane(0, [8, 8, 8, 24]), _plane(1, [12] * 4 + [20] * 4))
    shares = balanced_shares(planes, list_objects(planes))
    assert shares[0] == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    assert shares[1] == pytest.approx([1 / 8] * 8)


def test_classes_are_drawn_as_often_as_each_other_and_sizes_within_them() -> None:
    plane = replace(_plane(0, [8, 8, 8, 24, 8, 8]), classes={1: 1, 2: 1, 3: 1, 4: 1, 5: 2, 6: 2})
    (shares,) = balanced_shares((plane,), list_objects((plane,))).values()
    assert shares == pytest.approx([1 / 12, 1 / 12, 1 / 12, 1 / 4, 1 / 4, 1 / 4])


def test_size_is_what_the_model_sees() -> None:
    """A plane is shown at half its side: its largest object is as large as the usual ones of others."""
    small, large = _plane(0, [12] * 4), _plane(1, [12] * 4)
    image, labels = make_pair(2, [])
    image, labels = image.repeat(2, 0).repeat(2, 1), labels.repeat(2, 0).repeat(2, 1)
    labels[:24, :24] = 1
    labels[40:52, 40:52] = 2
    labels[80:92, 80:92] = 3
    (shrunk,) = make_planes((image, labels))
    planes = (small, shrunk, large)
    shares = balanced_shares(planes, list_objects(planes))
    assert {plane: set(own.tolist()) for plane, own in shares.items()} == {0: {1 / 4}, 1: {1 / 3}, 2: {1 / 4}}

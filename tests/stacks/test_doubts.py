"""Propagation does not run away into a structure beside the object; doubtful masks are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam_lora import Model, PropagationConfig, propagate
from napari_sam_lora.stacks.propagation.contrast import Intensities
from napari_sam_lora.stacks.propagation.doubts import Reference, doubt_about
from napari_sam_lora.stacks.propagation.state import PropagatedPlane

KEY, END, PLANES = 2, 5, 12  # the object is in the planes before END
UNBRAKED = {"max_doubtful": PLANES}


def disc(radius: float) -> NDArray[np.bool_]:
    y, x = np.mgrid[:96, :96]
    return np.asarray((y - 48) ** 2 + (x - 48) ** 2 < radius**2)


def draw(intensity: int, growth: float) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw a disc of 130 on 40, below another structure that grows from plane to plane; return image and labels."""
    image, labels = np.full((PLANES, 96, 96), 40.0), np.zeros((PLANES, 96, 96), np.int64)
    for z in range(PLANES):
        is_object = z < END
        mask = disc(9 if is_object else 9 * growth ** (z - END + 1))
        image[z][mask] = 130 if is_object else intensity
        labels[z][mask] = is_object
    noise = np.random.default_rng(0).normal(0, 6, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), labels


def follow(model: Model, image: NDArray[Any], labels: NDArray[Any], **values: Any) -> list[PropagatedPlane]:
    return list(propagate(model, image, labels[KEY], KEY, PropagationConfig(direction="up", **values)))


def volume(planes: list[PropagatedPlane]) -> int:
    return sum(region.area for one in planes for region in one.objects.values())


def test_an_object_does_not_run_away_into_a_brighter_and_larger_structure(small: Model) -> None:
    image, labels = draw(220, 1.2)
    true = np.count_nonzero(labels[KEY:])
    assert volume(follow(small, image, labels, **UNBRAKED)) > 5 * true, "without the brake it does"
    planes = follow(small, image, labels)
    assert [(one.index, one.doubts) for one in planes if one.doubts] == [(END, {1: "intensity"})]
    assert (planes[-1].index, planes[-1].ended) == (END + 1, {1: "doubtful"})
    assert volume(planes) < 1.6 * true


def test_an_object_does_not_grow_far_beyond_its_key_planes(small: Model) -> None:
    image, labels = draw(130, 1.2)
    planes = follow(small, image, labels)
    areas = {one.index: one.objects[1].area for one in planes if one.objects}
    (first,) = [index for index, area in areas.items() if area > 2.5 * areas[KEY]]
    assert [(one.index, one.doubts) for one in planes if one.doubts] == [(first, {1: "size"})]
    assert (planes[-1].index, planes[-1].ended) == (first + 1, {1: "doubtful"})
    assert volume(planes) < 0.5 * volume(follow(small, image, labels, **UNBRAKED))


def test_a_larger_key_plane_allows_for_the_growth(small: Model) -> None:
    image, labels = draw(130, 1.2)
    keys = {KEY: labels[KEY], PLANES - 1: disc(9 * 1.2 ** (PLANES - END)).astype(np.int64)}
    planes = list(propagate(small, image, keys))
    assert [one.index for one in planes if not one.is_seed] == [*range(KEY + 1, 7), *range(PLANES - 2, 6, -1), 1, 0]
    assert not any(one.doubts or one.ended for one in planes)


@pytest.mark.parametrize(("most", "doubtful"), [(0, 0), (1, 1), (3, 3)])
def test_doubtful_planes_in_a_row_end_an_object(small: Model, most: int, doubtful: int) -> None:
    image, labels = draw(220, 1.0)
    planes = follow(small, image, labels, max_doubtful=most)
    assert [one.index for one in planes if one.doubts] == [*range(END, END + doubtful)]
    assert (planes[-1].index, planes[-1].ended) == (END + doubtful, {1: "doubtful"})


def test_a_single_plane_with_other_intensities_is_passed(small: Model) -> None:
    image, labels = draw(130, 1.0)
    image[6] = np.where(disc(9), 230, image[6])
    planes = follow(small, image, labels)
    assert [(one.index, one.doubts) for one in planes if one.doubts] == [(6, {1: "intensity"})]
    assert planes[-1].index == PLANES - 1
    assert planes[-1].objects


def test_a_stopped_propagation_counts_doubtful_planes_on(small: Model) -> None:
    image, labels = draw(220, 1.0)
    whole = follow(small, image, labels)
    doubted = next(one for one in whole if one.doubts)
    (rest,) = propagate(small, image, labels[KEY], KEY, PropagationConfig(direction="up"), state=doubted.state)
    assert rest.ended == whole[-1].ended == {1: "doubtful"}


@pytest.mark.parametrize(
    ("area", "median", "above_ring", "doubt"),
    [
        (100, 100.0, 60.0, None),
        (196, 100.0, 60.0, None),
        (260, 100.0, 60.0, None),  # (√200 + 2)² = 260.6
        (261, 100.0, 60.0, "size"),
        (10, 100.0, 60.0, None),  # smaller is no doubt
        (100, 145.0, 105.0, None),  # 45 brighter, as many as three spreads of 15
        (100, 146.0, 106.0, "intensity"),
        (100, 54.0, 14.0, "intensity"),
        (100, 146.0, 60.0, None),  # the whole plane is brighter
        (100, 100.0, 106.0, None),  # the surroundings are darker
    ],
)
def test_masks_are_compared_with_the_key_planes(area: int, median: float, above_ring: float, doubt: str | None) -> None:
    key = Reference(100, Intensities(60, True, 100, 60, 15))
    found = Intensities(above_ring, True, median, above_ring, 15)
    assert doubt_about(area, found, key, PropagationConfig()) == doubt


def test_the_brake_can_be_released() -> None:
    key = Reference(100, Intensities(60, True, 100, 60, 15))
    config = PropagationConfig(max_growth_from_key=float("inf"), max_intensity_change=float("inf"))
    assert doubt_about(10_000, Intensities(900, True, 1000, 900, 1), key, config) is None

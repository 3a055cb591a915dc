"""Masks cut to their bounding box."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam_lora.regions import Region, union_box, unite


@pytest.fixture
def mask() -> np.ndarray:
    """Bool (12, 16), two parts."""
    mask = np.zeros((12, 16), np.bool_)
    mask[3:7, 5:9] = mask[8, 10:14] = True
    return mask


@pytest.mark.parametrize(
    "box", [(0, 0, 12, 16), (4, 6, 6, 8), (0, 0, 5, 7), (6, 8, 12, 16), (0, 0, 3, 5), (9, 14, 12, 16), (5, 0, 5, 16)]
)
def test_the_part_within_a_box_is_that_of_the_mask(mask: np.ndarray, box: tuple[int, int, int, int]) -> None:
    y0, x0, y1, x1 = box
    assert np.array_equal(Region.of(mask).within(box), mask[y0:y1, x0:x1])


def test_a_box_may_reach_out_of_the_plane(mask: np.ndarray) -> None:
    region = Region.of(mask)
    assert np.array_equal(region.within((-2, -3, 14, 18)), np.pad(mask, ((2, 2), (3, 2))))
    assert np.array_equal(region.to_mask((5, 7)), mask[:5, :7])


def test_the_mask_of_a_part_lies_where_the_part_does(mask: np.ndarray) -> None:
    part = Region.of(mask[2:8, 4:10], (2, 4))
    assert part.box == (3, 5, 7, 9)
    assert np.array_equal(part.to_mask((12, 16))[2:8, 4:10], mask[2:8, 4:10])
    assert Region.of(np.zeros((4, 4), np.bool_), (2, 3)).area == 0


def test_only_pixels_of_the_mask_are_written(mask: np.ndarray) -> None:
    plane = np.full(mask.shape, 7)
    Region.of(mask).write(plane, 3)
    assert np.array_equal(plane, np.where(mask, 3, 7))


def test_regions_are_united_and_moved_without_a_plane(mask: np.ndarray) -> None:
    parts = [Region.of(np.where(np.arange(16) < 9, mask, False)), Region.empty(), Region.of(mask[8:], (8, 0))]
    assert union_box(parts) == (3, 5, 9, 14)
    assert np.array_equal(unite(parts).to_mask((12, 16)), mask)
    assert unite([]).area == 0
    assert np.array_equal(Region.of(mask).moved(2, -3).to_mask((14, 13))[2:], mask[:, 3:])

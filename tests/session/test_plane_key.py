"""Planes of stacks in any view."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from error_codes import raises

from napari_sam_lora.errors import InputError
from napari_sam_lora.regions import Region
from napari_sam_lora.session import ArraySource, PlaneKey
from napari_sam_lora.session.plane_key import last_axes_planes

STACK = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)


@pytest.mark.parametrize(
    ("axes", "index", "expected"),
    [
        ((2, 3), (1, 2), STACK[1, 2]),
        ((3, 2), (1, 2), STACK[1, 2].T),
        ((1, 3), (0, 3), STACK[0, :, 3]),
        ((1, 2), (1, 4), STACK[1, :, :, 4]),
        ((0, 3), (2, 3), STACK[:, 2, 3]),
    ],
)
def test_a_source_reads_any_orthogonal_view(axes: tuple[int, int], index: tuple[int, int], expected: Any) -> None:
    plane = PlaneKey.of("a", 4, index, axes)
    assert np.array_equal(ArraySource(STACK).read(plane), expected)
    assert plane.shape(STACK.shape) == expected.shape


def test_colours_stay_the_last_axis_in_a_transposed_view() -> None:
    rgb = np.arange(3 * 4 * 5 * 3).reshape(3, 4, 5, 3)
    source = ArraySource(rgb, rgb=True)
    assert source.shape == (3, 4, 5)
    assert np.array_equal(source.read(PlaneKey.of("a", 3, (1,), (2, 1))), rgb[1].swapaxes(0, 1))


def test_nothing_but_the_plane_is_loaded() -> None:
    asked = []

    class Lazy:
        shape = STACK.shape

        def __getitem__(self, where: Any) -> Any:
            asked.append(where)
            return STACK[where]

    ArraySource(Lazy()).read(PlaneKey.of("a", 4, (1, 2)))
    assert asked == [(1, 2, slice(None), slice(None))]


@pytest.mark.parametrize("index", [(2, 0), (0, 3), (-1, 0)])
def test_a_plane_that_is_not_there_is_refused(index: tuple[int, int]) -> None:
    with raises(InputError, "plane-outside-stack"):
        ArraySource(STACK).read(PlaneKey.of("a", 4, index))


@pytest.mark.parametrize(
    ("ndim", "index", "axes"), [(3, (), None), (3, (0,), (1, 1)), (2, (), (0, 2)), (3, (0, 0), None)]
)
def test_a_key_that_is_no_plane_is_refused(ndim: int, index: tuple[int, ...], axes: tuple[int, int] | None) -> None:
    with raises(InputError, "not-a-plane"):
        PlaneKey.of("a", ndim, index, axes)


def test_a_line_is_no_image() -> None:
    with raises(InputError, "too-few-axes"):
        ArraySource(np.zeros(5))


def test_neighbours_lie_along_the_last_other_axis() -> None:
    plane = PlaneKey.of("a", 4, (1, 2))
    assert plane.neighbour(-1).index == (1, 1)
    assert plane.neighbour(1, axis=0).index == (2, 2)
    assert not plane.neighbour(1).is_in(STACK.shape)


def test_all_planes_are_listed_in_order() -> None:
    assert [plane.index for plane in last_axes_planes("a", STACK.shape)][:4] == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_a_region_gives_its_mask_back() -> None:
    mask = np.zeros((6, 7), np.bool_)
    mask[2:4, 5], mask[3, 3] = True, True
    region = Region.of(mask)
    assert (region.box, region.area) == ((2, 3, 4, 6), 3)
    assert np.array_equal(region.to_mask((6, 7)), mask)
    assert np.array_equal(region.to_mask((3, 7)), mask[:3])
    assert Region.of(np.zeros((3, 3), np.bool_)).to_mask((3, 3)).sum() == 0

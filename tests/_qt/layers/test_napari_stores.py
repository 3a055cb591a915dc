"""napari layers as stores of the session, and coordinates; the tests need a viewer model, but no window."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
from error_codes import raises
from napari.components import ViewerModel
from napari.layers import Image, Labels, Points

from napari_sam_lora._qt.layers.coordinates import (
    between_layers,
    current_plane,
    from_thin,
    plane_transform,
    thin_shape,
    to_thin,
    transform_of,
    world_to_data,
)
from napari_sam_lora._qt.layers.napari_stores import NapariSource, NapariStore
from napari_sam_lora.errors import InputError
from napari_sam_lora.session import PlaneKey

PLANE = PlaneKey.of("", 3, (1,))
TRANSFORMS: list[dict[str, Any]] = [
    {"scale": (3, 0.5, 2)},
    {"translate": (7, -3, 100)},
    {"scale": (2, 0.5, 0.5), "translate": (5, 6, 7), "rotate": np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])},
    {"scale": (2, 1, 1), "units": ("um", "nm", "nm")},
]


def stack(**kwargs: Any) -> Image:
    return Image(np.arange(4 * 5 * 6).reshape(4, 5, 6), **kwargs)


def write_twice(store: NapariStore, *values: int) -> None:
    with store.transaction():
        for value in values:
            store.write(PLANE, np.ones((4, 5), bool), value)


# Labels and their history


def test_a_write_is_one_step_of_napari_s_own_undo() -> None:
    layer = Labels(np.zeros((3, 4, 5), np.uint8))
    store = NapariStore(layer)
    where = np.zeros((4, 5), bool)
    where[1:3, 2] = True
    store.write(PLANE, where, 7)
    assert (layer.data[1] == 7).sum() == layer.data.astype(bool).sum() == 2
    layer.undo()
    assert not layer.data.any()
    assert store.redo()
    assert layer.data[1, 2, 2] == 7


def test_all_writes_of_a_transaction_are_one_step() -> None:
    layer = Labels(np.zeros((3, 4, 5), np.uint8))
    store = NapariStore(layer)
    with store.transaction():
        store.write(PLANE, np.ones((4, 5), bool), 1)
        with store.transaction():
            store.write(PLANE.neighbour(1), np.ones((4, 5), bool), 2)
    assert store.undo()
    assert not layer.data.any()
    assert not store.undo()


def test_a_transaction_that_fails_takes_back_its_writes_and_no_more() -> None:
    layer = Labels(np.zeros((3, 4, 5), np.uint8))
    store = NapariStore(layer)
    store.write(PLANE, np.ones((4, 5), bool), 1)
    with pytest.raises(ZeroDivisionError), store.transaction():
        raise ZeroDivisionError
    with raises(InputError, "id-out-of-range"):
        write_twice(store, 2, 256)
    assert (layer.data[1] == 1).all()
    assert store.undo()
    assert not layer.data.any()


def test_values_are_given_in_the_order_of_the_plane_that_is_seen() -> None:
    layer = Labels(np.zeros((3, 4, 5), np.int32))
    store, seen = NapariStore(layer), PlaneKey("", (2, 0), (1,))
    wanted = np.arange(1, 16).reshape(5, 3)
    store.write(seen, np.ones((5, 3), bool), wanted.ravel())
    np.testing.assert_array_equal(layer.data[:, 1, :].T, wanted)
    np.testing.assert_array_equal(store.read(seen), wanted)


def test_an_id_that_the_layer_cannot_hold_is_refused_and_nothing_written() -> None:
    layer = Labels(np.zeros((4, 5), np.uint8), name="cells")
    with raises(InputError, "id-out-of-range", match="'cells'.* 255"):
        NapariStore(layer).write(PlaneKey.of("", 2), np.ones((4, 5), bool), 256)
    assert not layer.data.any()


def test_a_layer_whose_array_is_read_only_is_refused() -> None:
    class ReadOnly:
        """Array without item assignment."""

        shape, ndim, dtype = (4, 5), 2, np.dtype(np.int32)

        def __getitem__(self, key: Any) -> Any:
            return np.zeros(self.shape, self.dtype)[key]

    layer = Labels(ReadOnly(), name="cells")
    with raises(InputError, "labels-read-only", match="'cells'"):
        NapariStore(layer).write(PlaneKey.of("", 2), np.ones((4, 5), bool), 1)


def test_the_largest_label_is_found_plane_by_plane_in_lazy_arrays() -> None:
    data = np.zeros((3, 4, 5), np.uint8)
    data[2, 3, 3] = 9
    assert NapariStore(Labels(da.from_array(data, chunks=(1, 4, 5)))).max_label() == 9
    assert NapariStore(Labels(data)).max_label() == 9


# Pixels


def test_a_lazy_stack_is_read_one_plane_at_a_time() -> None:
    read: list[int] = []

    def load(block_info: Any = None) -> Any:
        read.append(block_info[None]["chunk-location"][0])
        return np.full((1, 5, 6), read[-1])

    lazy = da.map_blocks(load, chunks=((1,) * 4, (5,), (6,)), dtype=int, meta=np.empty((0, 0, 0), int))
    source = NapariSource(Image(lazy, contrast_limits=(0, 4)))
    read.clear()
    assert (source.read(PlaneKey.of("", 3, (2,))) == 2).all()
    assert read == [2]


def test_the_full_resolution_of_a_multiscale_image_is_read() -> None:
    full = np.random.default_rng(0).random((3, 64, 64))
    source = NapariSource(Image([full, full[:, ::2, ::2]], multiscale=True))
    assert source.shape == (3, 64, 64)
    np.testing.assert_array_equal(source.read(PLANE), full[1])


def test_colours_are_no_axis_of_the_image() -> None:
    colours = np.random.default_rng(0).integers(0, 255, (4, 16, 20, 3), np.uint8)
    source = NapariSource(Image(colours, rgb=True))
    assert source.shape == (4, 16, 20)
    np.testing.assert_array_equal(source.read(PlaneKey("", (2, 1), (1,))), colours[1].swapaxes(0, 1))


# Planes


@pytest.mark.parametrize("transform", [{}, *TRANSFORMS])
def test_the_shown_plane_is_the_one_that_napari_slices(transform: dict[str, Any]) -> None:
    viewer = ViewerModel()
    layer = viewer.add_layer(stack(**transform))
    for step in range(4):
        viewer.dims.set_current_step(0, step)
        plane = current_plane(viewer, layer, "id")
        assert plane == PlaneKey("id", (1, 2), (step,))
        np.testing.assert_array_equal(NapariSource(layer).read(plane), layer._slice.image.raw)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1), (1, 2, 0)])
def test_the_shown_plane_follows_the_order_of_axes(order: tuple[int, int, int]) -> None:
    viewer = ViewerModel()
    layer = viewer.add_layer(stack(scale=(3, 1, 1)))
    viewer.dims.order = order
    viewer.dims.set_current_step(order[0], 2)
    plane = current_plane(viewer, layer, "id")
    assert plane == PlaneKey("id", order[1:], (2,))
    np.testing.assert_array_equal(NapariSource(layer).read(plane), layer._slice.image.view)


def test_there_is_no_plane_in_3d_nor_outside_of_the_image() -> None:
    viewer = ViewerModel()
    layer = viewer.add_layer(stack())
    viewer.add_layer(Image(np.zeros((9, 5, 6))))
    viewer.dims.set_current_step(0, 6)
    assert current_plane(viewer, layer, "") is None
    viewer.dims.set_current_step(0, 3)
    assert current_plane(viewer, layer, "") is not None
    viewer.dims.ndisplay = 3
    assert current_plane(viewer, layer, "") is None


def test_a_flat_image_beside_a_stack_has_one_plane() -> None:
    viewer = ViewerModel()
    viewer.add_layer(stack())
    flat = viewer.add_layer(Image(np.zeros((5, 6))))
    assert current_plane(viewer, flat, "") == PlaneKey("", (0, 1), ())
    viewer.dims.order = (1, 0, 2)
    assert current_plane(viewer, flat, "") is None


def test_a_position_in_mixed_units_is_found_in_the_data() -> None:
    viewer = ViewerModel()
    layer = viewer.add_layer(Image(np.zeros((50, 50)), scale=(0.5, 0.5), units=("um", "um")))
    viewer.add_layer(Image(np.zeros((50, 50)), scale=(100, 100), units=("nm", "nm")))
    assert str(viewer.dims.units[0]) == "nanometer"
    np.testing.assert_allclose(world_to_data(viewer, layer, (1000, 2500)), (2, 5))


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("plane", [PLANE, PlaneKey("", (2, 0), (3,))])
def test_a_layer_of_one_plane_lies_where_the_plane_lies(transform: dict[str, Any], plane: PlaneKey) -> None:
    image = stack(**transform)
    pixels = NapariSource(image).read(plane)
    thin = Labels(to_thin(pixels, plane), **plane_transform(image, plane))
    assert thin.data.shape == thin_shape(plane, (4, 5, 6))
    np.testing.assert_array_equal(from_thin(thin.data, plane), pixels)
    inside = np.zeros(3)
    inside[list(plane.axes)] = 2, 3
    whole = inside.copy()
    whole[list(plane.other_axes)] = plane.index
    np.testing.assert_allclose(thin.data_to_world(inside), image.data_to_world(whole))


def test_the_transform_of_a_layer_can_be_given_to_another_kind() -> None:
    image = stack(**TRANSFORMS[2])
    points = Points(np.zeros((1, 3)), ndim=3, **transform_of(image))
    np.testing.assert_allclose(points.data_to_world((1, 2, 3)), image.data_to_world((1, 2, 3)))


def test_points_of_a_flat_layer_with_another_scale_land_in_the_plane_that_is_shown() -> None:
    image = stack(scale=(2, 0.5, 0.5), translate=(0, 10, 10))
    points = Points([[11, 12]], scale=(1, 1))
    np.testing.assert_allclose(between_layers(points.data, points, image, PLANE), [[1, 2, 4]])

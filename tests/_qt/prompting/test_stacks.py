"""Stacks, transforms and lazy arrays in a real viewer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam_lora._qt.layers.napari_stores import NapariStore
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.io.samples import nuclei_pair
from napari_sam_lora.labels import LabelledObject
from napari_sam_lora.session import LabelSet, PlaneKey

from ..conftest import MakeController
from ..helpers import add_box, add_point, add_shape, drawn_on, iou, rows_of

Settle = Callable[[Controller], None]
TURN = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])


@pytest.fixture
def stack() -> NDArray[Any]:
    """Three images as a stack uint8 (plane, y, x)."""
    return np.stack([nuclei_pair(number)[0] for number in (4, 5, 6)])


def committed(controller: Controller, settle: Settle) -> NDArray[Any]:
    controller.commit()
    settle(controller)
    assert controller.active_layers.target_layer is not None
    return np.array(controller.active_layers.target_layer.data)


@pytest.fixture
def plain(controller: Controller, cell: LabelledObject, settle: Settle) -> NDArray[Any]:
    """Return the labels that a box gives in the plain image."""
    add_box(controller, cell.box)
    return committed(controller, settle)


@pytest.mark.parametrize(
    "transform",
    [
        {"scale": (4, 0.25, 0.25)},
        {"translate": (-2, 300, 7), "scale": (1, 2, 0.5)},
        {"rotate": TURN, "scale": (2, 0.5, 0.5), "translate": (1, 2, 3)},
        {"scale": (3, 650, 650), "units": ("um", "nm", "nm")},
        {"affine": np.array([[1, 0, 0, 5], [0, 0.9, 0.1, 0], [0, 0, 1.1, 2], [0, 0, 0, 1]])},
    ],
)
def test_masks_are_the_same_to_the_pixel_whatever_the_transform(
    viewer: Any,
    make_controller: MakeController,
    stack: NDArray[Any],
    cell: LabelledObject,
    settle: Settle,
    plain: NDArray[Any],
    transform: dict[str, Any],
) -> None:
    viewer.layers.clear()
    layer = viewer.add_image(stack, **transform)
    controller = make_controller(viewer)
    viewer.dims.set_current_step(0, 1)
    add_box(controller, cell.box, (1,))
    settle(controller)
    labels = committed(controller, settle)
    np.testing.assert_array_equal(labels[1], plain)
    assert not labels[[0, 2]].any()
    for made in (controller.active_layers.target_layer, *drawn_on(controller).all()):
        np.testing.assert_allclose(made.data_to_world((1, 2, 3)), layer.data_to_world((1, 2, 3)))
        assert made.units == layer.units
        assert made.axis_labels == layer.axis_labels
    shown = controller.previews.layer.layer
    np.testing.assert_allclose(shown.data_to_world((0, 2, 3)), layer.data_to_world((1, 2, 3)))  # type: ignore[union-attr]


def test_what_was_added_follows_when_the_image_is_moved(controller: Controller, cell: LabelledObject) -> None:
    add_point(controller, cell.centre)
    image = controller.active_layers.image_layer
    assert image is not None
    image.scale, image.translate = (0.5, 0.5), (10, 20)
    points = drawn_on(controller).points
    np.testing.assert_allclose(points.data_to_world((2, 3)), image.data_to_world((2, 3)))


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_any_view_of_a_stack_can_be_prompted(
    viewer: Any, make_controller: MakeController, settle: Settle, order: tuple[int, ...]
) -> None:
    z, y, x = np.ogrid[:40, :44, :48]
    inside = (z - 18) ** 2 + (y - 20) ** 2 + (x - 25) ** 2 < 100
    viewer.add_image(np.where(inside, 200, 20).astype(np.uint8), scale=(2, 1, 1))
    controller = make_controller(viewer)
    viewer.dims.order = order
    viewer.dims.set_current_step(order[0], (18, 20, 25)[order[0]])
    assert controller.active_layers.plane is not None
    assert controller.active_layers.plane.axes == order[1:]
    seen = list(order[1:])
    corners = np.tile((18.0, 20.0, 25.0), (4, 1))
    corners[:, seen] += np.array([[-10, -10], [-10, 10], [10, 10], [10, -10]])
    add_shape(controller, corners, "rectangle")
    labels = committed(controller, settle)
    wanted = np.take(inside, (18, 20, 25)[order[0]], order[0])
    found = np.take(labels, (18, 20, 25)[order[0]], order[0]) == 1
    assert iou(found, wanted) > 0.7
    assert labels.astype(bool).sum() == found.sum()


def test_prompts_stay_with_their_plane(
    viewer: Any, make_controller: MakeController, stack: NDArray[Any], settle: Settle
) -> None:
    viewer.add_image(stack)
    controller = make_controller(viewer)
    viewer.dims.set_current_step(0, 0)
    add_point(controller, (0, 100, 100))
    controller.draw_with("mask")
    painted = drawn_on(controller).mask
    painted.layer.data_setitem((np.array([0]), np.array([5]), np.array([6])), 1)
    viewer.dims.set_current_step(0, 1)
    assert not len(controller.session.prompts.draft(controller.active_layers.plane))  # type: ignore[arg-type]
    assert not painted.layer.data.any()
    assert controller.previews.preview is None
    viewer.dims.set_current_step(0, 0)
    (row,) = rows_of(controller)
    assert [item.kind for item in row] == ["point", "mask"]
    settle(controller)
    assert controller.previews.preview is not None


def test_only_the_plane_shown_and_its_neighbours_are_read_from_a_lazy_stack(
    viewer: Any, make_controller: MakeController, stack: NDArray[Any], settle: Settle, qtbot: Any
) -> None:
    read: Counter[int] = Counter()

    def load(block_info: Any = None) -> Any:
        place = block_info[None]["chunk-location"][0]
        read[place] += 1
        return stack[place % 3][None]

    chunks = ((1,) * 200, (256,), (256,))
    lazy = da.map_blocks(load, chunks=chunks, dtype=np.uint8, meta=np.empty((0, 0, 0), np.uint8))
    viewer.add_image(lazy, contrast_limits=(0, 255), cache=False)
    controller = make_controller(viewer)
    read.clear()
    viewer.dims.set_current_step(0, 90)
    add_point(controller, (90, 100, 100))
    settle(controller)
    qtbot.waitUntil(lambda: not controller.session.models.is_busy, timeout=20_000)
    add_point(controller, (90, 50, 50))
    settle(controller)
    assert set(read) <= set(range(88, 93))
    ours = Counter(read)
    assert ours[90] <= 3, "napari reads it once or twice, we once"


def test_a_plane_can_be_gone_to_whatever_is_shown(
    viewer: Any, make_controller: MakeController, stack: NDArray[Any]
) -> None:
    viewer.add_image(stack, scale=(5, 0.5, 0.5), translate=(3, 0, 0))
    controller = make_controller(viewer)
    viewer.dims.ndisplay = 3
    plane = PlaneKey(controller.image, (2, 0), (77,))
    controller.go_to(plane, centre=(1, 77, 200))
    assert controller.active_layers.plane == plane
    np.testing.assert_allclose(getattr(viewer, "scene", viewer).camera.center[1:], (100, 8))
    plane = PlaneKey(controller.image, (1, 2), (2,))
    controller.go_to(plane)
    assert controller.active_layers.plane == plane


def test_the_3d_view_has_no_plane_and_keeps_the_prompts(
    viewer: Any, make_controller: MakeController, stack: NDArray[Any]
) -> None:
    viewer.add_image(stack)
    controller = make_controller(viewer)
    plane = controller.active_layers.plane
    assert plane is not None
    add_point(controller, (plane.index[0], 100, 100))
    viewer.dims.ndisplay = 3
    assert controller.active_layers.plane is None
    controller.commit()
    viewer.dims.ndisplay = 2
    assert len(controller.session.prompts.draft(plane)) == 1


# Undo of what is not shown


def test_undo_shows_the_plane_that_it_changes(
    viewer: Any, make_controller: MakeController, stack: NDArray[Any]
) -> None:
    viewer.add_image(stack)
    controller = make_controller(viewer)
    layer, messages = controller.active_layers.make_target(), list[str]()
    controller.message.connect(messages.append)
    viewer.dims.set_current_step(0, 1)
    layer.paint((1, 50, 50), 3)
    controller.layers.flush()
    viewer.dims.set_current_step(0, 2)
    controller.undo()
    assert not layer.data.any()
    assert controller.active_layers.plane == PlaneKey.of(controller.image, 3, (1,))
    assert messages == ["Undone: painting, in the plane that is shown now."]
    controller.redo()
    assert messages[1:] == ["Redone: painting."]


def test_naparis_own_undo_shows_the_plane_too(
    viewer: Any, make_controller: MakeController, stack: NDArray[Any]
) -> None:
    viewer.add_image(stack)
    controller = make_controller(viewer)
    layer = controller.active_layers.make_target()
    viewer.dims.set_current_step(0, 1)
    layer.paint((1, 50, 50), 3)
    controller.layers.flush()
    viewer.dims.set_current_step(0, 2)
    layer.undo()
    controller.layers.flush()
    assert controller.active_layers.plane == PlaneKey.of(controller.image, 3, (1,))


def test_undo_in_a_hidden_layer_says_so(viewer: Any, make_controller: MakeController, stack: NDArray[Any]) -> None:
    viewer.add_image(stack, name="cells")
    controller = make_controller(viewer)
    layer, messages = controller.active_layers.make_target(), list[str]()
    controller.message.connect(messages.append)
    layer.paint((1, 50, 50), 3)
    controller.layers.flush()
    layer.visible = False
    controller.undo()
    assert messages == ["Undone: painting, in the hidden layer cells labels."]


def test_a_brush_of_three_dimensions_is_measured_in_all_planes_it_reaches(
    viewer: Any, make_controller: MakeController, stack: NDArray[Any]
) -> None:
    viewer.add_image(stack)
    controller = make_controller(viewer)
    layer = controller.active_layers.make_target()
    assert controller.target is not None
    assert controller.target.areas() == {}
    viewer.dims.set_current_step(0, 1)
    layer.n_edit_dimensions, layer.brush_size = 3, 5
    layer.paint((1, 50, 50), 3)
    controller.layers.flush()
    assert layer.data[0].any()
    assert controller.target.areas() == {3: np.count_nonzero(layer.data)}
    controller.undo()
    assert not layer.data.any()
    assert controller.target.areas() == {}


def test_commits_need_not_be_noted_as_painting(
    viewer: Any, make_controller: MakeController, stack: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.add_image(stack)
    controller = make_controller(viewer)
    layer = controller.active_layers.make_target()
    layer.paint((1, 50, 50), 3)  # in the plane that is shown
    controller.layers.flush()
    labels, noted = controller.target, list[PlaneKey]()
    assert labels is not None
    monkeypatch.setattr(labels, "note_painted", noted.append)
    labels.delete([3])
    controller.layers.flush()
    assert not layer.data.any()
    controller.undo()
    controller.layers.flush()
    assert layer.data.any()
    assert noted == []


def test_stepping_through_a_stack_reads_each_plane_of_the_labels_once_and_compares_none(
    viewer: Any, make_controller: MakeController, stack: NDArray[Any], qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.layers.clear()
    viewer.add_image(stack)
    labels = viewer.add_labels(np.zeros(stack.shape, np.uint16))
    make_controller(viewer)
    viewer.dims.set_current_step(0, 0)
    read, compared = list[PlaneKey](), list[PlaneKey]()
    original = NapariStore.read

    def note_read(self: NapariStore, plane: PlaneKey, box: Any = None) -> Any:
        read.append(plane)
        return original(self, plane, box)

    monkeypatch.setattr(NapariStore, "read", note_read)
    monkeypatch.setattr(LabelSet, "note_painted", lambda self, plane: compared.append(plane))
    for index in (1, 2, 1, 0, 1, 2):
        viewer.dims.set_current_step(0, index)
        qtbot.wait(20)
    assert sorted(plane.index for plane in set(read)) == [plane.index for plane in sorted(read)]
    assert not compared
    labels.data_setitem((np.array([2]), np.array([3]), np.array([4])), 1)
    qtbot.waitUntil(lambda: [plane.index for plane in compared] == [(2,)])

"""Random operations in random order (a monkey at the keyboard): nothing breaks and no label is lost."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from numpy.typing import NDArray
from qtpy.QtWidgets import QApplication

from napari_sam_lora import Model, load_model
from napari_sam_lora._qt.layers.coordinates import plane_to_data
from napari_sam_lora._qt.layers.napari_stores import is_managed
from napari_sam_lora._qt.prompting.panel import PromptPanel
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.io.samples import nuclei_pair
from napari_sam_lora.session import PlaneKey

from .conftest import WAIT_MS, MakeController
from .helpers import click

OPERATIONS = 300
SIDE = 96
TOOLS = ("point", "box", "lasso", "scribble", "mask")


class Monkey:
    """Random operations of a user on a viewer."""

    def __init__(self, viewer: Any, controller: Controller, models: list[Model], wait: Any, seed: int) -> None:
        self.wait = partial(wait, timeout=WAIT_MS)
        self.viewer, self.controller, self.models = viewer, controller, models
        self.random = np.random.default_rng(seed)
        self.done: list[str] = []

    def step(self) -> None:
        names = [name for name in dir(self) if name.startswith("do_")]
        name = str(self.random.choice(names))
        self.done.append(name)
        getattr(self, name)()

    def position(self) -> NDArray[Any]:
        return self.random.uniform(2, SIDE - 3, 2)

    def at(self, *positions: NDArray[Any]) -> NDArray[Any]:
        """Convert positions in the shown plane to data coordinates."""
        plane = self.controller.active_layers.plane or PlaneKey("", (1, 2), (0,))
        return plane_to_data(np.array(positions), plane)

    def do_point(self) -> None:
        self.controller.draw_with("point")
        self.controller.drawing.layers.points.add(self.at(self.position()))  # type: ignore[union-attr]

    def do_box(self) -> None:
        self.shape("rectangle")

    def do_lasso(self) -> None:
        self.shape("polygon")

    def do_scribble(self) -> None:
        self.shape("path")

    def do_mask(self) -> None:
        self.controller.draw_with("mask")
        layer = self.controller.drawing.layers.mask.layer  # type: ignore[union-attr]
        if layer is not None:
            layer.paint(np.minimum(self.at(self.position())[0], np.array(layer.data.shape) - 1), layer.selected_label)

    def do_shift_click(self) -> None:
        click(self.viewer, self.at(self.position())[0], ("Shift",))

    def do_move_a_point(self) -> None:
        layer = self.controller.drawing.layers.points  # type: ignore[union-attr]
        if layer is not None and len(layer.data):
            data = layer.data.copy()
            data[self.random.integers(len(data)), 1:] = self.position()
            layer.data = data

    def do_delete_prompts(self) -> None:
        for layer in self.controller.drawing.layers.all():  # type: ignore[union-attr]
            if hasattr(layer, "remove_selected") and len(layer.data):
                layer.selected_data = {int(self.random.integers(len(layer.data)))}
                layer.remove_selected()

    def do_commit(self) -> None:
        self.controller.commit()

    def do_commit_and_wait(self) -> None:
        self.controller.commit()
        self.settle()

    def do_next_object(self) -> None:
        self.controller.drawing.next_object()

    def do_reset(self) -> None:
        self.controller.clear_prompts()

    def do_polarity(self) -> None:
        self.controller.drawing.toggle_polarity()

    def do_batch(self) -> None:
        self.controller.drawing.set_batch(not self.controller.drawing.batch)

    def do_option(self) -> None:
        threshold = float(self.random.uniform(-2, 2))
        self.controller.set_options(threshold=threshold, fill_holes=bool(self.random.integers(2)))

    def do_policy(self) -> None:
        target = str(self.random.choice(["new", "part"]))
        self.controller.set_policy(target=target, label=int(self.random.integers(1, 9)))

    def do_undo_and_redo(self) -> None:
        self.controller.undo()
        self.controller.redo()

    def do_plane(self) -> None:
        self.viewer.dims.set_current_step(self.viewer.dims.order[0], int(self.random.integers(0, 3)))

    def do_transpose(self) -> None:
        self.viewer.dims.order = tuple(self.random.permutation(3))

    def do_3d_and_back(self) -> None:
        self.viewer.dims.ndisplay = 3
        self.viewer.dims.ndisplay = 2

    def do_delete_a_prompt_layer(self) -> None:
        ours = [layer for layer in self.viewer.layers if is_managed(layer)]
        if ours:
            self.viewer.layers.remove(ours[self.random.integers(len(ours))])

    def do_move_layers(self) -> None:
        self.viewer.layers.move(0, len(self.viewer.layers))

    def do_rename(self) -> None:
        layer = self.viewer.layers[self.random.integers(len(self.viewer.layers))]
        layer.name = f"name {self.random.integers(9)}"

    def do_replace_the_image(self) -> None:
        image = self.controller.active_layers.image_layer
        assert image is not None
        index = self.viewer.layers.index(image)
        self.viewer.layers.pop(index)
        self.viewer.add_image(image.data.copy(), scale=image.scale)

    def do_switch_model(self) -> None:
        session = self.controller.session
        session.models._model = self.models[int(session.models.model is self.models[0])]
        session.models.model_changed.emit()

    def do_paint_labels(self) -> None:
        layer = self.controller.active_layers.target_layer
        if layer is not None:
            self.settle()
            index = np.minimum(np.rint(self.at(self.position())), np.array(layer.data.shape) - 1).astype(int)
            layer.data_setitem(tuple(index.T), 1000)

    def do_bring_back(self) -> None:
        records = () if self.controller.target is None else self.controller.target.records()
        if records:
            self.controller.bring_back(records[self.random.integers(len(records))].id)

    def shape(self, kind: str) -> None:
        self.controller.draw_with({"rectangle": "box", "polygon": "lasso", "path": "scribble"}[kind])  # type: ignore[arg-type]
        (y0, x0), (y1, x1) = self.position(), self.position()
        corners = self.at(*(np.array(corner) for corner in ((y0, x0), (y0, x1), (y1, x1), (y1, x0))))
        self.controller.drawing.layers.shapes.add(corners, shape_type=kind)  # type: ignore[union-attr]

    def settle(self) -> None:
        self.wait(lambda: not self.controller.previews.is_waiting)


class MonkeyAmongImages(Monkey):
    """Also selects, chooses, hides and shows images; checks that only labels of the segmented image change."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.owners: dict[Any, Any] = {}
        self.written: set[str] = set()

    def an_image(self) -> Any:
        images = self.controller.layers.images()
        return images[self.random.integers(len(images))]

    def do_select_an_image(self) -> None:
        self.viewer.layers.selection.active = self.an_image()

    def do_choose_an_image(self) -> None:
        self.controller.active_layers.select_image(self.an_image())

    def do_hide_or_show_an_image(self) -> None:
        image = self.an_image()
        image.visible = not image.visible

    def do_add_an_object(self) -> None:
        self.viewer.dims.order = (0, 1, 2)
        self.do_box()
        self.do_commit_and_wait()

    def do_add_an_object_to_another_image(self) -> None:
        self.do_choose_an_image()
        self.do_add_an_object()

    def do_rename(self) -> None:  # to names that say nothing about pairs
        self.viewer.layers[self.random.integers(len(self.viewer.layers))].name = f"{len(self.done)} renamed"

    def checked_step(self) -> None:
        """Do something, and check which labels it has changed."""
        layers, active = self.controller.layers, self.controller.active_layers
        before, chosen = {layer: layer.data.copy() for layer in layers.labels()}, [active.image_layer]
        self.step()
        QApplication.processEvents()
        chosen.append(active.image_layer)
        for layer in layers.labels():
            if self.owners.get(layer) not in layers.images():  # new labels, or those of an image that was replaced
                self.owners[layer] = chosen[-1]
            changed = (layer.data != before.get(layer, 0)).any()
            if changed and self.done[-1] != "do_undo_and_redo":
                assert self.owners[layer] in chosen, (self.done[-5:], layer.name, chosen)
                self.written.add(self.controller.layers.id_of(self.owners[layer]))


@pytest.fixture
def other_nano() -> Model:
    return load_model("sam_nano", device="cpu", input_size=128)


def test_a_monkey_breaks_nothing_and_loses_no_label(
    viewer: Any, make_controller: MakeController, other_nano: Model, nano: Model, qtbot: Any
) -> None:
    stack = np.stack([nuclei_pair(number)[0][:SIDE, :SIDE] for number in (1, 2, 3)])
    viewer.add_image(stack, scale=(2, 0.5, 0.5))
    controller = make_controller(viewer)
    panel = PromptPanel(viewer)
    viewer.window.add_dock_widget(panel)
    errors: list[Any] = []
    notification_manager.notification_ready.connect(errors.append)
    monkey = Monkey(viewer, controller, [nano, other_nano], qtbot.waitUntil, seed=0)
    before: NDArray[Any] | None = None
    for _ in range(OPERATIONS):
        layer = controller.active_layers.target_layer
        before = None if layer is None else layer.data.copy()
        monkey.step()
        QApplication.processEvents()
        if layer is not None and before is not None and controller.policy.target != "replace":
            lost = (before > 0) & (layer.data != before)
            replaced = monkey.done[-1] in ("do_commit", "do_commit_and_wait", "do_paint_labels", "do_bring_back")
            assert replaced or not lost.any(), (monkey.done[-5:], before[lost], layer.data[lost])
    monkey.settle()
    notification_manager.notification_ready.disconnect(errors.append)
    failures = [error for error in errors if str(error.severity) == "error"]
    assert not failures, (failures, monkey.done[-5:])
    assert len(set(monkey.done)) > 20
    target = controller.target
    if target is not None and controller.active_layers.target_layer is not None:
        present = {int(label) for label in np.unique(controller.active_layers.target_layer.data) if label}
        assert {record.id for record in target.records()} == present


def test_a_monkey_changes_no_labels_of_another_image(
    viewer: Any, make_controller: MakeController, other_nano: Model, nano: Model, qtbot: Any
) -> None:
    for name, number in (("a", 1), ("b", 2), ("c", 3)):
        viewer.add_image(
            np.stack([nuclei_pair(number)[0][:SIDE, :SIDE]] * 3), name=name, scale=(2, 0.5, 0.5), visible=name != "b"
        )
    coarse = nuclei_pair(4)[0][: SIDE // 2, : SIDE // 2]
    viewer.add_image(np.stack([coarse] * 2), name="another grid", scale=(3, 1, 1), translate=(0.4, 0, 0))
    controller = make_controller(viewer)
    viewer.window.add_dock_widget(PromptPanel(viewer))
    errors: list[Any] = []
    notification_manager.notification_ready.connect(errors.append)
    monkey = MonkeyAmongImages(viewer, controller, [nano, other_nano], qtbot.waitUntil, seed=1)
    for _ in range(OPERATIONS // 4):
        monkey.checked_step()
    monkey.settle()
    notification_manager.notification_ready.disconnect(errors.append)
    failures = [error for error in errors if str(error.severity) == "error"]
    assert not failures, (failures, monkey.done[-5:])
    assert len(monkey.written) > 1

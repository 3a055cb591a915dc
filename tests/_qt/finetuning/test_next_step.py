"""After a run that helped, everything is found in the next image or plane with one click."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from napari_sam_lora._qt.finetuning.controller import FinetuningController, finetuning_controller_of
from napari_sam_lora._qt.finetuning.next_step import NEXT_IMAGE, NEXT_PLANE, NO_OTHER, NextStepBox
from napari_sam_lora._qt.prompting.panel import PromptPanel
from napari_sam_lora._qt.viewer.controller import Controller, controller_of
from napari_sam_lora.io.samples import nuclei_pair
from napari_sam_lora.session import PlaneKey, Session

from ..conftest import WAIT_MS
from ..tuning import random_adapter, small_model


@dataclass
class Ended:
    """The event of a run that has ended."""

    report: Any
    is_final: bool = True
    adapter: str = ""  # that of the session, which has none
    state: str = "ended"


@pytest.fixture
def controller(viewer: Any, qapp: Any, registered: None) -> Iterator[Controller]:
    made = Controller(viewer, qapp, Session(small_model()))
    yield made
    made.close()


@pytest.fixture
def step(controller: Controller, put: Any) -> NextStepBox:
    made: NextStepBox = put(NextStepBox(controller, finetuning_controller_of(controller)))
    return made


def end_run(controller: Controller, *trained_on: str, verdict: str = "better") -> None:
    """Let a run on some images end with a verdict."""
    finetuning: FinetuningController = finetuning_controller_of(controller)
    planes: list[Any] = [SimpleNamespace(plane=PlaneKey.of(name, 2)) for name in trained_on]
    finetuning.planes = tuple(planes)
    finetuning.latest = cast("Any", Ended(SimpleNamespace(verdict=verdict)))
    finetuning.run_changed.emit()


def open_image(controller: Controller, name: str, objects: int = 0) -> Any:
    """Open a small image, with labels of some objects."""
    image = controller.viewer.add_image(nuclei_pair(5)[0][:64, :64], name=name)
    if objects:
        labels = np.zeros((64, 64), int)
        labels[::8, :objects] = np.arange(1, objects + 1)
        controller.viewer.add_labels(labels, name=f"{name} labels")
    return image


def test_the_button_is_there_only_after_a_run_that_helped(step: NextStepBox, controller: Controller) -> None:
    open_image(controller, "A", 3)
    open_image(controller, "B")
    assert step.isHidden()
    end_run(controller, "A", verdict="not better")
    assert step.isHidden()
    end_run(controller, "A")
    assert not step.isHidden()
    assert step.go.text() == NEXT_IMAGE
    assert "in B;" in step.go.toolTip()


def test_the_button_is_there_only_while_the_adapter_is_in_use(step: NextStepBox, controller: Controller) -> None:
    open_image(controller, "A", 3)
    open_image(controller, "B")
    finetuning = finetuning_controller_of(controller)
    name = controller.session.models.adapters.add(random_adapter(), "a")
    finetuning.latest = cast("Any", Ended(SimpleNamespace(verdict="better"), adapter=name))
    finetuning.run_changed.emit()
    assert step.isHidden()
    controller.session.models.activate(name)
    assert not step.isHidden()


def test_without_another_image_the_button_says_what_is_missing(step: NextStepBox, controller: Controller) -> None:
    open_image(controller, "A", 3)
    end_run(controller, "A")
    assert not step.go.isEnabled()
    assert step.hint.text() == NO_OTHER
    open_image(controller, "B")
    assert step.go.isEnabled()
    assert step.hint.text() == ""


def test_the_image_with_the_fewest_objects_comes_next(step: NextStepBox, controller: Controller) -> None:
    trained = open_image(controller, "A", 3)
    for name, objects in (("B", 5), ("C", 0), ("D", 0)):
        open_image(controller, name, objects)
    controller.active_layers.choose_image(trained)
    end_run(controller, "A")
    assert "in C;" in step.go.toolTip()
    controller.viewer.layers.remove("C")
    controller.viewer.layers.remove("D")
    assert "in B;" in step.go.toolTip()


def test_one_click_finds_everything_in_the_next_image(step: NextStepBox, controller: Controller, qtbot: Any) -> None:
    viewer = controller.viewer
    hidden = open_image(controller, "B")
    hidden.visible = False
    trained = open_image(controller, "A", 3)
    controller.active_layers.choose_image(trained)
    end_run(controller, "A")
    step.go.click()
    assert controller.image == "B"
    assert hidden.visible
    assert not trained.visible
    panel = viewer.window.add_plugin_dock_widget("napari-sam-lora", "Prompt and segment")[1]
    assert isinstance(panel, PromptPanel)
    assert panel.controller is controller_of(viewer) is controller
    everything = panel._everything.everything
    qtbot.waitUntil(lambda: everything.state == "found", timeout=WAIT_MS)
    assert everything.review.findings.images == ["B"]
    panel._everything.accept.click()
    qtbot.waitUntil(lambda: everything.state == "idle", timeout=WAIT_MS)
    assert viewer.layers["B labels"].data.any()
    assert len(np.unique(viewer.layers["A labels"].data)) - 1 == 3


def test_in_a_single_stack_the_next_plane_without_objects_is_searched(
    step: NextStepBox, controller: Controller, qtbot: Any
) -> None:
    viewer = controller.viewer
    viewer.add_image(np.stack([nuclei_pair(5)[0][:64, :64]] * 3), name="stack")
    viewer.dims.set_current_step(0, 1)
    square = np.zeros((3, 64, 64), np.int32)
    square[1:, 3:8, 3:8] = 1
    viewer.add_labels(square, name="stack labels")
    end_run(controller, "stack")
    assert step.go.text() == NEXT_PLANE
    step.go.click()
    assert viewer.dims.current_step[0] == 0
    panel = viewer.window.add_plugin_dock_widget("napari-sam-lora", "Prompt and segment")[1]
    qtbot.waitUntil(lambda: panel._everything.everything.state == "found", timeout=WAIT_MS)
    assert [plane.index for plane in panel._everything.everything.review.findings.planes] == [(0,)]

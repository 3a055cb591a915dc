"""Regression tests of propagation in the viewer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication

from napari_sam_lora._qt.adapters.panel import AdaptersPanel
from napari_sam_lora._qt.propagation.controller import propagation_controller_of
from napari_sam_lora._qt.propagation.panel import ADDING_FIRST, PropagationBox
from napari_sam_lora._qt.propagation.progress_view import LOADING
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.errors import InputError
from napari_sam_lora.session import Session

from ..helpers import add_box, iou
from ..tuning import SOON_MS, random_adapter, small_model
from .test_propagation import CENTRES, KEY, PLANES, box, controller, disc, make_stack, pixels, propagated

__all__ = ["box", "controller"]  # fixtures


@pytest.fixture
def time_series(viewer: Any) -> Any:
    """Return the controller of a viewer with the stack at three times (t, z, y, x), labelled at one of them."""
    image, labels = make_stack()
    names = ("t", "z", "y", "x")
    viewer.add_image(np.stack([image] * 3), name="time series", axis_labels=names)
    none = np.zeros_like(labels)
    viewer.add_labels(np.stack([none, labels, none]), name="cells", axis_labels=names)
    viewer.dims.set_current_step(0, 1)
    viewer.dims.set_current_step(1, KEY)
    made = Controller(viewer, QApplication.instance(), Session(small_model()))
    yield made
    made.close()


def test_a_whole_stack_is_propagated_along_the_axis_of_the_prompt_panel(
    time_series: Controller, put: Callable[[Any], Any], qtbot: Any
) -> None:
    default_axis = put(PropagationBox(time_series, list)).range.axis
    panel = AdaptersPanel(time_series.viewer)
    time_series.viewer.window.add_dock_widget(panel)
    propagation_controller = propagation_controller_of(time_series)
    time_series.session.models.adapters.add(random_adapter(), "a")
    time_series.session.models.activate("a")
    panel.resegment.stack.click()
    qtbot.waitUntil(lambda: propagation_controller.state == "found", timeout=SOON_MS)
    assert propagation_controller.request is not None
    assert propagation_controller.request.axis == default_axis == 1
    assert propagation_controller.proposal is not None
    indices = {change.plane.index for change in propagation_controller.proposal.changes}
    assert {time for time, _ in indices} == {1}
    assert len({plane for _, plane in indices}) > 1
    propagation_controller.discard()
    put(panel)


def test_the_range_of_planes_stays_while_looking_in_3d(box: PropagationBox) -> None:
    viewer = box._controller.viewer
    box.range.first.setValue(2)
    box.range.last.setValue(5)
    viewer.dims.ndisplay = 3
    box.refresh()
    assert not box.propagate.isEnabled() or box.propagate.isHidden()
    viewer.dims.ndisplay = 2
    box.refresh()
    assert box.range.bounds == (2, 5)
    assert box.propagate.isEnabled()


def test_the_preview_has_all_planes_at_the_end(box: PropagationBox, qtbot: Any) -> None:
    propagated(box, qtbot)
    assert box.propagation_controller.proposal is not None
    changed = {change.plane.index[0] for change in box.propagation_controller.proposal.changes}
    shown = np.asarray(box._controller.viewer.layers["SAM propagation"].data)
    assert {index for index, plane in enumerate(shown) if plane.any()} == changed == {*range(PLANES)} - {KEY}


def test_prompts_that_are_cleared_while_they_are_added_are_not_waited_for(box: PropagationBox, qtbot: Any) -> None:
    controller = box._controller
    qtbot.waitUntil(box.propagate.isEnabled, timeout=SOON_MS)
    add_box(controller, (8, 30, 29, 55), (KEY,))
    controller.session.models.cancel("preview")
    box.propagate.click()
    assert box.hint.text() == ADDING_FIRST
    assert not box.propagate.isEnabled()
    controller.clear_prompts()
    qtbot.waitUntil(box.propagate.isEnabled, timeout=SOON_MS)
    assert box.hint.text() != ADDING_FIRST
    assert box.propagation_controller.state == "idle"


def test_a_propagation_that_cannot_start_leaves_nothing_behind(
    box: PropagationBox, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = box._controller

    def refuse(*_: Any, **__: Any) -> Any:
        raise InputError("That cannot be.")

    with monkeypatch.context() as patched:
        patched.setattr(controller.session.propagation, "start", refuse)
        before = pixels(box)
        box.propagate.click()
    assert notification_manager.records[-1].message == "That cannot be."
    assert box.propagation_controller.state == "idle"
    assert "SAM propagation" not in controller.viewer.layers
    assert np.array_equal(pixels(box), before)
    propagated(box, qtbot)  # and it can be tried again
    assert box.propagation_controller.accepted_labels == (1, 2)


def test_the_default_model_is_loaded_and_used_where_there_is_none(viewer: Any, put: Any, qtbot: Any) -> None:
    image, labels = make_stack()
    viewer.add_image(image)
    viewer.add_labels(labels)
    controller = Controller(viewer, QApplication.instance(), Session())
    viewer.dims.set_current_step(0, KEY)
    box = put(PropagationBox(controller, list))
    box.range.first.setValue(KEY)
    box.range.last.setValue(KEY + 1)
    box.propagate.click()
    assert box.view.state.text() == LOADING
    qtbot.waitUntil(lambda: box.propagation_controller.state == "found", timeout=SOON_MS)
    assert controller.session.models.model is not None
    assert controller.session.models.model.loaded.name == "sam_nano"
    box.view.accept.click()
    for label, centre in CENTRES.items():
        assert iou(pixels(box)[KEY + 1] == label, disc(*centre)) > 0.7
    controller.close()

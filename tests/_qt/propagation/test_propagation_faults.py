"""What once went wrong with propagating in the viewer, each with a test of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication

from napari_sam_lora._qt.adapters.panel import AdaptersPanel
from napari_sam_lora._qt.propagation.controller import propagation_controller_of
from napari_sam_lora._qt.propagation.panel import PropagationBox
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.errors import InputError
from napari_sam_lora.session import Session

from ..helpers import add_box, iou
from ..tuning import SOON_MS, made_adapter, small_model
from .test_propagation import CENTRES, KEY, PLANES, box, controller, disc, make_stack, pixels, propagated

__all__ = ["box", "controller"]  # fixtures


@pytest.fixture
def films(viewer: Any) -> Any:
    """The stack at three times (t, z, y, x), labelled at one."""
    image, labels = make_stack()
    names = ("t", "z", "y", "x")
    viewer.add_image(np.stack([image] * 3), name="films", axis_labels=names)
    none = np.zeros_like(labels)
    viewer.add_labels(np.stack([none, labels, none]), name="cells", axis_labels=names)
    viewer.dims.set_current_step(0, 1)
    viewer.dims.set_current_step(1, KEY)
    made = Controller(viewer, QApplication.instance(), Session(small_model()))
    yield made
    made.close()


def test_a_whole_stack_is_gone_through_along_the_axis_of_the_prompt_panel(
    films: Controller, put: Callable[[Any], Any], qtbot: Any
) -> None:
    usual = put(PropagationBox(films, list)).range.axis
    panel = AdaptersPanel(films.viewer)
    films.viewer.window.add_dock_widget(panel)
    desk = propagation_controller_of(films)
    films.session.adapters.add(made_adapter(), "a")
    films.session.activate("a")
    panel.resegment.stack.click()
    qtbot.waitUntil(lambda: desk.state == "found", timeout=SOON_MS)
    assert desk.request is not None
    assert desk.request.axis == usual == 1
    assert desk.proposal is not None
    indices = {change.plane.index for change in desk.proposal.changes}
    assert {time for time, _ in indices} == {1}
    assert len({plane for _, plane in indices}) > 1
    desk.discard()
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
    assert box.propagation.proposal is not None
    changed = {change.plane.index[0] for change in box.propagation.proposal.changes}
    shown = np.asarray(box._controller.viewer.layers["SAM propagation"].data)
    assert {index for index, plane in enumerate(shown) if plane.any()} == changed == {*range(PLANES)} - {KEY}


def test_prompts_that_are_reset_while_they_are_added_are_not_waited_for(box: PropagationBox, qtbot: Any) -> None:
    controller = box._controller
    qtbot.waitUntil(box.propagate.isEnabled, timeout=SOON_MS)
    add_box(controller, (8, 30, 29, 55), (KEY,))
    controller.session.cancel("preview")
    box.propagate.click()
    assert "Adding what you are drawing" in box.hint.text()
    assert not box.propagate.isEnabled()
    controller.clear_prompts()
    qtbot.waitUntil(box.propagate.isEnabled, timeout=SOON_MS)
    assert "Adding" not in box.hint.text()
    assert box.propagation.state == "idle"


def test_what_cannot_begin_leaves_nothing_behind(
    box: PropagationBox, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = box._controller

    def refuse(*_: Any, **__: Any) -> Any:
        raise InputError("That cannot be.")

    with monkeypatch.context() as patched:
        patched.setattr(controller.session, "propagate", refuse)
        before = pixels(box)
        box.propagate.click()
    assert notification_manager.records[-1].message == "That cannot be."
    assert box.propagation.state == "idle"
    assert "SAM propagation" not in controller.viewer.layers
    assert np.array_equal(pixels(box), before)
    propagated(box, qtbot)  # and it can be tried again
    assert box.propagation.kept == (1, 2)


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
    assert box.view.state.text() == "Loading the model…"
    qtbot.waitUntil(lambda: box.propagation.state == "found", timeout=SOON_MS)
    assert controller.session.model is not None
    assert controller.session.model.loaded.name == "sam_nano"
    box.view.accept.click()
    for label, centre in CENTRES.items():
        assert iou(pixels(box)[KEY + 1] == label, disc(*centre)) > 0.7
    controller.close()

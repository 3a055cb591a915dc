"""Propagation through a stack in the viewer: preview, stop, resume, accept and discard."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QApplication, QSpinBox, QVBoxLayout, QWidget

from napari_sam_lora._qt.adapters.panel import AdaptersPanel
from napari_sam_lora._qt.layers.napari_stores import is_managed
from napari_sam_lora._qt.objects.model import ORIGIN
from napari_sam_lora._qt.prompting.panel import PromptPanel
from napari_sam_lora._qt.propagation.controller import ACCEPTED, DISCARDED, LAYERS_REMOVED, propagation_controller_of
from napari_sam_lora._qt.propagation.panel import (
    DRAWN_TOO,
    NO_IMAGE,
    NO_OBJECTS,
    NO_PLANE,
    ONE_PLANE,
    PropagationBox,
)
from napari_sam_lora._qt.propagation.progress_view import NO_PREVIEW
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.preferences import RememberedSettings
from napari_sam_lora._qt.widgets.controls import Notice
from napari_sam_lora._qt.widgets.layout import collapsible
from napari_sam_lora._qt.widgets.parameter_form import AUTOMATIC
from napari_sam_lora.parameters.propagation import PropagationConfig
from napari_sam_lora.parameters.schema import parameters_of
from napari_sam_lora.session import ImageSource, PlaneKey, Priority, Session
from napari_sam_lora.session.plane_key import Box

from ..helpers import add_box, click, iou
from ..tuning import SOON_MS, random_adapter, small_model

PLANES, KEY = 7, 3
CENTRES = {1: (18, 18), 2: (44, 42)}


def disc(y: int, x: int, radius: int = 10) -> NDArray[np.bool_]:
    ys, xs = np.mgrid[:64, :64]
    return np.asarray((ys - y) ** 2 + (xs - x) ** 2 < radius**2)


def make_stack() -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return an image with two discs through all planes, and labels of both in plane 3."""
    image = np.full((PLANES, 64, 64), 40, np.uint8)
    labels = np.zeros(image.shape, np.int32)
    for label, centre in CENTRES.items():
        image[:, disc(*centre)] = 200
        labels[KEY][disc(*centre)] = label
    return image, labels


@pytest.fixture
def controller(viewer: Any) -> Iterator[Controller]:
    """Controller of a viewer with the stack, at the labelled plane."""
    image, labels = make_stack()
    viewer.add_image(image, name="stack", scale=(3, 0.5, 0.5), units=("um", "um", "um"), axis_labels=("z", "y", "x"))
    viewer.add_labels(labels, name="cells", scale=(3, 0.5, 0.5), units=("um", "um", "um"), axis_labels=("z", "y", "x"))
    made = Controller(viewer, QApplication.instance(), Session(small_model()))
    viewer.dims.set_current_step(0, KEY)
    yield made
    made.close()


class SlowSource:
    """Source that takes its time to read a plane."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        self.name, self.shape, self.spacing = source.name, source.shape, source.spacing

    def read(self, plane: PlaneKey, box: Box | None = None) -> NDArray[Any]:
        time.sleep(0.15)
        return self._source.read(plane, box)


@pytest.fixture
def slowly(controller: Controller) -> None:
    """Make each plane take long enough for the test to act meanwhile."""
    session, image = controller.session, controller.image
    session.add_image(image, SlowSource(session.images[image]))


@pytest.fixture
def box(controller: Controller, put: Callable[[Any], Any]) -> PropagationBox:
    made: PropagationBox = put(PropagationBox(controller, lambda: [2]))
    return made


def propagated(box: PropagationBox, qtbot: Any, state: str = "found") -> None:
    """Press the button and wait until the propagation can be accepted."""
    box.propagate.click()
    qtbot.waitUntil(lambda: box.propagation_controller.state == state, timeout=SOON_MS)


def pixels(box: PropagationBox) -> NDArray[Any]:
    return np.array(box._controller.active_layers.target_layer.data)  # type: ignore[union-attr]


def numbers_in(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def planes_with(box: PropagationBox, label: int) -> list[int]:
    return [index for index, plane in enumerate(pixels(box)) if (plane == label).any()]


def test_the_settings_and_their_defaults_are_those_of_the_engine(box: PropagationBox) -> None:
    values = box.form.values()
    assert PropagationConfig(**values) == PropagationConfig()
    assert {*values, "first", "last"} == set(PropagationConfig.__dataclass_fields__)
    for one in parameters_of(PropagationConfig):
        assert set(one.choices) - {AUTOMATIC} == (set(get_args(one.kind)) if one.choices else set())
    assert box.form.fields["projection"].value == AUTOMATIC


@pytest.mark.usefixtures("slowly")
def test_objects_are_previewed_plane_by_plane_and_accepted_as_one_step(box: PropagationBox, qtbot: Any) -> None:
    controller, before, filled = box._controller, pixels(box), list[list[int]]()
    assert numbers_in(box.hint.text()) == [2, 0, 6], "two objects, and the first and last plane"

    def note() -> None:
        layer = box.propagation_controller.layer.layer
        if layer is not None and box.propagation_controller.state == "running":
            filled.append([index for index, plane in enumerate(layer.data) if plane.any()])

    box.propagation_controller.changed.connect(note)
    propagated(box, qtbot)
    assert len({tuple(one) for one in filled}) > 2, "the preview fills while the propagation is running"
    layer = box.propagation_controller.layer.layer
    assert layer is not None
    assert is_managed(layer)
    assert np.allclose(layer.scale, (3, 0.5, 0.5))
    assert sorted(np.unique(layer.data)) == [0, 1, 2]
    assert np.array_equal(pixels(box), before)
    assert numbers_in(box.view.state.text()) == [2, 6], "two objects in six planes"
    box.view.accept.click()
    assert "SAM propagation" not in controller.viewer.layers
    for label, centre in CENTRES.items():
        for plane in pixels(box):
            assert iou(plane == label, disc(*centre)) > 0.7
    assert numbers_in(box.view.state.text()) == [2]
    assert box.view.state.text().endswith(ACCEPTED)
    controller.undo()
    assert np.array_equal(pixels(box), before)


@pytest.mark.usefixtures("slowly")
def test_a_stopped_propagation_resumes_where_it_was(box: PropagationBox, qtbot: Any) -> None:
    propagation_controller = box.propagation_controller
    box._controller.events.progressed.connect(
        lambda *_: box.view.stop.click() if propagation_controller.done == 2 else None
    )
    propagated(box, qtbot, "stopped")
    assert 2 <= propagation_controller.done < 6
    assert (
        box.view.go_on.text()
        == f"Go on: {6 - propagation_controller.done} plane{'s' * (propagation_controller.done < 5)} left"
    )
    assert numbers_in(box.view.state.text())[:2] == [propagation_controller.done, 6]
    assert not box.propagate.isVisible()
    box._controller.events.progressed.disconnect()
    box.view.go_on.click()
    qtbot.waitUntil(lambda: propagation_controller.state == "found", timeout=SOON_MS)
    box.view.accept.click()
    assert planes_with(box, 1) == planes_with(box, 2) == [*range(PLANES)]


@pytest.mark.usefixtures("slowly")
@pytest.mark.parametrize("layer", ["", "cells"])
def test_a_propagation_that_waits_for_a_prompt_is_stopped_at_once(box: PropagationBox, qtbot: Any, layer: str) -> None:
    session, released = box._controller.session, threading.Event()
    box.propagate.click()
    prompt = session.models._worker.submit_with(Priority.PROMPT, "prompt", lambda _: released.wait(20))
    qtbot.waitUntil(lambda: prompt.running() and box.propagation_controller.state == "running", timeout=SOON_MS)
    if layer:
        box._controller.viewer.layers.remove(layer)
    else:
        box.view.stop.click()
    assert box.propagation_controller.state == ("idle" if layer else "stopped")
    released.set()
    assert prompt.result(20)


@pytest.mark.usefixtures("slowly")
def test_objects_found_before_a_stop_can_be_accepted(box: PropagationBox, qtbot: Any) -> None:
    box._controller.events.progressed.connect(
        lambda *_: box.view.stop.click() if box.propagation_controller.done == 1 else None
    )
    propagated(box, qtbot, "stopped")
    box.view.accept.click()
    planes = planes_with(box, 1)
    assert planes[:2] == [KEY, KEY + 1]
    assert len(planes) < PLANES


def test_a_propagation_can_be_discarded(box: PropagationBox, qtbot: Any) -> None:
    before, active = pixels(box), box._controller.viewer.layers.selection.active
    propagated(box, qtbot)
    assert box._controller.viewer.layers.selection.active is box.propagation_controller.layer.layer
    box.view.discard.click()
    assert np.array_equal(pixels(box), before)
    assert box._controller.viewer.layers.selection.active is active
    assert box.propagate.isVisible()
    assert box.view.state.text() == DISCARDED


def test_a_click_leaves_an_object_out_and_a_second_one_takes_it_back_in(box: PropagationBox, qtbot: Any) -> None:
    viewer = box._controller.viewer
    propagated(box, qtbot)
    viewer.dims.set_current_step(0, 5)
    position = (15, 9, 9)  # of object 1, in µm
    click(viewer, position)
    assert box.view.accept.text() == "Accept 1 object"
    assert not (box.propagation_controller.layer.layer.data == 1).any()  # type: ignore[union-attr]
    click(viewer, position)
    assert box.view.accept.text() == "Accept 2 objects"
    assert (box.propagation_controller.layer.layer.data == 1)[5].any()  # type: ignore[union-attr]
    click(viewer, position)
    click(viewer, position, drag=20)
    box.view.accept.click()
    assert planes_with(box, 1) == [KEY]
    assert planes_with(box, 2) == [*range(PLANES)]


def test_direction_bounds_and_selection_are_respected(box: PropagationBox, qtbot: Any) -> None:
    box.scope.setCurrentIndex(box.scope.findData("selected"))
    box.scope.activated.emit(1)
    box.form.fields["direction"].value = "up"
    box.range.last.setValue(5)
    qtbot.waitUntil(lambda: numbers_in(box.hint.text()) == [1, 0, 5], timeout=SOON_MS)
    propagated(box, qtbot)
    box.view.accept.click()
    assert planes_with(box, 1) == [KEY]
    assert planes_with(box, 2) == [3, 4, 5]


def test_drawn_prompts_are_added_first_and_propagated(box: PropagationBox, qtbot: Any) -> None:
    controller = box._controller
    controller.active_layers.target_layer.data[:] = 0  # type: ignore[union-attr]
    controller.active_layers.target_layer.refresh()  # type: ignore[union-attr]
    controller.target.note_painted(PlaneKey.of("", 3, (KEY,)))  # type: ignore[union-attr]
    box.refresh()
    assert box.hint.text() == NO_OBJECTS
    assert not box.propagate.isEnabled()
    add_box(controller, (8, 8, 29, 29), (KEY,))
    qtbot.waitUntil(lambda: DRAWN_TOO in box.hint.text(), timeout=SOON_MS)
    propagated(box, qtbot)
    box.view.accept.click()
    (label,) = set(np.unique(pixels(box))) - {0}
    assert planes_with(box, label) == [*range(PLANES)]


def test_a_corrected_plane_is_kept_and_propagated_from(box: PropagationBox, qtbot: Any) -> None:
    propagated(box, qtbot)
    box.view.accept.click()
    layer, viewer = box._controller.active_layers.target_layer, box._controller.viewer
    assert layer is not None
    viewer.dims.set_current_step(0, 5)
    small = disc(18, 18, 6)
    layer.data_setitem(np.nonzero(np.stack([np.zeros_like(small)] * 5 + [~small & (layer.data[5] == 1)])), 0)
    corrected = pixels(box)[5]
    box._controller.layers.flush()
    qtbot.waitUntil(box.redo.isVisible, timeout=SOON_MS)
    assert box.redo.isChecked()
    propagated(box, qtbot)
    box.view.accept.click()
    assert np.array_equal(pixels(box)[5] == 1, corrected == 1)
    record = box._controller.target.record(1)  # type: ignore[union-attr]
    assert record.origin_in(PlaneKey.of("", 3, (5,))) == "painted"
    assert record.origin_in(PlaneKey.of("", 3, (6,))) == "propagated"


def test_objects_are_propagated_through_side_views_too(box: PropagationBox, qtbot: Any) -> None:
    viewer, controller = box._controller.viewer, box._controller
    controller.active_layers.target_layer.data[:, 8:29, 8:29] = 1  # type: ignore[union-attr]
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_current_step(1, 18)
    box.scope.setCurrentIndex(0)
    box.form.fields["min_score"].value = 0
    box.form.fields["min_contrast"].value = 0
    controller.active_layers.target_layer.data[:, 19:] = 0  # type: ignore[union-attr]
    qtbot.waitUntil(lambda: numbers_in(box.hint.text())[-2:] == [0, 63], timeout=SOON_MS)
    box.range.last.setValue(22)
    box.propagate.click()
    qtbot.waitUntil(lambda: box.propagation_controller.state in ("found", "idle"), timeout=SOON_MS)
    assert box.propagation_controller.proposal is not None
    assert {change.plane.axes for change in box.propagation_controller.proposal.changes} == {(0, 2)}
    assert box.propagation_controller.layer.layer.data[:, 19].any()  # type: ignore[union-attr]


def test_the_hint_names_what_is_missing(viewer: Any, make_controller: Any, put: Any) -> None:
    controller = make_controller(viewer)
    box = put(PropagationBox(controller, list))
    assert box.hint.text() == NO_IMAGE
    assert not box.propagate.isVisible()
    viewer.add_image(np.zeros((64, 64)))
    box.refresh()
    assert box.hint.text() == ONE_PLANE
    viewer.layers.clear()
    viewer.add_image(np.zeros((1, 64, 64)))
    box.refresh()
    assert box.hint.text() == ONE_PLANE
    viewer.layers.clear()
    viewer.add_image(np.zeros((3, 64, 64)))
    box.refresh()
    assert box.hint.text() == NO_OBJECTS
    viewer.dims.ndisplay = 3
    box.refresh()
    assert box.hint.text() == NO_PLANE


def test_the_axis_can_be_chosen_where_there_are_several(viewer: Any, make_controller: Any, put: Any) -> None:
    viewer.add_image(np.zeros((4, 3, 64, 64)), axis_labels=("t", "z", "y", "x"))
    box = put(PropagationBox(make_controller(viewer), list))
    along = box.range.along
    assert [along.itemText(index) for index in range(along.count())] == ["t", "z"]
    assert (box.range.axis, box.range.bounds) == (1, (0, 2))
    along.setCurrentIndex(0)
    along.activated.emit(0)
    assert (box.range.axis, box.range.bounds) == (0, (0, 3))


@pytest.mark.usefixtures("slowly")
def test_removed_labels_end_the_propagation(box: PropagationBox, qtbot: Any) -> None:
    viewer = box._controller.viewer
    box.propagate.click()
    qtbot.waitUntil(lambda: box.propagation_controller.done > 0, timeout=SOON_MS)
    viewer.layers.remove("cells")
    assert "SAM propagation" not in viewer.layers
    qtbot.waitUntil(lambda: box.propagation_controller.state == "idle", timeout=SOON_MS)
    assert box.view.state.text() == LAYERS_REMOVED


def test_a_removed_image_drops_the_objects_found(box: PropagationBox, qtbot: Any) -> None:
    propagated(box, qtbot)
    box._controller.viewer.layers.remove("stack")
    assert box.propagation_controller.state == "idle"
    assert "SAM propagation" not in box._controller.viewer.layers


def test_objects_can_be_accepted_without_the_preview_layer(box: PropagationBox, qtbot: Any) -> None:
    propagated(box, qtbot)
    box._controller.viewer.layers.remove("SAM propagation")
    box.view.refresh()
    assert NO_PREVIEW in box.view.state.text()
    box.view.accept.click()
    assert planes_with(box, 1) == [*range(PLANES)]


@pytest.mark.usefixtures("slowly")
def test_a_propagation_keeps_the_model_it_started_with(box: PropagationBox, qtbot: Any) -> None:
    controller = box._controller
    controller.session.models.adapters.add(random_adapter(), "a")
    box.propagate.click()
    qtbot.waitUntil(lambda: box.propagation_controller.done > 0, timeout=SOON_MS)
    controller.session.models.activate("a")
    qtbot.waitUntil(lambda: box.propagation_controller.state == "found", timeout=SOON_MS)
    assert box.propagation_controller.proposal is not None
    assert box.propagation_controller.proposal.adapter == ""
    controller.model_loader.load_model("sam_nano", "cpu", 128)
    qtbot.waitUntil(lambda: not controller.model_loader.loading, timeout=SOON_MS)
    box.view.accept.click()
    assert planes_with(box, 1) == [*range(PLANES)]


@pytest.mark.usefixtures("slowly")
def test_closing_the_viewer_ends_the_propagation(controller: Controller, put: Any, qtbot: Any) -> None:
    box = put(PropagationBox(controller, list))
    box.propagate.click()
    qtbot.waitUntil(lambda: box.propagation_controller.done > 0, timeout=SOON_MS)
    viewer, session = controller.viewer, controller.session
    controller.close()
    assert "SAM propagation" not in viewer.layers
    assert session.close(20)


def test_a_window_with_objects_to_accept_asks_before_it_closes(
    box: PropagationBox, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions: list[int] = []

    def refuse(window: QWidget) -> bool:
        questions.append(1)
        return False

    monkeypatch.setattr("napari_sam_lora._qt.propagation.controller.ask_to_discard_propagation", refuse)
    controller, window = box._controller, box._controller.viewer.window._qt_window
    controller.attach(box)
    controller._close_guard.watch(window)
    propagated(box, qtbot)
    event = QCloseEvent()
    assert controller._close_guard.eventFilter(window, event)
    assert not event.isAccepted()
    assert questions == [1]
    box.view.accept.click()
    assert not controller._close_guard.eventFilter(window, QCloseEvent())
    assert questions == [1]


@pytest.mark.usefixtures("slowly")
def test_a_propagation_goes_on_when_its_dock_is_closed(controller: Controller, put: Any, qtbot: Any) -> None:
    viewer = controller.viewer
    panel = PromptPanel(viewer)
    dock = viewer.window.add_dock_widget(panel)
    panel._propagation.propagate.click()
    propagation_controller = propagation_controller_of(controller)
    viewer.window.remove_dock_widget(dock)
    put(panel)  # deletes it
    qtbot.waitUntil(lambda: propagation_controller.state == "found", timeout=SOON_MS)
    again = put(PropagationBox(controller, list))
    assert again.propagation_controller is propagation_controller
    again.view.accept.click()
    assert planes_with(again, 1) == [*range(PLANES)]


def test_settings_are_remembered_and_reset(box: PropagationBox, controller: Controller, put: Any) -> None:
    box.form.fields["direction"].value = "down"
    box.form.fields["projection"].value = "points"
    box.form.fields["smooth"].value = False
    box.redo.setChecked(False)
    overlap = box.form.fields["min_overlap"]
    overlap.value = 0.2
    overlap.native.editingFinished.emit()
    again = put(PropagationBox(controller, list))
    values = again.form.values()
    assert (values["direction"], values["projection"], values["min_overlap"]) == ("down", "points", 0.2)
    assert not values["smooth"]
    assert not again.redo.isChecked()
    again.usual.click()
    assert PropagationConfig(**again.form.values()) == PropagationConfig()
    RememberedSettings("propagation").update(direction=7, projection="nothing", min_overlap="much", redo="x")
    assert PropagationConfig(**put(PropagationBox(controller, list)).form.values()) == PropagationConfig()


def test_the_table_shows_propagated_objects_and_physical_volumes(controller: Controller, put: Any, qtbot: Any) -> None:
    panel = PromptPanel(controller.viewer)
    controller.viewer.window.add_dock_widget(panel)
    box, model = panel._propagation, panel._objects.model
    propagated(box, qtbot)
    box.view.accept.click()
    panel._objects._update()
    index = model.index(0, ORIGIN)
    assert model.data(index) == "propagated"
    assert "propagated to 6 planes" in model.data(index, Qt.ItemDataRole.ToolTipRole)
    assert "µm³" in [model.headerData(column, Qt.Orientation.Horizontal) for column in range(model.columnCount())]
    put(panel)


def test_a_whole_stack_is_segmented_again_except_for_complete_planes(
    controller: Controller, put: Any, qtbot: Any
) -> None:
    panel = AdaptersPanel(controller.viewer)
    controller.viewer.window.add_dock_widget(panel)
    box, propagation_controller = panel.resegment, propagation_controller_of(controller)
    target = controller.target
    assert target is not None
    target.mark_complete(PlaneKey.of("", 3, (5,)))
    controller.session.models.adapters.add(random_adapter(), "a")
    controller.session.models.activate("a")
    assert not box.stack.isHidden()
    box.stack.click()
    assert not box.replay.isEnabled()
    qtbot.waitUntil(lambda: propagation_controller.state in ("found", "idle"), timeout=SOON_MS)
    assert propagation_controller.proposal is not None
    assert propagation_controller.proposal.adapter == "a"
    assert 5 not in {change.plane.index[0] for change in propagation_controller.proposal.changes}
    assert propagation_controller.skipped_planes == 1
    propagation_controller.accept()
    assert box.replay.isEnabled()
    controller.undo()
    assert [index for index, plane in enumerate(controller.active_layers.target_layer.data) if plane.any()] == [KEY]  # type: ignore[union-attr]
    put(panel)


def test_a_section_grows_with_wrapped_text(viewer: Any, put: Any, qtbot: Any) -> None:
    notice, field = Notice("short"), QSpinBox()
    inner = QWidget()
    column = QVBoxLayout(inner)
    column.addWidget(notice)
    column.addWidget(field)
    section = collapsible("Title", inner)
    outer = QWidget()
    whole = QVBoxLayout(outer)
    whole.addWidget(section)
    whole.addStretch(1)
    outer.resize(200, 800)
    put(outer)
    section.expand(animate=False)
    notice.say("A much longer text, which takes several lines in a panel as narrow as this one is. " * 3)
    qtbot.waitUntil(lambda: notice.height() >= notice.heightForWidth(notice.width()) > 60, timeout=SOON_MS)
    assert field.height() >= field.sizeHint().height()
    section.collapse(animate=False)
    qtbot.waitUntil(lambda: section.height() < 60, timeout=SOON_MS)

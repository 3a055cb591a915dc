"""Objects are propagated through a stack in the viewer: seen first, stopped, gone on with, accepted, discarded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QApplication, QMessageBox, QSpinBox, QVBoxLayout, QWidget

from napari_sam_lora._qt.adapters.panel import AdaptersPanel
from napari_sam_lora._qt.objects.model import ORIGIN
from napari_sam_lora._qt.prompting.panel import PromptPanel
from napari_sam_lora._qt.propagation.controller import propagation_controller_of
from napari_sam_lora._qt.propagation.panel import PropagationBox
from napari_sam_lora._qt.propagation.parameters import PARAMETERS, PROJECTIONS, USUAL
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.napari_stores import is_managed
from napari_sam_lora._qt.viewer.preferences import RememberedSettings
from napari_sam_lora._qt.widgets.controls import Notice, folded
from napari_sam_lora.session import ImageSource, PlaneKey, Priority, Session
from napari_sam_lora.stacks.propagation.config import PROJECTIONS as ENGINE_PROJECTIONS
from napari_sam_lora.stacks.propagation.config import PropagationConfig

from ..helpers import add_box, click, iou
from ..tuning import SOON_MS, made_adapter, small_model

PLANES, KEY = 7, 3
CENTRES = {1: (18, 18), 2: (44, 42)}


def disc(y: int, x: int, radius: int = 10) -> NDArray[np.bool_]:
    ys, xs = np.mgrid[:64, :64]
    return np.asarray((ys - y) ** 2 + (xs - x) ** 2 < radius**2)


def make_stack() -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Two discs through all planes; both are labelled in plane 3."""
    image = np.full((PLANES, 64, 64), 40, np.uint8)
    labels = np.zeros(image.shape, np.int32)
    for label, centre in CENTRES.items():
        image[:, disc(*centre)] = 200
        labels[KEY][disc(*centre)] = label
    return image, labels


@pytest.fixture
def controller(viewer: Any) -> Iterator[Controller]:
    """Over the stack, at the plane that is labelled."""
    image, labels = make_stack()
    viewer.add_image(image, name="stack", scale=(3, 0.5, 0.5), units=("um", "um", "um"), axis_labels=("z", "y", "x"))
    viewer.add_labels(labels, name="cells", scale=(3, 0.5, 0.5), units=("um", "um", "um"), axis_labels=("z", "y", "x"))
    made = Controller(viewer, QApplication.instance(), Session(small_model()))
    viewer.dims.set_current_step(0, KEY)
    yield made
    made.close()


class SlowSource:
    """Takes its time to read a plane."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        self.name, self.shape, self.spacing = source.name, source.shape, source.spacing

    def read(self, plane: PlaneKey) -> NDArray[Any]:
        time.sleep(0.15)
        return self._source.read(plane)


@pytest.fixture
def slowly(controller: Controller) -> None:
    """Each plane takes long enough to do something meanwhile."""
    session, image = controller.session, controller.image
    session.add_image(image, SlowSource(session.images[image]))


@pytest.fixture
def box(controller: Controller, put: Callable[[Any], Any]) -> PropagationBox:
    made: PropagationBox = put(PropagationBox(controller, lambda: [2]))
    return made


def propagated(box: PropagationBox, qtbot: Any, state: str = "found") -> None:
    """Press the button and wait for a decision."""
    box.propagate.click()
    qtbot.waitUntil(lambda: box.propagation.state == state, timeout=SOON_MS)


def pixels(box: PropagationBox) -> NDArray[Any]:
    return np.array(box._controller.target_layer.data)  # type: ignore[union-attr]


def planes_with(box: PropagationBox, label: int) -> list[int]:
    return [index for index, plane in enumerate(pixels(box)) if (plane == label).any()]


def test_the_settings_and_their_defaults_are_those_of_the_engine() -> None:
    usual = PropagationConfig()
    assert {one.name: one.default for one in PARAMETERS} == {one.name: getattr(usual, one.name) for one in PARAMETERS}
    assert set(PROJECTIONS) == {USUAL, *ENGINE_PROJECTIONS}
    known = {one.name for one in PARAMETERS} | {"direction", "first", "last", "projection", "smooth"}
    assert known == set(PropagationConfig.__dataclass_fields__)


@pytest.mark.usefixtures("slowly")
def test_what_is_found_is_seen_plane_by_plane_and_accepted_as_one_step(box: PropagationBox, qtbot: Any) -> None:
    controller, before, filled = box._controller, pixels(box), list[list[int]]()
    assert "2 objects" in box.hint.text()
    assert "planes 0 to 6" in box.hint.text()

    def note() -> None:
        layer = box.propagation.layer.layer
        if layer is not None and box.propagation.state == "running":
            filled.append([index for index, plane in enumerate(layer.data) if plane.any()])

    box.propagation.changed.connect(note)
    propagated(box, qtbot)
    assert len({tuple(one) for one in filled}) > 2, "it fills in while it goes on"
    layer = box.propagation.layer.layer
    assert layer is not None
    assert is_managed(layer)
    assert np.allclose(layer.scale, (3, 0.5, 0.5))
    assert sorted(np.unique(layer.data)) == [0, 1, 2]
    assert np.array_equal(pixels(box), before)
    assert "Found 2 objects in 6 planes" in box.view.state.text()
    box.view.accept.click()
    assert "SAM propagation" not in controller.viewer.layers
    for label, centre in CENTRES.items():
        for plane in pixels(box):
            assert iou(plane == label, disc(*centre)) > 0.7
    assert "Propagated 2 objects" in box.view.state.text()
    controller.undo()
    assert np.array_equal(pixels(box), before)


@pytest.mark.usefixtures("slowly")
def test_it_can_be_stopped_and_goes_on_where_it_was(box: PropagationBox, qtbot: Any) -> None:
    desk = box.propagation
    box._controller.progressed.connect(lambda *_: box.view.stop.click() if desk.done == 2 else None)
    propagated(box, qtbot, "stopped")
    assert 2 <= desk.done < 6
    assert box.view.go_on.text() == f"Go on: {6 - desk.done} plane{'s' * (desk.done < 5)} left"
    assert "Stopped after" in box.view.state.text()
    assert not box.propagate.isVisible()
    box._controller.progressed.disconnect()
    box.view.go_on.click()
    qtbot.waitUntil(lambda: desk.state == "found", timeout=SOON_MS)
    box.view.accept.click()
    assert planes_with(box, 1) == planes_with(box, 2) == [*range(PLANES)]


@pytest.mark.usefixtures("slowly")
@pytest.mark.parametrize("layer", ["", "cells"])
def test_it_is_stopped_at_once_while_it_waits_for_a_prompt(box: PropagationBox, qtbot: Any, layer: str) -> None:
    session, held = box._controller.session, threading.Event()
    box.propagate.click()
    prompt = session._worker.submit_with(Priority.PROMPT, "prompt", lambda _: held.wait(20))
    qtbot.waitUntil(lambda: prompt.running() and box.propagation.state == "running", timeout=SOON_MS)
    if layer:
        box._controller.viewer.layers.remove(layer)
    else:
        box.view.stop.click()
    assert box.propagation.state == ("idle" if layer else "stopped")
    held.set()
    assert prompt.result(20)


@pytest.mark.usefixtures("slowly")
def test_what_was_done_before_a_stop_can_be_accepted(box: PropagationBox, qtbot: Any) -> None:
    box._controller.progressed.connect(lambda *_: box.view.stop.click() if box.propagation.done == 1 else None)
    propagated(box, qtbot, "stopped")
    box.view.accept.click()
    planes = planes_with(box, 1)
    assert planes[:2] == [KEY, KEY + 1]
    assert len(planes) < PLANES


def test_it_can_be_discarded(box: PropagationBox, qtbot: Any) -> None:
    before, active = pixels(box), box._controller.viewer.layers.selection.active
    propagated(box, qtbot)
    assert box._controller.viewer.layers.selection.active is box.propagation.layer.layer
    box.view.discard.click()
    assert np.array_equal(pixels(box), before)
    assert box._controller.viewer.layers.selection.active is active
    assert box.propagate.isVisible()
    assert "nothing was changed" in box.view.state.text()


def test_a_click_leaves_an_object_out_and_a_second_one_takes_it_in(box: PropagationBox, qtbot: Any) -> None:
    viewer = box._controller.viewer
    propagated(box, qtbot)
    viewer.dims.set_current_step(0, 5)
    place = (15, 9, 9)  # of object 1 in µm
    click(viewer, place)
    assert box.view.accept.text() == "Accept 1 object"
    assert not (box.propagation.layer.layer.data == 1).any()  # type: ignore[union-attr]
    click(viewer, place)
    assert box.view.accept.text() == "Accept 2 objects"
    assert (box.propagation.layer.layer.data == 1)[5].any()  # type: ignore[union-attr]
    click(viewer, place)
    click(viewer, place, drag=20)
    box.view.accept.click()
    assert planes_with(box, 1) == [KEY]
    assert planes_with(box, 2) == [*range(PLANES)]


def test_direction_bounds_and_selection_are_heeded(box: PropagationBox, qtbot: Any) -> None:
    box.scope.setCurrentIndex(box.scope.findData("selected"))
    box.scope.activated.emit(1)
    box.form.direction.setCurrentIndex(box.form.direction.findData("up"))
    box.range.last.setValue(5)
    qtbot.waitUntil(lambda: "1 selected object" in box.hint.text() and "0 to 5" in box.hint.text(), timeout=SOON_MS)
    propagated(box, qtbot)
    box.view.accept.click()
    assert planes_with(box, 1) == [KEY]
    assert planes_with(box, 2) == [3, 4, 5]


def test_what_is_being_drawn_is_added_first_and_followed(box: PropagationBox, qtbot: Any) -> None:
    controller = box._controller
    controller.target_layer.data[:] = 0  # type: ignore[union-attr]
    controller.target_layer.refresh()  # type: ignore[union-attr]
    controller.target.note_painted(PlaneKey.of("", 3, (KEY,)))  # type: ignore[union-attr]
    box.refresh()
    assert "No objects in this plane" in box.hint.text()
    assert not box.propagate.isEnabled()
    add_box(controller, (8, 8, 29, 29), (KEY,))
    qtbot.waitUntil(lambda: "added first" in box.hint.text(), timeout=SOON_MS)
    propagated(box, qtbot)
    box.view.accept.click()
    (label,) = set(np.unique(pixels(box))) - {0}
    assert planes_with(box, label) == [*range(PLANES)]


def test_a_corrected_plane_in_between_is_kept_and_gone_out_from(box: PropagationBox, qtbot: Any) -> None:
    propagated(box, qtbot)
    box.view.accept.click()
    layer, viewer = box._controller.target_layer, box._controller.viewer
    assert layer is not None
    viewer.dims.set_current_step(0, 5)
    small = disc(18, 18, 6)
    layer.data_setitem(np.nonzero(np.stack([np.zeros_like(small)] * 5 + [~small & (layer.data[5] == 1)])), 0)
    corrected = pixels(box)[5]
    box._controller.flush()
    qtbot.waitUntil(box.redo.isVisible, timeout=SOON_MS)
    assert box.redo.isChecked()
    propagated(box, qtbot)
    box.view.accept.click()
    assert np.array_equal(pixels(box)[5] == 1, corrected == 1)
    record = box._controller.target.record(1)  # type: ignore[union-attr]
    assert record.origin_in(PlaneKey.of("", 3, (5,))) == "painted"
    assert record.origin_in(PlaneKey.of("", 3, (6,))) == "propagated"


def test_side_views_are_gone_through_too(box: PropagationBox, qtbot: Any) -> None:
    viewer, controller = box._controller.viewer, box._controller
    controller.target_layer.data[:, 8:29, 8:29] = 1  # type: ignore[union-attr]
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_current_step(1, 18)
    box.scope.setCurrentIndex(0)
    box.form.numbers.fields["min_score"].setValue(0)
    box.form.numbers.fields["min_contrast"].setValue(0)
    controller.target_layer.data[:, 19:] = 0  # type: ignore[union-attr]
    qtbot.waitUntil(lambda: "planes 0 to 63" in box.hint.text(), timeout=SOON_MS)
    box.range.last.setValue(22)
    box.propagate.click()
    qtbot.waitUntil(lambda: box.propagation.state in ("found", "idle"), timeout=SOON_MS)
    assert box.propagation.proposal is not None
    assert {change.plane.axes for change in box.propagation.proposal.changes} == {(0, 2)}
    assert box.propagation.layer.layer.data[:, 19].any()  # type: ignore[union-attr]


def test_what_is_missing_is_said(viewer: Any, make_controller: Any, put: Any) -> None:
    controller = make_controller(viewer)
    box = put(PropagationBox(controller, list))
    assert "Open Sample" in box.hint.text()
    assert not box.propagate.isVisible()
    viewer.add_image(np.zeros((64, 64)))
    box.refresh()
    assert "one plane" in box.hint.text()
    viewer.layers.clear()
    viewer.add_image(np.zeros((1, 64, 64)))
    box.refresh()
    assert "one plane" in box.hint.text()
    viewer.layers.clear()
    viewer.add_image(np.zeros((3, 64, 64)))
    box.refresh()
    assert "No objects in this plane" in box.hint.text()
    viewer.dims.ndisplay = 3
    box.refresh()
    assert "leave the 3-D view" in box.hint.text()


def test_the_axis_can_be_chosen_where_there_are_several(viewer: Any, make_controller: Any, put: Any) -> None:
    viewer.add_image(np.zeros((4, 3, 64, 64)), axis_labels=("t", "z", "y", "x"))
    box = put(PropagationBox(make_controller(viewer), list))
    along = box.range.along
    assert [along.itemText(place) for place in range(along.count())] == ["t", "z"]
    assert (box.range.axis, box.range.bounds) == (1, (0, 2))
    along.setCurrentIndex(0)
    along.activated.emit(0)
    assert (box.range.axis, box.range.bounds) == (0, (0, 3))


@pytest.mark.usefixtures("slowly")
def test_labels_that_go_end_it(box: PropagationBox, qtbot: Any) -> None:
    viewer = box._controller.viewer
    box.propagate.click()
    qtbot.waitUntil(lambda: box.propagation.done > 0, timeout=SOON_MS)
    viewer.layers.remove("cells")
    assert "SAM propagation" not in viewer.layers
    qtbot.waitUntil(lambda: box.propagation.state == "idle", timeout=SOON_MS)
    assert "were removed" in box.view.state.text()


def test_an_image_that_goes_takes_what_was_found_along(box: PropagationBox, qtbot: Any) -> None:
    propagated(box, qtbot)
    box._controller.viewer.layers.remove("stack")
    assert box.propagation.state == "idle"
    assert "SAM propagation" not in box._controller.viewer.layers


def test_without_its_preview_it_can_still_be_accepted(box: PropagationBox, qtbot: Any) -> None:
    propagated(box, qtbot)
    box._controller.viewer.layers.remove("SAM propagation")
    box.view.refresh()
    assert "There is no preview" in box.view.state.text()
    box.view.accept.click()
    assert planes_with(box, 1) == [*range(PLANES)]


@pytest.mark.usefixtures("slowly")
def test_another_model_meanwhile_changes_nothing_of_it(box: PropagationBox, qtbot: Any) -> None:
    controller = box._controller
    controller.session.adapters.add(made_adapter(), "a")
    box.propagate.click()
    qtbot.waitUntil(lambda: box.propagation.done > 0, timeout=SOON_MS)
    controller.session.activate("a")
    qtbot.waitUntil(lambda: box.propagation.state == "found", timeout=SOON_MS)
    assert box.propagation.proposal is not None
    assert box.propagation.proposal.adapter == ""
    controller.load_model("sam_nano", "cpu", 128)
    qtbot.waitUntil(lambda: not controller.model_loader.loading, timeout=SOON_MS)
    box.view.accept.click()
    assert planes_with(box, 1) == [*range(PLANES)]


@pytest.mark.usefixtures("slowly")
def test_a_closed_viewer_ends_it(controller: Controller, put: Any, qtbot: Any) -> None:
    box = put(PropagationBox(controller, list))
    box.propagate.click()
    qtbot.waitUntil(lambda: box.propagation.done > 0, timeout=SOON_MS)
    viewer, session = controller.viewer, controller.session
    controller.close()
    assert "SAM propagation" not in viewer.layers
    assert session.close(20)


def test_a_window_is_not_closed_unasked_before_a_decision(
    box: PropagationBox, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse(parent: Any, title: str, words: str) -> Any:
        asked.append(title)
        return QMessageBox.StandardButton.No

    monkeypatch.setattr(QMessageBox, "question", refuse)
    controller, window = box._controller, box._controller.viewer.window._qt_window
    controller.attach(box)
    controller._watch.watch(window)
    propagated(box, qtbot)
    event = QCloseEvent()
    assert controller._watch.eventFilter(window, event)
    assert not event.isAccepted()
    assert asked == ["Propagation was not accepted"]
    box.view.accept.click()
    assert not controller._watch.eventFilter(window, QCloseEvent())
    assert len(asked) == 1


@pytest.mark.usefixtures("slowly")
def test_a_dock_that_is_closed_lets_it_go_on(controller: Controller, put: Any, qtbot: Any) -> None:
    viewer = controller.viewer
    panel = PromptPanel(viewer)
    dock = viewer.window.add_dock_widget(panel)
    panel._propagation.propagate.click()
    desk = propagation_controller_of(controller)
    viewer.window.remove_dock_widget(dock)
    put(panel)  # deletes it
    qtbot.waitUntil(lambda: desk.state == "found", timeout=SOON_MS)
    again = put(PropagationBox(controller, list))
    assert again.propagation is desk
    again.view.accept.click()
    assert planes_with(again, 1) == [*range(PLANES)]


def test_settings_are_remembered_and_set_back(box: PropagationBox, controller: Controller, put: Any) -> None:
    box.form.direction.setCurrentIndex(2)
    box.form.direction.activated.emit(2)
    box.form.projection.setCurrentIndex(box.form.projection.findData("points"))
    box.form.projection.activated.emit(3)
    box.form.smooth.setChecked(False)
    box.redo.setChecked(False)
    overlap = box.form.numbers.fields["min_overlap"]
    overlap.setValue(0.2)
    overlap.editingFinished.emit()
    again = put(PropagationBox(controller, list))
    values = again.form.values()
    assert (values["direction"], values["projection"], values["min_overlap"]) == ("down", "points", 0.2)
    assert not values["smooth"]
    assert not again.redo.isChecked()
    again.usual.click()
    assert PropagationConfig(**again.form.values()) == PropagationConfig()
    RememberedSettings("propagation").update(direction=7, projection="nothing", min_overlap="much", redo="x")
    assert PropagationConfig(**put(PropagationBox(controller, list)).form.values()) == PropagationConfig()


def test_the_table_tells_what_was_propagated_and_volumes_in_units(controller: Controller, put: Any, qtbot: Any) -> None:
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


def test_a_whole_stack_is_segmented_again_but_for_complete_planes(controller: Controller, put: Any, qtbot: Any) -> None:
    panel = AdaptersPanel(controller.viewer)
    controller.viewer.window.add_dock_widget(panel)
    box, desk = panel.resegment, propagation_controller_of(controller)
    target = controller.target
    assert target is not None
    target.mark_complete(PlaneKey.of("", 3, (5,)))
    controller.session.adapters.add(made_adapter(), "a")
    controller.session.activate("a")
    assert not box.stack.isHidden()
    box.stack.click()
    assert not box.replay.isEnabled()
    qtbot.waitUntil(lambda: desk.state in ("found", "idle"), timeout=SOON_MS)
    assert desk.proposal is not None
    assert desk.proposal.adapter == "a"
    assert 5 not in {change.plane.index[0] for change in desk.proposal.changes}
    assert desk.closed == 1
    desk.accept()
    assert box.replay.isEnabled()
    controller.undo()
    assert [index for index, plane in enumerate(controller.target_layer.data) if plane.any()] == [KEY]  # type: ignore[union-attr]
    put(panel)


def test_a_section_makes_room_for_words_that_are_wrapped(viewer: Any, put: Any, qtbot: Any) -> None:
    words, field = Notice("short"), QSpinBox()
    inner = QWidget()
    column = QVBoxLayout(inner)
    column.addWidget(words)
    column.addWidget(field)
    section = folded("Title", inner)
    outer = QWidget()
    whole = QVBoxLayout(outer)
    whole.addWidget(section)
    whole.addStretch(1)
    outer.resize(200, 800)
    put(outer)
    section.expand(animate=False)
    words.say("Much longer words, which take several lines in a panel as narrow as this one is. " * 3)
    qtbot.waitUntil(lambda: words.height() >= words.heightForWidth(words.width()) > 60, timeout=SOON_MS)
    assert field.height() >= field.sizeHint().height()
    section.collapse(animate=False)
    qtbot.waitUntil(lambda: section.height() < 60, timeout=SOON_MS)

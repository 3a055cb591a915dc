"""Find everything with the dense head: objects are cut out of its maps while sliders are moved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam_lora import Model
from napari_sam_lora._qt.automatic.controller import NOTHING_IN_MAPS
from napari_sam_lora._qt.automatic.panel import EverythingBox
from napari_sam_lora._qt.automatic.parameters import instances_form, show_instances
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.session import ProposedChange, Session

from ..conftest import WAIT_MS


@pytest.fixture
def box(controller: Controller, put: Any) -> EverythingBox:
    made: EverythingBox = put(EverythingBox(controller))
    return made


def find(box: EverythingBox, qtbot: Any) -> int:
    """Find everything; return the number of objects."""
    box.look.click()
    qtbot.waitUntil(lambda: box.everything.state == "found", timeout=WAIT_MS)
    return box.everything.review.findings.count()


def changes(box: EverythingBox) -> tuple[ProposedChange, ...]:
    """Return the objects that are proposed in the plane that is shown."""
    proposal = box.everything.review.findings.proposal(box._controller.active_layers.plane)
    assert proposal is not None
    return proposal.changes


def move(box: EverythingBox, qtbot: Any, **values: float) -> None:
    """Move sliders, and wait until the objects have been cut again."""
    before = changes(box)
    for name, value in values.items():
        box.instances.fields[name].value = value
    qtbot.waitUntil(lambda: changes(box) is not before, timeout=WAIT_MS)


def test_the_object_finder_is_offered_first_and_finds_nuclei(
    box: EverythingBox, controller: Controller, nuclei: tuple[NDArray[Any], NDArray[Any]], qtbot: Any
) -> None:
    assert box.method.currentData() == "head"
    assert not box.instances.isHidden()
    assert box.form.isHidden()
    number = find(box, qtbot)
    truth = len(np.unique(nuclei[1])) - 1
    assert truth / 2 < number < 2 * truth
    box.accept.click()
    assert controller.target is not None
    assert {record.origin for record in controller.target.records()} == {"everything"}
    assert len(controller.target.records()) == number
    controller.undo()
    assert not controller.target.records()


def test_sliders_act_on_what_was_found_without_the_model(
    box: EverythingBox, controller: Controller, qtbot: Any
) -> None:
    number = find(box, qtbot)
    submitted: list[Any] = []
    controller.session.models.busy_changed.connect(submitted.append)
    median = float(np.median([change.new.area for change in changes(box)]))
    move(box, qtbot, smallest=int(median) + 1)
    assert 0 < len(changes(box)) < number
    assert all(change.new.area > median for change in changes(box))
    move(box, qtbot, smallest=int(box.instances._own["smallest"].default), sensitivity=0.1)
    few = sum(change.new.area for change in changes(box))
    move(box, qtbot, sensitivity=0.9)
    assert sum(change.new.area for change in changes(box)) > few
    assert submitted == []


def test_the_thresholds_of_an_adapter_are_shown_exactly_also_for_large_objects(qtbot: Any) -> None:
    form = instances_form()
    qtbot.addWidget(form)
    show_instances(form, InstanceConfig(sensitivity=0.37, separation=0.62, smallest=3456))
    assert form.values() == {"sensitivity": 0.37, "separation": 0.62, "smallest": 3456}
    show_instances(form, InstanceConfig())
    assert form.values()["smallest"] == InstanceConfig().smallest


def test_usual_values_are_those_that_suit_the_model(box: EverythingBox, controller: Controller, qtbot: Any) -> None:
    suggested = controller.session.models.head_instances
    assert suggested is not None
    find(box, qtbot)
    move(box, qtbot, sensitivity=0.9)
    box.usual.click()
    assert box.instances.values()["sensitivity"] == pytest.approx(suggested.sensitivity)


def test_labelled_pixels_are_never_proposed(
    box: EverythingBox, controller: Controller, nuclei: tuple[NDArray[Any], NDArray[Any]], qtbot: Any
) -> None:
    layer = controller.active_layers.make_target()
    layer.data = np.where(nuclei[1] == nuclei[1].max(), 1, 0).astype(layer.data.dtype)
    labelled = layer.data > 0
    find(box, qtbot)
    proposed = np.zeros(labelled.shape, np.uint16)
    for change in changes(box):
        change.new.write(proposed, 1)
    assert not (proposed[labelled]).any()
    box.accept.click()
    assert (layer.data[labelled] == 1).all()


def test_an_image_without_objects_says_what_to_do(controller: Controller, put: Any, qtbot: Any) -> None:
    controller.viewer.layers.clear()
    controller.viewer.add_image(np.zeros((64, 64), np.uint8), name="empty")
    box = put(EverythingBox(controller))
    box.instances.fields["sensitivity"].value = 0.05
    box.look.click()
    qtbot.waitUntil(lambda: box.hint.text() == NOTHING_IN_MAPS, timeout=WAIT_MS)


def test_a_model_without_a_head_has_clicks_only(
    viewer: Any, nano: Model, nuclei: tuple[NDArray[Any], NDArray[Any]], qapp: Any, put: Any
) -> None:
    viewer.add_image(nuclei[0])
    controller = Controller(viewer, qapp, Session(Model(replace(nano.loaded, dense=None))))
    try:
        box = put(EverythingBox(controller))
        assert box.method.isHidden()
        assert box.instances.isHidden()
        assert not box.form.isHidden()
    finally:
        controller.close()

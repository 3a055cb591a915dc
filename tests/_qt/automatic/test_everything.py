"""Everything mode: objects are proposed in the image, then added."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_sam_lora._qt.automatic.controller import CANCELLED, NOTHING_FOUND
from napari_sam_lora._qt.automatic.panel import LOADING, EverythingBox
from napari_sam_lora._qt.automatic.parameters import SMALLEST, everything_form
from napari_sam_lora._qt.layers.napari_stores import is_managed
from napari_sam_lora._qt.prompting.panel import PromptPanel
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.preferences import RememberedSettings
from napari_sam_lora._qt.widgets.controls import NO_IMAGE
from napari_sam_lora.parameters.everything import EverythingConfig
from napari_sam_lora.session import Session

from ..conftest import WAIT_MS, MakeController
from ..helpers import click


@pytest.fixture
def box(controller: Controller, put: Any) -> EverythingBox:
    """Make a box with few clicks, so that it is quick."""
    made: EverythingBox = put(EverythingBox(controller))
    ask_for_few(made)
    return made


def ask_for_few(box: EverythingBox) -> None:
    box.method.setCurrentIndex(box.method.findData("clicks"))
    box.method.activated.emit(box.method.currentIndex())
    box.form.fields["points_per_side"].value = 8
    box.form.fields["pred_iou_thresh"].value = 0.3
    box.form.fields["stability_score_thresh"].value = 0.3


def find(box: EverythingBox, qtbot: Any) -> int:
    """Find everything; return the number of objects."""
    box.look.click()
    qtbot.waitUntil(lambda: box.everything.state == "found", timeout=WAIT_MS)
    return box.everything.review.findings.count()


def test_the_parameters_and_defaults_are_those_of_the_engine(qtbot: Any) -> None:
    form = everything_form()
    qtbot.addWidget(form)
    values = form.values()
    assert values.pop("smallest") == SMALLEST.default
    assert EverythingConfig(**values) == EverythingConfig()
    assert set(values) == set(EverythingConfig.__dataclass_fields__) - {"point_grids"}  # for programs


def test_found_objects_are_shown_and_nothing_is_added(box: EverythingBox, controller: Controller, qtbot: Any) -> None:
    number = find(box, qtbot)
    assert number > 1
    layer = box.everything.review.layer.layer
    assert layer is not None
    assert is_managed(layer)
    assert set(np.unique(layer.data)) == set(range(number + 1))
    assert box.accept.text() == f"Add {number} objects"
    assert controller.active_layers.target_layer is None


def test_all_are_added_as_one_step(box: EverythingBox, controller: Controller, qtbot: Any) -> None:
    number = find(box, qtbot)
    box.accept.click()
    target = controller.target
    assert target is not None
    assert len(target.records()) == number
    assert {record.origin for record in target.records()} == {"everything"}
    assert box.everything.review.layer.layer is None
    assert not box.look.isHidden()
    controller.undo()
    assert not target.records()


def test_a_click_drops_an_object_and_a_second_one_takes_it_back(
    box: EverythingBox, controller: Controller, qtbot: Any
) -> None:
    number = find(box, qtbot)
    layer = box.everything.review.layer.layer
    assert layer is not None
    y, x = np.argwhere(layer.data == 2)[0]
    click(controller.viewer, (y, x))
    assert not (layer.data == 2).any()
    assert box.accept.text() == f"Add {number - 1} object{'s' * (number > 2)}"
    click(controller.viewer, (y, x))
    assert (layer.data == 2).any()
    click(controller.viewer, (y, x))
    click(controller.viewer, (-5, 0))
    box.accept.click()
    assert controller.target is not None
    assert len(controller.target.records()) == number - 1
    assert not controller.active_layers.target_layer.data[y, x]  # type: ignore[union-attr]


def test_dragging_the_image_drops_nothing(box: EverythingBox, controller: Controller, qtbot: Any) -> None:
    find(box, qtbot)
    layer = box.everything.review.layer.layer
    assert layer is not None
    y, x = np.argwhere(layer.data == 1)[0]
    click(controller.viewer, (y, x), drag=20)
    assert (layer.data == 1).any()


def test_a_proposal_can_be_discarded(box: EverythingBox, controller: Controller, qtbot: Any) -> None:
    before = controller.viewer.layers.selection.active
    find(box, qtbot)
    assert controller.viewer.layers.selection.active is box.everything.review.layer.layer
    box.discard.click()
    assert box.everything.review.layer.layer is None
    assert controller.viewer.layers.selection.active is before
    assert box.everything.state == "idle"


def test_finding_objects_can_be_cancelled(box: EverythingBox, controller: Controller, qtbot: Any) -> None:
    box.form.fields["points_per_side"].value = 64
    box.look.click()
    assert not box.working.isHidden()
    qtbot.waitUntil(lambda: box.bar.maximum() > 1, timeout=WAIT_MS)
    box.stop.click()
    assert box.hint.text() == CANCELLED
    qtbot.waitUntil(lambda: not controller.session.models.is_busy, timeout=WAIT_MS)
    assert box.everything.state == "idle"
    assert box.look.isEnabled()


def test_finding_nothing_says_what_to_change(box: EverythingBox, qtbot: Any) -> None:
    box.form.fields["pred_iou_thresh"].value = 1.0
    box.form.fields["points_per_side"].value = 2
    box.look.click()
    qtbot.waitUntil(lambda: box.hint.text() == NOTHING_FOUND, timeout=WAIT_MS)
    assert not box.look.isHidden()


def test_the_proposal_is_discarded_when_its_image_is_removed(
    box: EverythingBox, controller: Controller, qtbot: Any
) -> None:
    find(box, qtbot)
    controller.viewer.layers.remove("nuclei")
    assert box.everything.state == "idle"
    assert box.everything.review.layer.layer is None


def test_labels_removed_meanwhile_are_made_again(box: EverythingBox, controller: Controller, qtbot: Any) -> None:
    controller.active_layers.make_target()
    number = find(box, qtbot)
    controller.viewer.layers.remove("nuclei labels")
    box.accept.click()
    assert controller.target is not None
    assert len(controller.target.records()) == number


def test_the_proposal_lies_in_its_plane_of_a_stack(
    viewer: Any, make_controller: MakeController, nuclei: Any, put: Any, qtbot: Any
) -> None:
    viewer.add_image(np.stack([nuclei[0]] * 3), scale=(5, 0.5, 0.5), translate=(7, 0, 0))
    controller = make_controller(viewer)
    viewer.dims.set_current_step(0, 1)
    box = put(EverythingBox(controller))
    ask_for_few(box)
    find(box, qtbot)
    layer = box.everything.review.layer.layer
    assert layer is not None
    assert layer.data.shape == (1, *nuclei[0].shape)
    assert np.allclose(layer.translate, (12, 0, 0))
    box.accept.click()
    assert controller.active_layers.target_layer.data[1].any()  # type: ignore[union-attr]
    assert not controller.active_layers.target_layer.data[[0, 2]].any()  # type: ignore[union-attr]


def test_without_a_model_the_default_one_is_loaded_first(
    viewer: Any, qapp: Any, nuclei: Any, put: Any, qtbot: Any
) -> None:
    viewer.add_image(nuclei[0])
    controller = Controller(viewer, qapp, Session())
    box = put(EverythingBox(controller))
    ask_for_few(box)
    box.look.click()
    assert box.hint.text() == LOADING
    qtbot.waitUntil(lambda: box.everything.state == "found", timeout=WAIT_MS)
    controller.close()


def test_without_an_image_the_next_step_is_shown(viewer: Any, make_controller: MakeController, put: Any) -> None:
    box = put(EverythingBox(make_controller(viewer)))
    assert box.hint.text() == NO_IMAGE
    assert not box.look.isEnabled()


def test_parameters_are_remembered_and_set_back(qtbot: Any) -> None:
    form = everything_form()
    qtbot.addWidget(form)
    form.fields["points_per_side"].value = 16
    form.fields["points_per_side"].native.editingFinished.emit()
    again = everything_form()
    qtbot.addWidget(again)
    assert again.values()["points_per_side"] == 16
    again.reset()
    assert again.values()["points_per_side"] == 32
    RememberedSettings("everything").update(points_per_side="many", pred_iou_thresh=7)
    form = everything_form()
    qtbot.addWidget(form)
    assert form.values()["points_per_side"] == 32
    assert form.values()["pred_iou_thresh"] is None


def test_values_that_contradict_each_other_are_explained_in_the_form(box: EverythingBox, qtbot: Any) -> None:
    box.form.fields["points_per_side"].value = 2
    box.form.fields["crop_n_layers"].value = 2
    box.form.fields["crop_n_points_downscale_factor"].value = 2
    assert "points_per_side" in box.form.problem.text()
    box.form.fields["points_per_side"].value = 32
    assert box.form.problem.text() == ""


def test_closing_the_dock_discards_the_proposal_also_while_its_section_is_folded(
    viewer: Any, controller: Controller, put: Any, qtbot: Any
) -> None:
    panel = PromptPanel(viewer)
    dock = viewer.window.add_dock_widget(panel)
    box = panel._everything
    ask_for_few(box)
    find(box, qtbot)
    assert "SAM proposal" in viewer.layers
    assert not box.isVisible()
    viewer.window.remove_dock_widget(dock)
    assert "SAM proposal" not in viewer.layers
    assert box.everything.state == "idle"
    put(panel)  # deletes it

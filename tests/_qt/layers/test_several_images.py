"""Several images in one viewer: prompts, labels and edits concern the one that is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from napari.layers import Points
from qtpy.QtWidgets import QApplication

from napari_sam_lora._qt.adapters.resegmentation import ResegmentBox
from napari_sam_lora._qt.finetuning.training_set import find_pairs
from napari_sam_lora._qt.prompting.panel import PromptPanel
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.labels import LabelledObject

from ..conftest import MakeController
from ..helpers import add_box, add_point, click, dense, drag, drawn_on, iou, rows_of

Settle = Callable[[Controller], None]


def test_choosing_another_image_after_a_prompt_shows_the_prompts_of_that_image_only(
    controller: Controller, viewer: Any, nuclei: Any, cell: LabelledObject, settle: Settle, put: Any
) -> None:
    put(PromptPanel(viewer))
    first, second = controller.active_layers.image_layer, viewer.add_image(nuclei[0][::-1], name="other")
    controller.active_layers.choose_image(first)
    add_point(controller, cell.centre)
    points = drawn_on(controller).points
    controller.active_layers.choose_image(second)
    assert not points.visible
    add_box(controller, cell.box)
    shapes = drawn_on(controller).shapes
    controller.active_layers.choose_image(first)
    assert points.visible
    assert not shapes.visible
    settle(controller)
    assert controller.previews.preview is not None
    assert controller.previews.preview.plane.image == controller.image


def shown_prompts(layer: Any) -> int:
    """Return how many points or shapes of a layer napari draws."""
    return len(layer._view_data) if isinstance(layer, Points) else int(np.count_nonzero(layer._data_view._displayed))


def test_all_tools_draw_in_the_nearest_plane_while_a_volume_on_another_grid_is_open(
    viewer: Any, make_controller: MakeController, nuclei: Any, cell: LabelledObject, settle: Settle
) -> None:
    viewer.add_image(np.stack([nuclei[0]] * 12), name="MR")
    coarse = viewer.add_image(np.stack([nuclei[0]] * 4), name="CT", scale=(3, 1, 1), translate=(0.3, 0, 0))
    controller = make_controller(viewer)
    controller.active_layers.choose_image(coarse)
    y0, x0, y1, x1 = cell.box
    for depth, tool in ((2, "point"), (3, "scribble"), (4, "lasso"), (5, "box")):
        viewer.dims.set_point(0, 11)
        controller.draw_with(tool)  # type: ignore[arg-type]
        viewer.dims.set_point(0, depth)
        plane = controller.active_layers.plane
        assert plane is not None
        assert plane.index == (round((depth - 0.3) / 3),)
        layer, height = viewer.layers.selection.active, viewer.dims.point[0]
        if tool == "point":
            click(viewer, (height, *cell.centre))
        else:
            around = [(y0, x0), (y1, x0), (y1, x1), (y0, x1), (y0, x1)] if tool == "lasso" else [(y0, x0), (y1, x1)] * 2
            drag(viewer, [(height, *position) for position in around])
        controller.drawing.finish()
        ((item,),) = rows_of(controller)
        assert item.kind == tool
        assert shown_prompts(layer) == 1
        viewer.dims.set_point(0, 3 * plane.index[0])  # elsewhere in the same plane
        assert controller.active_layers.plane == plane
        assert shown_prompts(layer) == 1
        if tool != "box":
            controller.clear_prompts()
    np.testing.assert_allclose(item.coordinates, np.array([[y0, x0], [y1, x1]]) + 0.5, atol=1e-4)
    settle(controller)
    assert controller.previews.preview is not None
    assert iou(dense(controller.previews.preview)[0], nuclei[1] == cell.label) > 0.6
    assert np.allclose(coarse.translate, (0.3, 0, 0))


# Which image is segmented


@pytest.fixture
def other(controller: Controller, viewer: Any, nuclei: Any) -> Any:
    """Add a second image of the same size, which napari selects."""
    return viewer.add_image(nuclei[0][::-1].copy(), name="other")


def test_the_image_is_the_one_that_is_selected(controller: Controller, viewer: Any, other: Any, put: Any) -> None:
    panel, first = put(PromptPanel(viewer)), viewer.layers["nuclei"]
    selection, active = viewer.layers.selection, controller.active_layers
    assert active.image_layer is other
    selection.active = first
    assert active.image_layer is first
    assert panel._image.currentText() == "nuclei"
    controller.draw_with("box")  # makes layers, and selects one of them
    assert active.image_layer is first
    selection.active = other
    assert active.image_layer is other
    panel._image.chosen.emit(first)
    assert selection.active is first
    controller.draw_with("point")
    assert active.image_layer is first
    active.make_target()
    assert active.image_layer is first
    selection.active = other
    active.make_labels(first)
    assert active.image_layer is other
    selection.active = viewer.layers["nuclei labels"]
    assert active.image_layer is first


def test_a_hidden_image_is_left_for_one_that_is_visible(
    controller: Controller, viewer: Any, other: Any, cell: LabelledObject, put: Any
) -> None:
    panel, first, active = put(PromptPanel(viewer)), viewer.layers["nuclei"], controller.active_layers
    controller.draw_with("point")
    other.visible = False
    assert active.image_layer is first
    panel._image.chosen.emit(other)
    assert other.visible
    assert active.image_layer is other
    viewer.layers.selection.active = first
    add_point(controller, cell.centre)
    assert controller.previews.has_prompts()
    drafts = controller.session.prompts.drafts
    assert [plane for plane in drafts if len(controller.session.prompts.draft(plane))] == [active.plane]


def test_prompts_on_a_hidden_image_wait_and_say_why(
    controller: Controller, viewer: Any, cell: LabelledObject, put: Any
) -> None:
    panel, image, said = put(PromptPanel(viewer)), viewer.layers["nuclei"], list[str]()
    controller.drawing.message.connect(said.append)
    controller.draw_with("point")
    image.visible = False
    assert panel._hint.text() == "nuclei is hidden: show it to segment it."
    assert not panel._tools._tools.button(0).isEnabled()
    drawn_on(controller).points.add([cell.centre])
    assert set(said) == {"nuclei is hidden: show it, or choose another image, to segment it."}
    said.clear()
    click(viewer, (3, 4), ("Shift",))
    assert said == ["nuclei is hidden: show it, or choose another image, to segment it."]
    assert not controller.previews.has_prompts()
    image.visible = True
    ((item,),) = rows_of(controller)
    np.testing.assert_allclose(item.coordinates, [cell.centre])
    assert panel._tools._tools.button(0).isEnabled()
    assert not panel._hint.isVisible()


# The labels of the image


def test_labels_from_files_are_those_of_the_image_below_them(
    viewer: Any, nuclei: Any, make_controller: MakeController
) -> None:
    first, one = viewer.add_image(nuclei[0], name="A"), viewer.add_labels(nuclei[1], name="manual")
    second = viewer.add_image(nuclei[0][::-1], name="B")
    active = make_controller(viewer).active_layers
    assert (active.image_layer, active.target_layer) == (second, None)
    active.choose_image(first)
    assert active.target_layer is one
    viewer.layers.selection.active = first
    other = viewer.add_labels(nuclei[1][::-1], name="automatic")
    assert active.target_layer is one
    active.choose_image(second)
    assert active.target_layer is other


def test_painting_makes_labels_those_of_the_image(controller: Controller, viewer: Any, nuclei: Any) -> None:
    first = controller.active_layers.image_layer
    cells = viewer.add_labels(np.zeros((256, 256), int), name="cells")
    cells.data_setitem((np.array([3, 4]), np.array([5, 5])), 1)
    controller.layers.flush()
    viewer.add_image(nuclei[0][::-1], name="other")
    assert controller.active_layers.target_layer is None
    controller.active_layers.choose_image(first)
    assert controller.active_layers.target_layer is cells


def test_labels_are_segmented_again_and_trained_on_with_their_own_image(
    controller: Controller, viewer: Any, other: Any, put: Any
) -> None:
    active, first = controller.active_layers, viewer.layers["nuclei"]
    own = {image: active.make_labels(image) for image in (first, other)}
    for label, layer in enumerate(own.values(), start=1):
        layer.data_setitem((np.array([3, 4]), np.array([5, 5])), label)
    controller.layers.flush()
    box = put(ResegmentBox(controller))
    for image in (first, other):
        active.choose_image(image)
        for shown, labels in own.items():
            assert box._image_of(controller.layers.id_of(labels)) == controller.layers.id_of(shown)
        pairs = {pair.labels: pair.image for pair in find_pairs(controller, {}, only_checked=False)}
        assert pairs == {controller.layers.id_of(two): controller.layers.id_of(one) for one, two in own.items()}


def test_the_button_names_the_labels_that_it_writes_into(
    controller: Controller, viewer: Any, cell: LabelledObject, settle: Settle, put: Any
) -> None:
    panel, image = put(PromptPanel(viewer)), viewer.layers["nuclei"]
    panel.resize(300, 700)
    QApplication.processEvents()
    button = panel._commit._add
    assert button.whole_text() == "Add to nuclei labels"
    image.name = "acquisition_2024_well_gnf_dna-6_site_3"
    add_box(controller, cell.box)
    settle(controller)
    assert button.whole_text() == "Add to acquisition_2024_well_gnf_dna-6_site_3 labels"
    assert button.text().startswith("Add to acq")
    assert button.text().endswith("3 labels")
    assert button.fontMetrics().horizontalAdvance(button.text()) < button.width() <= 300
    assert button.whole_text() in button.toolTip()
    button.click()
    written = controller.active_layers.target_layer
    assert written is not None
    assert written.name == "acquisition_2024_well_gnf_dna-6_site_3 labels"
    written.name = "R&D"
    assert button.whole_text() == "Add to R&D"
    assert button.text() == "Add to R&&D"
    controller.set_policy(target="part", label=1)
    assert button.whole_text() == "Add to object 1 in R&D"
    assert panel._image.toolTip().startswith("acquisition_2024_well_gnf_dna-6_site_3\n")

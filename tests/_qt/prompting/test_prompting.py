"""From drawing on layers to labels, in a real viewer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam_lora._qt.prompting.commit import CommitBox
from napari_sam_lora._qt.prompting.tools import CHOOSE_TOOL, HINTS, OUTSIDE, SHIFT_CLICK, ToolBox
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.labels import LabelledObject, find_objects
from napari_sam_lora.session import EditResult, PlaneKey

from ..helpers import add_box, add_point, add_shape, click, dense, drawn_on, iou, move, rows_of

Nuclei = tuple[NDArray[Any], NDArray[Any]]
Settle = Callable[[Controller], None]


@pytest.fixture
def cells(nuclei: Nuclei) -> list[LabelledObject]:
    """Nuclei away from the edge, the largest first."""
    whole = [one for one in find_objects(nuclei[1]) if min(one.box[:2]) > 2 and max(one.box[2:]) < 254]
    return sorted(whole, key=lambda one: -one.area)


def middle_line(cell: LabelledObject) -> NDArray[Any]:
    y, x = cell.centre
    width = (cell.box[3] - cell.box[1]) / 4
    return np.array([[y, x - width], [y, x], [y, x + width]])


def draw(controller: Controller, kind: str, cell: LabelledObject, mask: NDArray[Any]) -> None:
    """Show a cell with one kind of prompt."""
    y0, x0, y1, x1 = cell.box
    if kind == "point":
        add_point(controller, cell.centre)
    elif kind == "box":
        add_box(controller, cell.box)
    elif kind == "lasso":
        add_shape(controller, [[y0, x0], [y0, x1], [y1, x1], [y1, x0]], "polygon")
    elif kind == "scribble":
        add_shape(controller, middle_line(cell), "path")
    else:
        controller.draw_with("mask")
        layer = drawn_on(controller).mask.layer
        layer.data_setitem(np.nonzero(mask), 1)


# Every kind of prompt


@pytest.mark.parametrize("kind", ["point", "box", "lasso", "scribble", "mask"])
def test_every_kind_of_prompt_becomes_a_preview_and_then_an_object(
    controller: Controller, cells: list[LabelledObject], nuclei: Nuclei, settle: Settle, kind: str
) -> None:
    cell, truth = cells[0], nuclei[1] == cells[0].label
    draw(controller, kind, cell, truth)
    controller.commit()
    settle(controller)
    (record,) = controller.target.records()  # type: ignore[union-attr]
    found = controller.active_layers.target_layer.data == record.id  # type: ignore[union-attr]
    y, x = (round(value) for value in cell.centre)
    assert found[y, x]
    assert iou(found, truth) > 0.3  # a rough prompt gives a rough mask
    (stored,) = record.prompts[controller.active_layers.plane]  # type: ignore[index]
    assert [item.kind for item in stored.row] == [kind]
    assert record.origin == "prompted"


def test_a_box_drawn_around_pixels_has_these_pixels(controller: Controller) -> None:
    add_box(controller, (40, 60, 70, 95))
    ((item,),) = rows_of(controller)
    np.testing.assert_array_equal(item.coordinates, [[40, 60], [70, 95]])


def test_several_prompts_of_different_kinds_show_one_object(
    controller: Controller, cells: list[LabelledObject], settle: Settle
) -> None:
    add_point(controller, cells[0].centre)
    add_box(controller, cells[0].box)
    add_shape(controller, middle_line(cells[0]), "path")
    settle(controller)
    assert controller.previews.preview is not None
    (row,) = controller.previews.preview.rows
    assert sorted(item.kind for item in row) == ["box", "point", "scribble"]


def test_the_preview_follows_a_point_that_is_moved_and_one_that_is_deleted(
    controller: Controller, cells: list[LabelledObject], settle: Settle
) -> None:
    add_point(controller, cells[0].centre)
    settle(controller)
    layer = drawn_on(controller).points
    layer.data = [cells[1].centre]
    settle(controller)
    y, x = (round(value) for value in cells[1].centre)
    assert controller.previews.preview is not None
    assert dense(controller.previews.preview)[0, y, x]
    layer.selected_data = {0}
    layer.remove_selected()
    assert controller.previews.preview is None
    assert not controller.previews.layer.layer.data.any()


def test_a_newer_prompt_replaces_the_one_that_waits(
    controller: Controller, cells: list[LabelledObject], settle: Settle
) -> None:
    shown: list[int] = []

    def note() -> None:
        if controller.previews.preview is not None:
            shown.append(len(controller.previews.preview.rows[0]))

    controller.previews.preview_changed.connect(note)
    for cell in cells[:5]:
        add_point(controller, cell.centre)
    settle(controller)
    assert shown == [5]


# Polarity


def test_shift_click_adds_a_negative_point_wherever_the_image_is_looked_at(
    controller: Controller, viewer: Any, cells: list[LabelledObject]
) -> None:
    add_point(controller, cells[0].centre)
    for layer in (viewer.layers["nuclei"], viewer.layers["SAM points"]):
        viewer.layers.selection.active = layer
        click(viewer, cells[1].centre, ("Shift",))
    controller.draw_with("box")
    click(viewer, cells[1].centre, ("Shift",))
    controller.draw_with("mask")
    click(viewer, cells[1].centre, ("Shift",))
    (row,) = rows_of(controller)
    assert [(item.kind, item.positive) for item in row] == [("point", True)] + [("point", False)] * 4
    assert viewer.layers["SAM painted mask"].mode == "paint"


def test_shift_is_left_alone_when_it_drags_selects_or_paints_labels_of_the_user(
    controller: Controller, viewer: Any, cells: list[LabelledObject]
) -> None:
    click(viewer, cells[0].centre, ("Shift",), drag=40)
    click(viewer, cells[0].centre, ("Shift", "Control"))
    click(viewer, (-20, 10), ("Shift",))
    painted = viewer.add_labels(np.zeros((256, 256), int))
    painted.mode = "paint"
    click(viewer, cells[0].centre, ("Shift",))
    assert not len(controller.session.prompts.draft(controller.active_layers.plane))  # type: ignore[arg-type]


def test_a_plain_click_with_the_point_tool_is_positive_until_polarity_is_switched(
    controller: Controller, viewer: Any, cells: list[LabelledObject]
) -> None:
    controller.draw_with("point")
    click(viewer, cells[0].centre)
    controller.drawing.toggle_polarity()
    click(viewer, cells[1].centre)
    (row,) = rows_of(controller)
    assert [item.positive for item in row] == [True, False]
    colours = viewer.layers["SAM points"].face_color
    assert not np.allclose(colours[0], colours[1])


def test_switching_polarity_flips_what_is_selected(controller: Controller, cells: list[LabelledObject]) -> None:
    add_point(controller, [cells[0].centre, cells[1].centre])
    layer = drawn_on(controller).points
    layer.mode = "select"
    layer.selected_data = {1}
    controller.drawing.toggle_polarity()
    (row,) = rows_of(controller)
    assert [item.positive for item in row] == [True, False]
    assert controller.drawing.positive


def test_a_rectangle_outside_of_the_object_takes_its_area_away(
    controller: Controller, cells: list[LabelledObject]
) -> None:
    add_box(controller, cells[0].box)
    controller.drawing.set_positive(False)
    add_box(controller, (5, 5, 20, 20))
    (row,) = rows_of(controller)
    assert [(item.kind, item.positive) for item in row] == [("box", True), ("lasso", False)]


def test_painted_pixels_have_a_polarity(controller: Controller) -> None:
    controller.draw_with("mask")
    layer = drawn_on(controller).mask.layer
    assert layer.selected_label == 1
    controller.drawing.set_positive(False)
    assert layer.selected_label == 2


# Many objects


def test_in_batch_mode_each_box_is_an_object_and_one_undo_takes_all_back(
    controller: Controller, cells: list[LabelledObject], nuclei: Nuclei, settle: Settle
) -> None:
    controller.drawing.set_batch(True)
    for cell in cells[:3]:
        add_box(controller, cell.box)
    controller.commit()
    settle(controller)
    layer = controller.active_layers.target_layer
    assert layer is not None
    for label, cell in enumerate(cells[:3], 1):
        assert iou(layer.data == label, nuclei[1] == cell.label) > 0.6
    layer.undo()
    assert not layer.data.any()


def test_in_batch_mode_a_negative_point_belongs_to_the_last_object(
    controller: Controller, viewer: Any, cells: list[LabelledObject]
) -> None:
    controller.drawing.set_batch(True)
    add_point(controller, cells[0].centre)
    add_point(controller, cells[1].centre)
    click(viewer, (5, 5), ("Shift",))
    rows = controller.session.prompts.draft(controller.active_layers.plane).rows()  # type: ignore[arg-type]
    assert [[item.positive for item in row] for row in rows.values()] == [[True], [True, False]]


def test_batch_mode_separates_what_was_drawn_before(controller: Controller, cells: list[LabelledObject]) -> None:
    add_point(controller, [cell.centre for cell in cells[:3]])
    controller.drawing.set_batch(True)
    assert len(controller.session.prompts.draft(controller.active_layers.plane).rows()) == 3  # type: ignore[arg-type]


def test_the_next_object_keeps_the_prompts_of_the_one_before(
    controller: Controller, cells: list[LabelledObject], settle: Settle
) -> None:
    add_point(controller, cells[0].centre)
    controller.drawing.next_object()
    add_box(controller, cells[1].box)
    controller.drawing.next_object()
    controller.draw_with("mask")
    layer = drawn_on(controller).mask.layer
    layer.data_setitem((np.array([100, 101]), np.array([100, 100])), layer.selected_label)
    controller.drawing.pull()
    rows = controller.session.prompts.draft(controller.active_layers.plane).rows()  # type: ignore[arg-type]
    assert [[item.kind for item in row] for row in rows.values()] == [["point"], ["box"], ["mask"]]
    controller.commit()
    settle(controller)
    assert not len(controller.session.prompts.draft(controller.active_layers.plane))  # type: ignore[arg-type]
    assert drawn_on(controller).obj == 0


# Committing


def edit_results(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> list[EditResult]:
    """Collect the results that the controller reports from now on."""
    results: list[EditResult] = []
    report = controller.report

    def collect(result: EditResult) -> None:
        results.append(result)
        report(result)

    monkeypatch.setattr(controller, "report", collect)
    return results


def test_finished_objects_are_not_overwritten_unless_that_is_wanted(
    controller: Controller, cells: list[LabelledObject], settle: Settle, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_box(controller, cells[0].box)
    controller.commit()
    settle(controller)
    layer, (y, x) = controller.active_layers.target_layer, (round(value) for value in cells[0].centre)
    assert layer is not None
    before = layer.data.copy()
    messages: list[str] = []
    controller.message.connect(messages.append)
    results = edit_results(controller, monkeypatch)
    add_box(controller, cells[0].box)
    controller.commit()
    settle(controller)
    np.testing.assert_array_equal(layer.data, before)
    assert results[-1].code == "no-free-pixels"
    assert messages[-1] == results[-1].message
    assert len(rows_of(controller)) == 1, "the prompt stays if nothing was written"
    controller.set_policy(overwrite=True)
    controller.commit()
    settle(controller)
    assert layer.data[y, x] == 2


def test_a_mask_can_become_another_part_of_an_object(
    controller: Controller, cells: list[LabelledObject], settle: Settle
) -> None:
    for cell, policy in ((cells[0], {}), (cells[1], {"target": "part", "label": 1})):
        controller.set_policy(**policy)
        add_box(controller, cell.box)
        controller.commit()
        settle(controller)
    (record,) = controller.target.records()  # type: ignore[union-attr]
    assert len(record.prompts[controller.active_layers.plane]) == 2  # type: ignore[index]


def test_adding_to_an_object_that_is_not_there_says_so_and_keeps_the_prompts(
    controller: Controller, cells: list[LabelledObject], settle: Settle
) -> None:
    messages: list[str] = []
    controller.message.connect(messages.append)
    controller.active_layers.make_target()
    controller.set_policy(target="part", label=77)
    add_box(controller, cells[0].box)
    controller.commit()
    settle(controller)
    assert messages[-1] == "There is no object 77 in these labels any more."
    assert len(controller.session.prompts.draft(controller.active_layers.plane)) == 1  # type: ignore[arg-type]


def test_prompts_brought_back_replace_the_object(
    controller: Controller, cells: list[LabelledObject], settle: Settle
) -> None:
    add_box(controller, cells[0].box)
    add_point(controller, cells[0].centre)
    controller.commit()
    settle(controller)
    controller.bring_back(1)
    assert len(drawn_on(controller).points.data) == len(drawn_on(controller).shapes.data) == 1
    assert (controller.policy.target, controller.policy.label) == ("replace", 1)
    add_point(controller, cells[0].centre)
    controller.commit()
    settle(controller)
    (record,) = controller.target.records()  # type: ignore[union-attr]
    (stored,) = record.prompts[controller.active_layers.plane]  # type: ignore[index]
    assert sorted(item.kind for item in stored.row) == ["box", "point", "point"]
    assert controller.policy.target == "new"


def test_committing_without_a_prompt_says_what_to_do(controller: Controller) -> None:
    messages: list[str] = []
    controller.message.connect(messages.append)
    controller.commit()
    assert messages == ["Draw a prompt on an object first: a click, a box or a line."]
    assert controller.active_layers.target_layer is None


def test_a_commit_waits_for_the_mask_of_the_present_prompts(
    controller: Controller, cells: list[LabelledObject], settle: Settle
) -> None:
    add_point(controller, cells[1].centre)
    settle(controller)
    drawn_on(controller).points.data = [cells[0].centre]
    controller.commit()
    settle(controller)
    y, x = (round(value) for value in cells[0].centre)
    assert controller.active_layers.target_layer.data[y, x] == 1  # type: ignore[union-attr]


# Options


def test_another_candidate_and_a_higher_threshold_change_the_preview(
    controller: Controller, cells: list[LabelledObject], settle: Settle
) -> None:
    add_point(controller, cells[0].centre)
    settle(controller)
    assert controller.previews.preview is not None
    candidate = controller.previews.preview.masks[0].candidates[2]
    controller.set_options(candidate=2)
    settle(controller)
    (mask,) = controller.previews.preview.masks
    assert mask.region.box == candidate.box
    np.testing.assert_array_equal(mask.region.crop, candidate.crop)
    controller.set_options(threshold=2.0)
    settle(controller)
    assert controller.previews.preview.masks[0].region.area < candidate.area


def test_contrast_limits_of_the_layer_are_the_window_while_that_is_chosen(controller: Controller) -> None:
    layer = controller.active_layers.image_layer
    assert layer is not None
    controller.previews.set_use_contrast(True)
    layer.contrast_limits = (10, 90)
    assert controller.previews.options.window == (10, 90)
    controller.previews.set_use_contrast(False)
    layer.contrast_limits = (0, 50)
    assert controller.previews.options.window is None


# Layers of the user's own


def test_points_of_the_user_s_own_layer_are_prompts_and_stay_theirs(
    controller: Controller, viewer: Any, cells: list[LabelledObject], settle: Settle
) -> None:
    own = viewer.add_points([cell.centre for cell in cells[:3]], name="mine")
    controller.drawing.set_batch(True)
    controller.drawing.choose_source(own)
    controller.commit()
    settle(controller)
    assert len(controller.target.records()) == 3  # type: ignore[union-attr]
    assert len(own.data) == 3
    assert not len(controller.session.prompts.draft(controller.active_layers.plane)), "they are not prompts again"  # type: ignore[arg-type]
    own.add([cells[3].centre])
    assert len(controller.session.prompts.draft(controller.active_layers.plane)) == 1  # type: ignore[arg-type]


def test_shapes_with_another_transform_are_prompts_where_they_are_seen(controller: Controller, viewer: Any) -> None:
    corners = np.array([[20, 30], [20, 40], [30, 40], [30, 30]]) - 0.25
    own = viewer.add_shapes([corners], shape_type="rectangle", scale=(2, 2))
    controller.drawing.choose_source(own)
    ((item,),) = rows_of(controller)
    np.testing.assert_allclose(item.coordinates, [[40, 60], [60, 80]])


# What is still being drawn


def begin_line(controller: Controller, viewer: Any, cell: LabelledObject, steps: int) -> None:
    """Click, and then move the mouse without a second click."""
    controller.draw_with("scribble")
    y, x = cell.centre
    click(viewer, (y, x - 4))
    for number in range(1, steps + 1):
        move(viewer, (y, x - 4 + 4 * number), on_canvas=50.0 + 20 * number)


@pytest.mark.parametrize("steps", [0, 2])
def test_a_line_that_was_not_ended_is_ended_by_adding_the_object(
    controller: Controller, viewer: Any, cell: LabelledObject, settle: Settle, steps: int
) -> None:
    add_box(controller, cell.box)
    begin_line(controller, viewer, cell, steps)
    controller.commit()
    settle(controller)
    assert controller.active_layers.target_layer is not None
    y, x = np.round(cell.centre).astype(int)
    assert controller.active_layers.target_layer.data[y, x] == 1
    assert not len(drawn_on(controller).shapes.data)
    add_box(controller, (10, 10, 30, 30))
    assert [item.kind for row in rows_of(controller) for item in row] == ["box"]


def test_a_line_that_is_being_drawn_survives_the_change_of_tools(
    controller: Controller, viewer: Any, cell: LabelledObject
) -> None:
    begin_line(controller, viewer, cell, 3)
    controller.draw_with("box")
    assert [item.kind for row in rows_of(controller) for item in row] == ["scribble"]
    assert drawn_on(controller).tool() == "box"


def test_the_message_about_an_object_is_cleared_by_the_first_prompt_of_the_next(
    controller: Controller, put: Any, cell: LabelledObject, settle: Settle
) -> None:
    box = put(CommitBox(controller, list))
    add_box(controller, cell.box)
    settle(controller)
    controller.commit()
    assert box._message.text() == "Added object 1."
    assert box._undo.isEnabled()
    assert not box._redo.isEnabled()
    box._undo.click()
    assert box._message.text() == "Undone: adding to the labels."
    assert box._redo.isEnabled()
    add_box(controller, cell.box)
    assert box._message.text() == ""


def test_the_hint_says_how_to_draw_with_the_chosen_tool(controller: Controller, put: Any) -> None:
    box = put(ToolBox(controller))
    assert box._hint.text() == CHOOSE_TOOL
    controller.draw_with("box")
    assert box._hint.text() == f"{HINTS['box']} {SHIFT_CLICK}"
    controller.drawing.set_positive(False)
    assert box._hint.text() == OUTSIDE


# Changes of prompts


def test_each_action_of_the_user_changes_the_draft_once_and_only_where_it_differs(
    controller: Controller, cells: list[LabelledObject]
) -> None:
    plane, prompts = controller.active_layers.plane, controller.session.prompts
    assert plane is not None
    changed: list[PlaneKey] = []
    prompts.draft_changed.connect(changed.append)
    add_point(controller, cells[0].centre)
    add_box(controller, cells[0].box)
    add_shape(controller, middle_line(cells[0]), "path")
    assert len(changed) == 3
    before = {item.kind: item for item in rows_of(controller)[0]}
    layer = drawn_on(controller).points
    layer.data = [cells[1].centre]
    after = {item.kind: item for item in rows_of(controller)[0]}
    assert after["point"].id == before["point"].id
    np.testing.assert_allclose(after["point"].coordinates[0], cells[1].centre)
    assert after["box"] is before["box"]
    assert after["scribble"] is before["scribble"]
    controller.draw_with("point")
    layer.mode, layer.selected_data = "select", {0}
    controller.drawing.toggle_polarity()
    controller.drawing.pull()
    controller.drawing.finish()
    assert len(changed) == 5
    assert [item.positive for item in rows_of(controller)[0]] == [False, True, True]


def test_prompts_drawn_by_the_session_are_not_changed_by_reading_them_back(controller: Controller) -> None:
    plane, prompts = controller.active_layers.plane, controller.session.prompts
    assert plane is not None
    mask = np.zeros((256, 256), bool)
    mask[30:40, 50:70] = True
    drawn: list[tuple[Any, Any]] = [
        ("point", [10.3, 20.7]),
        ("box", [4.4, 5.1, 30.2, 40.9]),
        ("lasso", [[9.1, 9.2], [9.3, 60.4], [80.5, 60.6]]),
        ("scribble", [[100.1, 100.2]]),
        ("mask", mask),
    ]
    for kind, data in drawn:
        prompts.add(plane, kind, data)
    before = rows_of(controller)
    controller.drawing.pull()
    assert all(a is b for a, b in zip(before[0], rows_of(controller)[0], strict=True))


def test_the_preview_of_a_large_plane_covers_only_what_is_prompted(
    controller: Controller, viewer: Any, settle: Settle
) -> None:
    large = np.zeros((3000, 2500), np.uint8)
    large[1200:1240, 2000:2060] = 200
    controller.active_layers.choose_image(viewer.add_image(large))
    add_box(controller, (1196, 1996, 1244, 2064))
    settle(controller)
    layer, preview = controller.previews.layer.layer, controller.previews.preview
    assert preview is not None
    assert layer is not None
    assert iou(dense(preview)[0], large > 0) > 0.8
    assert layer.data.size < 300 * 300
    shown = np.argwhere(layer.data) + layer.translate
    np.testing.assert_array_equal(shown, np.argwhere(dense(preview)[0]))
    data = layer.data
    drawn_on(controller).shapes.data = [np.add(drawn_on(controller).shapes.data[0], 2)]
    settle(controller)
    assert layer.data is data, "the layer has room for masks nearby"

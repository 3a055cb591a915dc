"""The table of objects and the classes editor, over real layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor

from napari_sam_lora._qt.objects.classes import NO_CLASSES, NO_LABELS, ClassesEditor
from napari_sam_lora._qt.objects.model import APPROVED, CLASS, ID, ORIGIN, SIZE
from napari_sam_lora._qt.objects.physical_size import PixelSize
from napari_sam_lora._qt.objects.table import NO_OBJECTS, ObjectsTable
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import NO_IMAGE
from napari_sam_lora.session import LabelSet, ObjectClass, PlaneKey

from ..conftest import WAIT_MS, MakeController

SQUARES = {1: (10, 10, 20, 20), 2: (10, 40, 30, 60), 3: (50, 10, 55, 15), 7: (80, 80, 120, 120)}


def draw(labels: np.ndarray, squares: dict[int, tuple[int, int, int, int]]) -> np.ndarray:
    for label, (y0, x0, y1, x1) in squares.items():
        labels[y0:y1, x0:x1] = label
    return labels


@pytest.fixture
def labels(controller: Controller, nuclei: Any) -> Any:
    """Add a layer with four squares."""
    return controller.viewer.add_labels(draw(np.zeros(nuclei[0].shape, np.int32), SQUARES), name="cells")


@pytest.fixture
def target(controller: Controller, labels: Any) -> LabelSet:
    found = controller.target
    assert found is not None
    return found


@pytest.fixture
def table(controller: Controller, labels: Any, put: Any) -> ObjectsTable:
    made: ObjectsTable = put(ObjectsTable(controller))
    return made


def shown(table: ObjectsTable, column: int = ID) -> list[str]:
    """Return the texts of a column in the order of the table."""
    return [table.sorted.index(row, column).data() for row in range(table.sorted.rowCount())]


def soon(qtbot: Any, condition: Any) -> None:
    qtbot.waitUntil(condition, timeout=WAIT_MS)


def test_every_object_is_a_row_with_its_size_and_origin(table: ObjectsTable) -> None:
    assert shown(table) == ["1", "2", "3", "7"]
    assert shown(table, SIZE) == ["100", "400", "25", "1600"]
    assert shown(table, ORIGIN) == ["painted"] * 4
    assert table.counts.text() == "4 objects, 4 painted"


def test_the_swatch_is_the_colour_of_the_label(table: ObjectsTable, labels: Any) -> None:
    swatch = table.model.index(1, ID).data(Qt.ItemDataRole.DecorationRole)
    assert np.allclose(swatch.getRgbF()[:3], labels.get_color(2)[:3], atol=1e-3)


def test_sorting_by_size_is_by_number(table: ObjectsTable) -> None:
    table.view.sortByColumn(SIZE, Qt.SortOrder.DescendingOrder)
    assert shown(table) == ["7", "2", "1", "3"]


def test_a_click_chooses_the_label_and_a_double_click_goes_to_the_object(
    viewer: Any, make_controller: MakeController, nuclei: Any, put: Any
) -> None:
    viewer.add_image(np.stack([nuclei[0]] * 5), name="stack", scale=(3, 1, 1))
    data = np.zeros((5, *nuclei[0].shape), np.int32)
    data[1, 200:210, 30:40] = 5
    data[3, 200:230, 30:60] = 5
    data[0, :4, :4] = 6
    layer = viewer.add_labels(data, scale=(3, 1, 1))
    controller = make_controller(viewer)
    table = put(ObjectsTable(controller))
    before = viewer.dims.point, getattr(viewer, "scene", viewer).camera.center
    table.view.clicked.emit(table.sorted.index(0, ID))
    assert layer.selected_label == 5
    assert (viewer.dims.point, getattr(viewer, "scene", viewer).camera.center) == before
    table.view.doubleClicked.emit(table.sorted.index(0, ID))
    assert controller.active_layers.plane is not None
    assert controller.active_layers.plane.index == (3,)
    assert getattr(viewer, "scene", viewer).camera.center[-2:] == pytest.approx((213.5, 43.5), abs=1.5)


def test_a_label_picked_in_the_image_is_selected_in_the_table(table: ObjectsTable, labels: Any) -> None:
    labels.selected_label = 3
    assert table.selected() == [3]
    labels.selected_label = 99
    assert table.selected() == []


def test_only_what_can_be_done_is_enabled(table: ObjectsTable) -> None:
    actions = table.actions_
    assert not any(action.isEnabled() for action in actions.of_selection())
    table.select([2])
    assert actions.delete.isEnabled()
    assert actions.split.isEnabled()
    assert not actions.merge.isEnabled()
    assert not actions.edit.isEnabled()  # it was painted, there are no prompts
    table.select([2, 3])
    assert actions.merge.isEnabled()
    assert not actions.split.isEnabled()


def test_delete_can_be_undone_and_done_again(
    table: ObjectsTable, labels: Any, controller: Controller, qtbot: Any
) -> None:
    table.select([2, 7])
    table.actions_.delete.trigger()
    soon(qtbot, lambda: shown(table) == ["1", "3"])
    assert set(np.unique(labels.data)) == {0, 1, 3}
    controller.undo()
    soon(qtbot, lambda: shown(table) == ["1", "2", "3", "7"])
    assert np.count_nonzero(labels.data == 7) == 1600
    controller.redo()
    soon(qtbot, lambda: shown(table) == ["1", "3"])


def test_merged_objects_have_the_lowest_id_and_split_separates_them(
    table: ObjectsTable, labels: Any, qtbot: Any
) -> None:
    table.select([7, 2])
    table.actions_.merge.trigger()
    soon(qtbot, lambda: shown(table) == ["1", "2", "3"])
    assert shown(table, SIZE)[1] == "2000"
    table.select([2])
    table.actions_.split.trigger()
    soon(qtbot, lambda: len(shown(table)) == 4)
    assert sorted(np.unique(labels.data, return_counts=True)[1][1:]) == [25, 100, 400, 1600]


def test_approving_by_the_checkbox_and_by_the_button(table: ObjectsTable, target: LabelSet, qtbot: Any) -> None:
    index = table.sorted.index(0, APPROVED)
    assert table.sorted.setData(index, Qt.CheckState.Checked.value, Qt.ItemDataRole.CheckStateRole)
    assert target.record(1).approved
    table.select([2, 3])
    table.actions_.approve.trigger()
    soon(qtbot, lambda: table.counts.text().startswith("4 objects, 3 approved"))
    assert table.actions_.approve.text() == "Unapprove"
    table.actions_.approve.trigger()
    assert not target.record(2).approved


def test_a_class_is_assigned_and_shown_with_its_colour(table: ObjectsTable, target: LabelSet, qtbot: Any) -> None:
    target.set_classes([ObjectClass(1, "mitotic", (1.0, 0.0, 0.0)), ObjectClass(2, "resting", (0.0, 0.0, 1.0))])
    table.select([1, 3])
    table.classes.activated.emit(2)
    soon(qtbot, lambda: shown(table, CLASS) == ["resting", "", "resting", ""])
    assert target.record(3).class_id == 2
    assert table.model.index(0, CLASS).data(Qt.ItemDataRole.DecorationRole) == QColor("blue")


def test_painting_shows_in_the_table(table: ObjectsTable, controller: Controller, labels: Any, qtbot: Any) -> None:
    labels.data_setitem((np.array([0, 0, 0]), np.array([0, 1, 2])), 9)
    soon(qtbot, lambda: shown(table) == ["1", "2", "3", "7", "9"])
    labels.data_setitem((np.array([0]), np.array([3])), 9)
    soon(qtbot, lambda: shown(table, SIZE)[-1] == "4")


def test_the_selection_stays_when_other_objects_come_and_go(table: ObjectsTable, target: LabelSet, qtbot: Any) -> None:
    table.select([3, 7])
    target.delete([1])
    soon(qtbot, lambda: shown(table) == ["2", "3", "7"])
    assert table.selected() == [3, 7]


def test_prompts_of_an_object_are_brought_back(
    table: ObjectsTable, controller: Controller, settle: Any, qtbot: Any, cell: Any
) -> None:
    plane = controller.active_layers.plane
    assert plane is not None
    controller.session.prompts.add(plane, "box", cell.box)
    preview = controller.session.prompts.preview(plane).result(WAIT_MS / 1000)
    (made,) = controller.session.prompts.commit(preview).ids
    soon(qtbot, lambda: str(made) in shown(table))
    table.select([made])
    assert table.actions_.edit.isEnabled()
    table.actions_.edit.trigger()
    assert len(controller.session.prompts.draft(plane).rows()) == 1
    assert controller.policy.target == "replace"
    assert controller.policy.label == made


def test_a_plane_is_marked_as_complete(table: ObjectsTable, target: LabelSet, qtbot: Any) -> None:
    table.complete.click()
    assert target.complete_planes == {PlaneKey.of("", 2)}
    soon(qtbot, lambda: "1 plane complete" in table.counts.text())
    table.complete.click()
    assert not target.complete_planes


def test_an_empty_table_says_what_to_do(viewer: Any, make_controller: MakeController, nuclei: Any, put: Any) -> None:
    table = put(ObjectsTable(make_controller(viewer)))
    assert table.empty.text() == NO_IMAGE
    viewer.add_image(nuclei[0])
    assert table.empty.text() == NO_OBJECTS
    assert not table.complete.isEnabled()
    assert not table.edit_classes.isEnabled()


def test_a_layer_that_is_removed_empties_the_table(table: ObjectsTable, controller: Controller, labels: Any) -> None:
    table.select([2])
    controller.viewer.layers.remove(labels)
    assert shown(table) == []
    assert not table.actions_.delete.isEnabled()


def test_a_change_of_one_of_five_thousand_objects_resets_no_model(
    table: ObjectsTable, controller: Controller, labels: Any, qtbot: Any
) -> None:
    many = np.zeros(labels.data.shape, np.int32)
    many[::3, ::3] = np.arange(1, many[::3, ::3].size + 1).reshape(many[::3, ::3].shape)
    labels.data = many
    soon(qtbot, lambda: table.model.rowCount() > 5000)
    resets: list[int] = []
    changed: list[tuple[int, int]] = []
    table.model.modelReset.connect(lambda: resets.append(1))
    table.model.dataChanged.connect(lambda first, last: changed.append((first.row(), last.row())))
    table.actions_.set_approved(77, True)
    soon(qtbot, lambda: changed == [(76, 76)])
    count = table.model.rowCount()
    table.select([500])
    table.actions_.delete.trigger()
    soon(qtbot, lambda: table.model.rowCount() == count - 1)
    assert not resets
    assert table.model.row_of(501) == 499


@pytest.mark.parametrize(
    ("shape", "scale", "units", "expected"),
    [
        ((4, 4), (0.5, 0.5), ("um", "um"), ("Area", "µm²", 0.25)),
        ((4, 4), (2, 2), None, ("Area", "px", 1.0)),
        ((4, 4, 4), (2, 0.5, 0.5), ("um", "um", "um"), ("Volume", "µm³", 0.5)),
        ((4, 4, 4), (2000, 0.5, 0.5), ("nm", "um", "um"), ("Volume", "µm³", 0.5)),
        ((4, 4, 4), (9, 0.5, 0.5), ("s", "um", "um"), ("Area", "µm²", 0.25)),
    ],
)
def test_sizes_are_in_the_units_of_the_layer(
    controller: Controller, shape: tuple[int, ...], scale: tuple[float, ...], units: Any, expected: tuple[Any, ...]
) -> None:
    layer = controller.viewer.add_labels(np.zeros(shape, int), scale=scale, units=units)
    size = PixelSize.of(layer)
    assert (size.kind, size.unit) == expected[:2]
    assert size.factor == pytest.approx(expected[2])


def test_sizes_are_written_with_three_digits() -> None:
    size = PixelSize(0.1, "µm²")
    assert [size.format(pixels) for pixels in (0, 1, 123, 12345, 10**8)] == ["0", "0.100", "12.3", "1234", "1.00e+07"]


def test_classes_are_added_renamed_recoloured_and_removed(controller: Controller, target: LabelSet, put: Any) -> None:
    editor = put(ClassesEditor(controller))
    assert editor.hint.text() == NO_CLASSES
    editor.add.click()
    editor.add.click()
    assert [one.name for one in target.classes] == ["class 1", "class 2"]
    assert target.classes[0].colour != target.classes[1].colour
    editor.list.item(0).setText("mitotic")
    editor.list.item(1).setText("  ")
    assert [one.name for one in target.classes] == ["mitotic", "class 2"]
    editor.set_colour(1, QColor("red"))
    assert target.classes[0].colour == pytest.approx((1, 0, 0))
    editor.list.setCurrentRow(0)
    editor.remove.click()
    assert [one.id for one in target.classes] == [2]
    controller.undo()
    assert [one.name for one in target.classes] == ["mitotic", "class 2"]
    assert editor.list.count() == 2


def test_classes_need_labels(viewer: Any, make_controller: MakeController, put: Any) -> None:
    editor = put(ClassesEditor(make_controller(viewer)))
    assert editor.hint.text() == NO_LABELS
    assert not editor.add.isEnabled()

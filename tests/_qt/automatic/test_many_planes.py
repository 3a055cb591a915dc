"""Find everything in all planes of a stack and in all open images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from qtpy.QtWidgets import QApplication

from napari_sam_lora import Model
from napari_sam_lora._qt.automatic import controller as everything_controller
from napari_sam_lora._qt.automatic.panel import EverythingBox
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.io.samples import nuclei_pair
from napari_sam_lora.session import Session

from ..conftest import WAIT_MS, MakeController
from ..helpers import click

PLANES = 4


@pytest.fixture
def stack(nuclei: tuple[NDArray[Any], NDArray[Any]]) -> NDArray[Any]:
    """A stack of four small planes of nuclei; the second is empty."""
    part = nuclei[0][:96, :96]
    return np.stack([part, np.zeros_like(part), part[::-1], part[:, ::-1]])


@pytest.fixture
def box(viewer: Any, stack: NDArray[Any], make_controller: MakeController, put: Any) -> EverythingBox:
    """Make a box that looks for objects in all planes of a stack, of which the first is shown."""
    viewer.add_image(stack, name="stack", scale=(4, 0.5, 0.5))
    viewer.dims.set_current_step(0, 0)
    made: EverythingBox = put(EverythingBox(make_controller(viewer)))
    made.choose_where("planes")
    return made


def find(box: EverythingBox, qtbot: Any, state: str = "found") -> None:
    box.look.click()
    qtbot.waitUntil(lambda: box.everything.state == state, timeout=WAIT_MS)


def accept(box: EverythingBox, qtbot: Any) -> None:
    box.accept.click()
    qtbot.waitUntil(lambda: box.everything.state == "idle", timeout=WAIT_MS)


def planes_of(box: EverythingBox) -> list[int]:
    return [plane.index[0] for plane in box.everything.review.findings.planes]


def test_all_planes_are_added_as_one_step_of_napari(box: EverythingBox, qtbot: Any) -> None:
    assert "4 planes" in box.hint.text()
    find(box, qtbot)
    number = box.everything.review.findings.count()
    assert planes_of(box) == [0, 2, 3]
    assert f"Found {number} objects in 3 planes" in box.hint.text()
    accept(box, qtbot)
    layer = box._controller.active_layers.target_layer
    assert layer is not None
    assert layer.name == "stack labels"
    assert np.allclose(layer.scale, (4, 0.5, 0.5))
    assert [bool(plane.any()) for plane in layer.data] == [True, False, True, True]
    assert len(np.unique(layer.data)) - 1 == number
    layer.undo()
    assert not layer.data.any()


def test_the_buttons_show_the_planes_with_proposals_in_turn(box: EverythingBox, viewer: Any, qtbot: Any) -> None:
    find(box, qtbot)
    seen = [box.position.text()]
    for _ in range(3):
        box.next.click()
        seen.append(box.position.text())
        assert box.everything.review.layer.layer.data.any()  # type: ignore[union-attr]
    assert seen == [
        "stack, plane 0 (1 of 3)",
        "stack, plane 2 (2 of 3)",
        "stack, plane 3 (3 of 3)",
        "stack, plane 0 (1 of 3)",
    ]
    viewer.dims.set_current_step(0, 1)
    assert not box.everything.review.layer.layer.data.any()  # type: ignore[union-attr]
    assert box.position.text() == "Objects in 3 planes"
    box.previous.click()
    assert viewer.dims.current_step[0] == 0
    viewer.dims.set_current_step(0, 1)
    box.next.click()
    assert viewer.dims.current_step[0] == 2


def test_what_is_dropped_in_a_plane_stays_dropped_when_sliders_move(
    box: EverythingBox, viewer: Any, qtbot: Any
) -> None:
    find(box, qtbot)
    findings, plane = box.everything.review.findings, box._controller.active_layers.plane
    assert plane is not None
    largest = max(findings.proposal(plane).changes, key=lambda change: change.new.area)  # type: ignore[union-attr]
    y, x = np.argwhere(largest.new.to_mask((96, 96))).mean(0).round()
    click(viewer, (0, 0.5 * y, 0.5 * x))
    assert findings.count_dropped() == 1
    box.next.click()
    box.instances.fields["sensitivity"].value = 0.45
    qtbot.waitUntil(lambda: not box.everything.review.is_cutting, timeout=WAIT_MS)
    assert findings.count_dropped() == 1
    accept(box, qtbot)
    layer = box._controller.active_layers.target_layer
    assert layer.data[0].any()  # type: ignore[union-attr]
    assert layer.data[0, int(y), int(x)] == 0  # type: ignore[union-attr]


def test_sliders_act_on_all_planes_without_another_search(box: EverythingBox, qtbot: Any) -> None:
    find(box, qtbot)
    findings, kinds = box.everything.review.findings, set[str]()
    box._controller.events.progressed.connect(lambda key, done, total: kinds.add(key[0]))
    before = findings.count()
    box.instances.fields["smallest"].value = 150
    qtbot.waitUntil(lambda: not box.everything.review.is_cutting, timeout=WAIT_MS)
    assert 0 < findings.count() < before
    assert min(change.new.area for change in findings.kept("stack").changes) >= 150
    assert kinds == {"cut"}


def test_accepting_waits_for_planes_that_are_not_cut_yet(box: EverythingBox, qtbot: Any) -> None:
    find(box, qtbot)
    box.instances.fields["smallest"].value = 150
    assert box.everything.review.findings.stale(box.instances.values())
    accept(box, qtbot)
    layer = box._controller.active_layers.target_layer
    areas = np.bincount(layer.data.ravel())[1:]  # type: ignore[union-attr]
    assert len(areas) == 3
    assert areas.min() >= 150


def test_what_was_found_before_a_cancellation_can_be_added(box: EverythingBox, qtbot: Any) -> None:
    box.look.click()
    qtbot.waitUntil(lambda: bool(box.everything.review.findings.count()), timeout=WAIT_MS)
    box.stop.click()
    assert box.everything.state == "found"
    assert box.hint.text().startswith(everything_controller.CANCELLED_EARLY)
    assert 0 in planes_of(box)
    searched = len(box.everything.review.findings.searched)
    qtbot.waitUntil(lambda: not box._controller.session.models.is_busy, timeout=WAIT_MS)
    assert len(box.everything.review.findings.searched) == searched < PLANES
    accept(box, qtbot)
    assert box._controller.active_layers.target_layer.data[0].any()  # type: ignore[union-attr]


@pytest.mark.parametrize("go_on", [True, False])
def test_a_long_search_tells_how_long_it_takes_and_asks(
    box: EverythingBox, qtbot: Any, monkeypatch: pytest.MonkeyPatch, go_on: bool
) -> None:
    monkeypatch.setattr(everything_controller, "LONG_SECONDS", 0.0)
    find(box, qtbot, "asking")
    assert len(box.everything.review.findings.searched) == 2
    assert "The other 2 planes will take about" in box.hint.text()
    assert not box.asking.isHidden()
    (box.go_on if go_on else box.take_these).click()
    qtbot.waitUntil(lambda: box.everything.state == "found", timeout=WAIT_MS)
    assert planes_of(box) == ([0, 2, 3] if go_on else [0])
    box.discard.click()
    assert "4 planes, about" in box.hint.text()


def test_planes_marked_as_complete_are_left_out(box: EverythingBox, qtbot: Any) -> None:
    controller = box._controller
    layer = controller.active_layers.make_target()
    layer.data[2, 5:9, 5:9] = 1
    assert controller.target is not None
    for plane in (controller.active_layers.plane, controller.active_layers.plane.neighbour(2)):  # type: ignore[union-attr]
        assert plane is not None
        controller.target.mark_complete(plane)
    find(box, qtbot)
    assert planes_of(box) == [3]
    accept(box, qtbot)
    assert [bool(plane.any()) for plane in layer.data] == [False, False, True, True]
    assert (layer.data[2] > 0).sum() == 16


def test_objects_painted_during_the_review_are_not_touched(box: EverythingBox, viewer: Any, qtbot: Any) -> None:
    controller = box._controller
    layer = controller.active_layers.make_target()
    find(box, qtbot)
    number = box.everything.review.findings.count()
    change = max(
        box.everything.review.findings.kept("stack").changes,
        key=lambda one: (one.plane.index[0] == 3, one.new.area),
    )
    y0, x0, y1, x1 = change.new.box
    box.next.click()
    box.next.click()
    assert viewer.dims.current_step[0] == 3
    y, x = np.mgrid[y0:y1, x0:x1].reshape(2, -1)
    layer.data_setitem((np.full(len(y), 3), y, x), 77)
    controller.layers.flush()
    accept(box, qtbot)
    assert (layer.data[3, y0:y1, x0:x1] == 77).all()
    assert len(np.unique(layer.data)) - 1 <= number


def test_the_box_refinement_of_the_head_is_used(
    viewer: Any, nano: Model, nuclei: tuple[NDArray[Any], NDArray[Any]], put: Any, qtbot: Any
) -> None:
    assert nano.loaded.dense is not None
    refining = Model(replace(nano.loaded, dense=replace(nano.loaded.dense, refine=True)))
    image = nuclei[0][:96, :96]
    viewer.add_image(image, name="nuclei")
    controller = Controller(viewer, QApplication.instance(), Session(refining))
    box = put(EverythingBox(controller))
    find(box, qtbot)
    found = box.everything.review.findings.found(controller.active_layers.plane)
    assert found is not None
    assert found.is_refined
    box.instances.fields["sensitivity"].value = 0.6
    accept(box, qtbot)
    labels = controller.active_layers.target_layer.data > 0  # type: ignore[union-attr]
    model = Model(replace(nano.loaded, dense=replace(refining.loaded.dense, refine=False)))  # type: ignore[type-var]
    values = replace(nano.loaded.dense.instances, sensitivity=0.6)
    refined, rough = (one.segment_everything(image, instances=values) > 0 for one in (refining, model))
    assert np.count_nonzero(labels != refined) < np.count_nonzero(labels != rough) / 4
    controller.close()


# Several images


@pytest.fixture
def wells(viewer: Any, make_controller: MakeController, put: Any) -> EverythingBox:
    """Make a box that looks in three images of one size, one above the other; the last one is hidden."""
    for name, number in (("A1", 5), ("A2", 6), ("A3", 7)):
        viewer.add_image(nuclei_pair(number)[0][:128, :128], name=name, visible=name != "A3", translate=(number, 0))
    controller = make_controller(viewer)
    controller.active_layers.choose_image(viewer.layers["A2"])
    made: EverythingBox = put(EverythingBox(controller))
    made.choose_where("images")
    return made


def test_each_image_gets_its_objects_in_labels_of_its_own(wells: EverythingBox, viewer: Any, qtbot: Any) -> None:
    assert "3 images" in wells.hint.text()
    assert "A3 is hidden and searched as well." in wells.look.toolTip()
    find(wells, qtbot)
    findings = wells.everything.review.findings
    counts = {image: len(findings.kept(image).changes) for image in findings.images}
    assert set(counts) == {"A1", "A2", "A3"}
    accept(wells, qtbot)
    for image, count in counts.items():
        labels = viewer.layers[f"{image} labels"]
        assert len(np.unique(labels.data)) - 1 == count
        assert np.allclose(labels.translate, viewer.layers[image].translate)
        labels.undo()
        assert not labels.data.any()
    assert f"Added {sum(counts.values())} objects to the labels of 3 images." in wells.hint.text()


def test_finished_objects_of_all_images_are_not_touched(wells: EverythingBox, viewer: Any, qtbot: Any) -> None:
    truth = {"A1": nuclei_pair(5)[1][:128, :128], "A3": nuclei_pair(7)[1][:128, :128]}
    for image, labels in truth.items():
        largest = np.bincount(labels.ravel())[1:].argmax() + 1
        place = {"name": f"{image} labels", "translate": viewer.layers[image].translate}
        viewer.add_labels(np.where(labels == largest, 9, 0), **place)
    before = {image: viewer.layers[f"{image} labels"].data == 9 for image in truth}
    find(wells, qtbot)
    accept(wells, qtbot)
    for image, finished in before.items():
        data = viewer.layers[f"{image} labels"].data
        assert np.array_equal(data == 9, finished)
        assert len(np.unique(data)) > 2


def test_looking_through_images_shows_each_and_leaves_the_view_as_it_was(
    wells: EverythingBox, viewer: Any, qtbot: Any
) -> None:
    def visible() -> dict[str, bool]:
        return {layer.name: layer.visible for layer in viewer.layers if layer.name in ("A1", "A2", "A3")}

    before = visible()
    find(wells, qtbot)
    controller, seen = wells._controller, list[str]()
    for _ in range(3):
        shown = controller.active_layers.image_layer
        assert shown is not None
        seen.append(shown.name)
        assert shown.visible
        above = list(viewer.layers)[viewer.layers.index(shown) + 1 :]
        assert not any(layer.visible for layer in above if layer.name in before)
        assert np.allclose(wells.everything.review.layer.layer.translate, shown.translate)  # type: ignore[union-attr]
        wells.next.click()
    assert sorted(seen) == ["A1", "A2", "A3"]
    wells.next.click()
    wells.discard.click()
    assert visible() == before
    assert controller.active_layers.image_layer is viewer.layers["A2"]


def test_an_image_that_is_removed_takes_its_proposals_along(wells: EverythingBox, viewer: Any, qtbot: Any) -> None:
    find(wells, qtbot)
    viewer.layers.remove("A1")
    assert wells.everything.review.findings.images == ["A2", "A3"]
    accept(wells, qtbot)
    assert "A1 labels" not in viewer.layers
    assert viewer.layers["A3 labels"].data.any()

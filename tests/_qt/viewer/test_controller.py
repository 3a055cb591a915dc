"""Controller: one for each viewer, follows its layers, ends with its window."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from napari.utils._proxies import PublicOnlyProxy
from numpy.typing import NDArray
from qtpy.QtCore import QCoreApplication, QEvent

from napari_sam_lora import Model
from napari_sam_lora._qt.layers.napari_stores import is_managed
from napari_sam_lora._qt.prompting.panel import PromptPanel
from napari_sam_lora._qt.viewer import controller as module
from napari_sam_lora._qt.viewer.controller import Controller, controller_of
from napari_sam_lora._qt.viewer.thread_bridge import ThreadBridge
from napari_sam_lora.labels import LabelledObject
from napari_sam_lora.session import CancelToken, Session
from napari_sam_lora.session.jobs.user_messages import user_message

from ..conftest import WAIT_MS, MakeController
from ..helpers import add_box, add_point, dense

Settle = Callable[[Controller], None]


def commit_box(controller: Controller, cell: LabelledObject, settle: Settle) -> None:
    add_box(controller, cell.box)
    controller.commit()
    settle(controller)


# One for each viewer


def test_every_panel_of_a_viewer_gets_the_same_controller(viewer: Any) -> None:
    first = controller_of(viewer)
    assert controller_of(PublicOnlyProxy(viewer)) is first
    first.close()
    second = controller_of(viewer)
    assert second is not first
    second.close()


def test_two_viewers_know_nothing_of_each_other(
    make_napari_viewer: Any, make_controller: MakeController, nuclei: Any, cell: LabelledObject, settle: Settle
) -> None:
    viewers = [make_napari_viewer(), make_napari_viewer()]
    for viewer in viewers:
        viewer.add_image(nuclei[0])
    first, second = (make_controller(viewer) for viewer in viewers)
    add_point(first, cell.centre)
    settle(first)
    assert second.previews.preview is None
    assert [layer.name for layer in viewers[1].layers] == ["nuclei"] or len(viewers[1].layers) == 1
    commit_box(second, cell, settle)
    assert first.active_layers.target_layer is None


# Following layers


def test_renaming_and_moving_layers_does_no_harm(
    controller: Controller, viewer: Any, cell: LabelledObject, settle: Settle
) -> None:
    commit_box(controller, cell, settle)
    add_point(controller, cell.centre)
    for number, layer in enumerate(list(viewer.layers)):
        layer.name = f"renamed {number}"
    viewer.layers.move(0, 4)
    settle(controller)
    controller.set_policy(overwrite=True)
    controller.commit()
    settle(controller)
    assert len(controller.target.records()) >= 1  # type: ignore[union-attr]
    target: Any = controller.active_layers.target_layer
    assert target.name.startswith("renamed")
    assert controller.session.images[controller.image].name == "renamed 0"


def test_prompt_layers_that_were_deleted_are_made_again(
    controller: Controller, viewer: Any, cell: LabelledObject, settle: Settle
) -> None:
    add_point(controller, cell.centre)
    settle(controller)
    for layer in [layer for layer in viewer.layers if is_managed(layer)]:
        viewer.layers.remove(layer)
    assert not len(controller.session.prompts.draft(controller.active_layers.plane))  # type: ignore[arg-type]
    assert controller.previews.preview is None
    commit_box(controller, cell, settle)
    assert len(controller.target.records()) == 1  # type: ignore[union-attr]


def test_a_deleted_image_takes_its_prompts_along_and_leaves_the_labels(
    controller: Controller, viewer: Any, cell: LabelledObject, settle: Settle, qtbot: Any
) -> None:
    commit_box(controller, cell, settle)
    add_point(controller, cell.centre)
    labels, before = controller.active_layers.target_layer, controller.active_layers.target_layer.data.copy()  # type: ignore[union-attr]
    viewer.layers.remove("nuclei")
    qtbot.waitUntil(lambda: not any(is_managed(layer) for layer in viewer.layers), timeout=WAIT_MS)
    assert controller.active_layers.image_layer is None
    assert controller.active_layers.plane is None
    assert labels in viewer.layers
    np.testing.assert_array_equal(labels.data, before)  # type: ignore[union-attr]
    controller.commit()
    controller.clear_prompts()
    controller.previews.refresh()


def test_deleted_labels_are_not_written_to(
    controller: Controller, viewer: Any, cell: LabelledObject, settle: Settle
) -> None:
    commit_box(controller, cell, settle)
    viewer.layers.remove("nuclei labels")
    assert controller.active_layers.fitting_labels() == []
    commit_box(controller, cell, settle)
    assert controller.active_layers.target_layer is viewer.layers["nuclei labels"]


def test_labels_that_do_not_fit_the_image_are_not_offered(controller: Controller, viewer: Any) -> None:
    viewer.add_labels(np.zeros((9, 9), int))
    assert controller.active_layers.fitting_labels() == []
    fitting = viewer.add_labels(np.zeros((256, 256), int))
    assert controller.active_layers.fitting_labels() == [fitting]
    assert controller.active_layers.target_layer is fitting


def test_new_pixels_of_an_image_give_new_masks(controller: Controller, cell: LabelledObject, settle: Settle) -> None:
    add_box(controller, cell.box)
    settle(controller)
    assert controller.previews.preview is not None
    before = dense(controller.previews.preview)
    image = controller.active_layers.image_layer
    assert image is not None
    image.data = np.roll(image.data, 90, axis=1)
    settle(controller)
    assert not np.array_equal(before, dense(controller.previews.preview))


def test_another_image_has_other_prompts(
    controller: Controller, viewer: Any, cell: LabelledObject, nuclei: Any
) -> None:
    add_point(controller, cell.centre)
    first = controller.active_layers.image_layer
    controller.active_layers.choose_image(viewer.add_image(nuclei[0][:100, :90], name="part"))
    assert not len(controller.session.prompts.draft(controller.active_layers.plane))  # type: ignore[arg-type]
    assert not viewer.layers["SAM points"].visible
    controller.active_layers.choose_image(first)
    assert len(controller.session.prompts.draft(controller.active_layers.plane)) == 1  # type: ignore[arg-type]
    assert viewer.layers["SAM points"].visible


# Painting and undo


def test_painting_over_an_object_makes_it_painted_and_keeps_its_prompts(
    controller: Controller, cell: LabelledObject, settle: Settle, qtbot: Any
) -> None:
    commit_box(controller, cell, settle)
    layer = controller.active_layers.target_layer
    assert layer is not None
    layer.paint((50, 50), 1)
    qtbot.waitUntil(lambda: controller.target.records()[0].origin == "painted", timeout=WAIT_MS)  # type: ignore[union-attr]
    assert controller.target.records()[0].prompts  # type: ignore[union-attr]


def test_napari_s_own_undo_takes_the_object_out_of_the_list_and_redo_puts_it_back(
    controller: Controller, cell: LabelledObject, settle: Settle, qtbot: Any
) -> None:
    commit_box(controller, cell, settle)
    layer, target = controller.active_layers.target_layer, controller.target
    assert layer is not None
    assert target is not None
    layer.undo()
    qtbot.waitUntil(lambda: not target.records(), timeout=WAIT_MS)
    layer.redo()
    qtbot.waitUntil(lambda: len(target.records()) == 1, timeout=WAIT_MS)
    assert target.records()[0].origin == "prompted"


def test_our_undo_takes_back_commits_and_strokes_in_the_order_they_were_made(
    controller: Controller, cell: LabelledObject, settle: Settle
) -> None:
    commit_box(controller, cell, settle)
    layer = controller.active_layers.target_layer
    assert layer is not None
    committed = layer.data.copy()
    layer.paint((50, 50), 9)
    controller.undo()
    np.testing.assert_array_equal(layer.data, committed)
    controller.undo()
    assert not layer.data.any()
    controller.redo()
    np.testing.assert_array_equal(layer.data, committed)


# Models and errors


def test_the_first_tool_loads_the_default_model_in_the_background(viewer: Any, nuclei: Any, qtbot: Any) -> None:
    viewer.add_image(nuclei[0])
    controller = controller_of(viewer)
    add_point(controller, (100, 100))
    assert controller.model_loader.loading == "sam_nano"
    assert controller.previews.is_waiting
    qtbot.waitUntil(lambda: controller.previews.preview is not None, timeout=60_000)
    assert controller.session.models.model is not None
    assert controller.model_loader.loading == ""
    controller.close()


def test_an_error_in_the_worker_is_reported_and_loses_nothing(
    controller: Controller, cell: LabelledObject, settle: Settle, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    error = RuntimeError("the disk is on fire")

    def fail(*_: Any) -> None:
        raise error

    messages: list[str] = []
    controller.events.failed.connect(messages.append)
    source = controller.session.images[controller.image]
    add_point(controller, cell.centre)
    settle(controller)
    with monkeypatch.context() as patch:
        patch.setattr(type(source), "read", fail)
        controller.active_layers.image_layer.data = controller.active_layers.image_layer.data + 1  # type: ignore[union-attr]
        controller.commit()
        qtbot.waitUntil(lambda: bool(messages), timeout=WAIT_MS)
    assert messages[0] == user_message(error)
    settle(controller)
    assert controller.active_layers.target_layer is None, "the commit was given up"
    controller.commit()
    settle(controller)
    assert len(controller.target.records()) == 1  # type: ignore[union-attr]


def test_a_model_that_cannot_be_loaded_leaves_the_one_in_use(
    controller: Controller, nano: Model, tmp_path: Any, qtbot: Any
) -> None:
    messages: list[str] = []
    controller.events.failed.connect(messages.append)
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"nothing")
    controller.model_loader.load_model(broken)
    qtbot.waitUntil(lambda: bool(messages) and not controller.model_loader.loading, timeout=WAIT_MS)
    assert controller.session.models.model is nano


def test_results_of_other_threads_are_delivered_on_the_gui_thread_until_closed(qapp: Any, qtbot: Any) -> None:
    session = Session()
    bridge = ThreadBridge(session)
    seen: list[threading.Thread] = []
    bridge.failed.connect(lambda _: seen.append(threading.current_thread()))
    thread = threading.Thread(target=lambda: session.models.failed.emit("no disk"))
    thread.start()
    thread.join()
    assert not seen
    qtbot.waitUntil(lambda: bool(seen), timeout=WAIT_MS)
    assert seen == [threading.main_thread()]
    bridge.close()
    session.models.failed.emit("no disk")
    assert len(seen) == 1


# Closing


def test_closing_while_busy_waits_for_nothing_and_is_clean(
    controller: Controller, viewer: Any, qtbot: Any, cell: LabelledObject
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work(token: CancelToken) -> None:
        begun.set()
        go_on.wait(30)

    controller.session.models._worker.submit("long", work)
    assert begun.wait(30)
    for _ in range(3):
        add_point(controller, cell.centre)
    controller.previews._request()
    controller.commit()
    controller.close()
    controller.close()
    assert controller.session.models.is_busy
    assert [layer.name for layer in viewer.layers] == ["nuclei"]
    go_on.set()
    qtbot.waitUntil(lambda: not controller.session.models.is_busy, timeout=WAIT_MS)


def test_the_session_ends_with_the_window(make_napari_viewer: Any, nuclei: Any, qtbot: Any) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.add_image(nuclei[0])
    panel = PromptPanel(viewer)
    viewer.window.add_dock_widget(panel)
    controller = panel.controller
    qtbot.waitUntil(panel.isVisible, timeout=WAIT_MS)
    session = controller.session
    viewer.close()
    qtbot.waitUntil(lambda: controller.viewer is None, timeout=WAIT_MS)
    with pytest.raises(RuntimeError, match="was closed"):
        session.models.load("sam_nano")


def test_a_window_with_a_training_going_on_asks_before_it_closes(
    make_napari_viewer: Any, nuclei: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = make_napari_viewer(show=True)
    panel = PromptPanel(viewer)
    viewer.window.add_dock_widget(panel)
    controller = panel.controller
    qtbot.waitUntil(panel.isVisible, timeout=WAIT_MS)

    class Running:
        event = type("Event", (), {"is_final": False})()

        def discard(self) -> None:
            self.event.is_final = True

        def wait(self, timeout: float | None = None) -> Any:
            return self.event

    controller.session.training._job = Running()  # type: ignore[assignment]
    answers = [False, True]
    monkeypatch.setattr(module, "ask_to_discard_training", lambda _: answers.pop(0))
    window = viewer.window._qt_window
    QCoreApplication.sendEvent(window, QEvent(QEvent.Type.Close))
    assert window.isVisible()
    assert controller.viewer is viewer
    viewer.close()
    qtbot.waitUntil(lambda: controller.viewer is None, timeout=WAIT_MS)
    assert answers == []


def test_a_dock_that_is_closed_and_opened_again_goes_on_where_it_was(
    controller: Controller, viewer: Any, cell: LabelledObject, settle: Settle, qtbot: Any, qapp: Any
) -> None:
    calls: list[str] = []
    for _ in range(3):
        panel = PromptPanel(viewer)
        assert panel.controller is controller
        dock = viewer.window.add_dock_widget(panel)
        viewer.window.remove_dock_widget(dock)
        panel.deleteLater()
        del panel, dock
        qapp.processEvents()
    panel = PromptPanel(viewer)
    viewer.window.add_dock_widget(panel)
    controller.message.connect(calls.append)
    commit_box(controller, cell, settle)
    assert calls == ["Added object 1."]
    assert len(controller.target.records()) == 1  # type: ignore[union-attr]


def test_a_session_can_be_given_by_a_script(viewer: Any, nuclei: Any, nano: Model, qapp: Any) -> None:
    session = Session(nano)
    controller = Controller(viewer, qapp, session)
    layer = viewer.add_image(nuclei[0])
    assert controller.active_layers.image_layer is layer
    assert list(session.images) == [controller.image]
    controller.close()


def test_prompts_added_by_a_script_are_drawn(controller: Controller, viewer: Any) -> None:
    plane = controller.active_layers.plane
    assert plane is not None
    controller.session.prompts.add(plane, "box", [40, 60, 70, 95])
    controller.session.prompts.add(plane, "point", [50, 70], positive=False)
    shapes: NDArray[Any] = viewer.layers["SAM boxes"].data[0]
    np.testing.assert_array_equal(shapes.min(0), [39.5, 59.5])
    assert list(viewer.layers["SAM points"].features["polarity"]) == ["negative"]


# Labels of each image


def test_images_of_one_size_have_labels_of_their_own(
    controller: Controller, viewer: Any, cell: LabelledObject, nuclei: Any, settle: Settle
) -> None:
    first = controller.active_layers.image_layer
    commit_box(controller, cell, settle)
    own = controller.active_layers.target_layer
    second = viewer.add_image(nuclei[0][::-1], name="other")
    controller.active_layers.choose_image(second)
    assert controller.active_layers.target_layer is None
    commit_box(controller, cell, settle)
    assert controller.active_layers.target_layer is viewer.layers["other labels"]
    controller.active_layers.choose_image(first)
    assert controller.active_layers.target_layer is own
    assert controller.active_layers.labels_of(second) is viewer.layers["other labels"]


def test_labels_that_the_user_chooses_for_an_image_stay_with_it(
    controller: Controller, viewer: Any, nuclei: Any
) -> None:
    first, second = controller.active_layers.image_layer, viewer.add_image(nuclei[0][::-1], name="other")
    shared = controller.active_layers.make_target()
    controller.active_layers.choose_image(second)
    controller.active_layers.choose_target(shared)
    controller.active_layers.choose_image(first)
    controller.active_layers.choose_image(second)
    assert controller.active_layers.target_layer is shared


def test_labels_without_an_owner_are_those_of_the_image_in_use_only(
    controller: Controller, viewer: Any, nuclei: Any
) -> None:
    first, second = controller.active_layers.image_layer, viewer.add_image(nuclei[0][::-1], name="other")
    cells = viewer.add_labels(np.zeros((256, 256), int), name="cells")
    assert controller.active_layers.image_layer is second
    assert controller.active_layers.target_layer is cells
    assert controller.active_layers.labels_of(first) is None

"""Projects in a real viewer."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from error_codes import raises
from numpy.typing import NDArray
from qtpy.compat import isalive
from qtpy.QtWidgets import QFileDialog

from napari_sam_lora._qt.project.controller import ProjectController, project_controller_of
from napari_sam_lora._qt.project.panel import ProjectBox
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.preferences import Preferences, save_preferences
from napari_sam_lora.errors import InputError
from napari_sam_lora.model.download import cache_folder
from napari_sam_lora.session.project.folder import read_manifest
from napari_sam_lora.session.project.image_references import FoundImage, ImageReference
from napari_sam_lora.session.project.loader import open_project
from napari_sam_lora.session.project.recovery import Recovery

from ..helpers import add_box
from ..tuning import random_adapter

WAIT_MS = 20_000


@pytest.fixture
def image(tmp_path: Path, nuclei: tuple[NDArray[Any], NDArray[Any]]) -> Path:
    path = tmp_path / "my cells.tif"
    tifffile.imwrite(path, nuclei[0])
    return path


def _leave_out(found: Any) -> None:
    return None


def _open(viewer: Any, path: Path) -> Any:
    (layer,) = viewer.open(str(path), plugin="napari")
    layer.scale = (0.5, 0.5)
    return layer


def _commit(controller: Controller, cell: Any, settle: Any, qtbot: Any) -> None:
    add_box(controller, cell.box)
    settle(controller)
    controller.commit()
    qtbot.waitUntil(
        lambda: controller.active_layers.target_layer is not None and controller.active_layers.target_layer.data.any(),
        timeout=WAIT_MS,
    )


def _sessions() -> list[Path]:
    return sorted((cache_folder() / "sessions").glob("*/"))


def _wait_for_labels(folder: Path, qtbot: Any) -> None:
    def is_there() -> bool:
        if not (folder / "project.json").exists():
            return False
        return any(one["planes"] for one in read_manifest(folder)["labels"])

    qtbot.waitUntil(is_there, timeout=WAIT_MS)


def test_work_saves_itself_and_is_offered_after_a_crash(
    viewer: Any, make_napari_viewer: Any, make_controller: Any, image: Path, cell: Any, settle: Any, qtbot: Any
) -> None:
    _open(viewer, image)
    controller = make_controller(viewer)
    assert project_controller_of(controller).offered == ()
    _commit(controller, cell, settle, qtbot)
    (folder,) = _sessions()
    _wait_for_labels(folder, qtbot)
    wanted = controller.active_layers.target_layer.data.copy()
    shutil.copytree(folder, folder.with_name("crashed"))  # as if the process of this one had been killed
    controller.close()
    Recovery(folder.parent).end(folder)  # the next test is about those that were closed

    second = make_napari_viewer(strict_qt=True)
    again = make_controller(second)
    project = project_controller_of(again)
    (offered,) = project.offered
    assert "my cells" in offered.question
    project.restore(offered, _leave_out)
    assert project.offered == ()
    assert [layer.name for layer in second.layers][:2] == ["my cells", "my cells labels"]
    restored = second.layers["my cells labels"]
    np.testing.assert_array_equal(restored.data, wanted)
    np.testing.assert_allclose(restored.scale, (0.5, 0.5))
    (record,) = again.session.labels[again.layers.id_of(restored)].records()
    assert record.origin == "prompted"
    ((plane, stored),) = record.prompts.items()
    assert plane.image == again.layers.id_of(second.layers["my cells"])
    assert stored[0].row[0].kind == "box"
    assert again.active_layers.target_layer is restored


def test_work_that_was_closed_by_mistake_can_be_restored(
    viewer: Any, make_napari_viewer: Any, make_controller: Any, image: Path, cell: Any, settle: Any, qtbot: Any
) -> None:
    _open(viewer, image)
    controller = make_controller(viewer)
    project_controller_of(controller)
    _commit(controller, cell, settle, qtbot)
    controller.active_layers.target_layer.data_setitem((np.array([0]), np.array([0])), 9)  # the last moment before
    wanted = controller.active_layers.target_layer.data.copy()
    controller.close()

    again = make_controller(make_napari_viewer(strict_qt=True))
    project = project_controller_of(again)
    (offered,) = project.offered
    assert offered.closed > 0
    project.restore(offered, _leave_out)
    np.testing.assert_array_equal(again.active_layers.target_layer.data, wanted)
    assert Recovery(offered.folder.parent).unfinished() == []  # no other viewer may open it meanwhile


def test_nothing_saves_itself_if_the_user_does_not_want_it(
    controller: Controller, cell: Any, settle: Any, qtbot: Any
) -> None:
    save_preferences(Preferences(autosave=False))
    project_controller_of(controller)
    _commit(controller, cell, settle, qtbot)
    assert _sessions() == []
    save_preferences(Preferences())


def test_a_folder_that_cannot_be_written_is_reported_once_and_work_goes_on(
    controller: Controller, cell: Any, settle: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr("napari_sam_lora._qt.project.controller.show_warning", warnings.append)
    (cache_folder() / "sessions").write_text("in the way")
    project = project_controller_of(controller)
    _commit(controller, cell, settle, qtbot)
    assert project.problem == "recovery-not-writable"
    assert warnings == [project.state]


def test_a_brush_of_three_dimensions_is_saved_in_all_planes_and_so_is_taking_it_back(
    viewer: Any, make_controller: Any, qtbot: Any
) -> None:
    viewer.add_image(np.zeros((6, 30, 30), np.uint8), name="stack")
    layer = viewer.add_labels(np.zeros((6, 30, 30), np.int32), name="cells")
    controller = make_controller(viewer)
    project_controller_of(controller)
    layer.n_edit_dimensions, layer.brush_size, layer.selected_label = 3, 5, 4

    def is_saved() -> bool:
        folders = [folder for folder in _sessions() if (folder / "project.json").exists()]
        return bool(folders) and np.array_equal(open_project(folders[0]).labels[0].data, layer.data)

    layer.paint((2, 15, 15), 4)
    assert layer.data.any(axis=(1, 2)).sum() > 2
    qtbot.waitUntil(is_saved, timeout=WAIT_MS)
    layer.paint((4, 5, 5), 4)
    qtbot.waitUntil(is_saved, timeout=WAIT_MS)
    layer.undo()
    assert not layer.data[:, 5, 5].any()
    qtbot.waitUntil(is_saved, timeout=WAIT_MS)
    controller.redo()
    assert layer.data[:, 5, 5].any()
    qtbot.waitUntil(is_saved, timeout=WAIT_MS)


def test_a_project_is_saved_where_the_user_says_and_goes_on_being_saved_there(
    controller: Controller, cell: Any, settle: Any, qtbot: Any, tmp_path: Path
) -> None:
    project = project_controller_of(controller)
    _commit(controller, cell, settle, qtbot)
    project.save(tmp_path / "my project")
    assert project.folder == tmp_path / "my project"
    _wait_for_labels(tmp_path / "my project", qtbot)
    qtbot.waitUntil(lambda: _sessions() == [], timeout=WAIT_MS)
    controller.active_layers.target_layer.data_setitem((np.array([0]), np.array([0])), 9)  # type: ignore[union-attr]
    controller.close()
    (labels,) = read_manifest(tmp_path / "my project")["labels"]
    plane = tifffile.imread(tmp_path / "my project" / labels["folder"] / labels["planes"][""])
    assert plane[0, 0] == 9
    assert _sessions() == []


def test_what_cannot_be_written_into_the_project_when_the_viewer_closes_can_be_restored(
    controller: Controller, cell: Any, settle: Any, qtbot: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "my project"
    _commit(controller, cell, settle, qtbot)
    project = project_controller_of(controller)
    project.save(folder)
    _wait_for_labels(folder, qtbot)
    qtbot.waitUntil(lambda: _sessions() == [], timeout=WAIT_MS)
    shutil.rmtree(folder)
    folder.write_text("the disk is gone")
    controller.active_layers.target_layer.data_setitem((np.array([0]), np.array([0])), 9)  # type: ignore[union-attr]
    controller.close()
    (offered,) = Recovery(cache_folder() / "sessions").unfinished()
    assert open_project(offered.folder).labels[0].data[0, 0] == 9


def test_a_warning_says_that_a_project_has_only_the_shown_planes_of_large_labels(
    viewer: Any, make_controller: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr("napari_sam_lora._qt.project.controller.show_warning", warnings.append)
    viewer.add_labels(np.ones((9, 9), np.uint8), name="small")
    controller = make_controller(viewer)
    project = project_controller_of(controller)
    project.save(tmp_path / "p")
    assert warnings == []
    monkeypatch.setattr("napari_sam_lora.session.labels.object_statistics.LARGE", 100)
    viewer.add_labels(np.ones((3, 9, 9), np.uint8), name="large")
    project.save()
    (warning,) = warnings
    assert warning.startswith("large: ")


def test_adapters_of_a_project_are_read_in_the_background_before_it_is_laid_out(
    controller: Controller,
    make_napari_viewer: Any,
    make_controller: Any,
    tmp_path: Path,
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = controller.session.models.model
    assert model is not None
    controller.session.models.adapters.add(random_adapter(base_hash=model.loaded.weights_hash), "nuclei")
    controller.session.models.activate("nuclei")
    project_controller_of(controller).save(tmp_path / "p")
    controller.close()
    again = make_controller(make_napari_viewer(strict_qt=True))
    library, readers = again.session.models.adapters, []
    entries = library.entries

    def watched() -> Any:
        readers.append(threading.current_thread())
        return entries()

    monkeypatch.setattr(library, "entries", watched)
    project = project_controller_of(again)
    states: list[str] = []
    project.changed.connect(lambda: states.append(project.state))
    project.open(tmp_path / "p", _leave_out)
    qtbot.waitUntil(lambda: project.folder is not None, timeout=WAIT_MS)
    assert readers[0] is not threading.main_thread()  # torch is imported there, which would stop the window
    assert [entry.name for entry in entries()] == ["nuclei"]
    assert states[:2] == ["Opening p …", ""]


def test_a_project_that_is_opened_once_more_has_the_last_changes(
    controller: Controller, cell: Any, settle: Any, qtbot: Any, tmp_path: Path
) -> None:
    project = project_controller_of(controller)
    _commit(controller, cell, settle, qtbot)
    project.save(tmp_path / "p")
    _wait_for_labels(tmp_path / "p", qtbot)
    first = controller.active_layers.target_layer
    first.data_setitem((np.array([0]), np.array([0])), 9)  # type: ignore[union-attr]
    project.open(tmp_path / "p" / ".." / "p", _leave_out)
    assert controller.active_layers.target_layer is not first
    np.testing.assert_array_equal(controller.active_layers.target_layer.data, first.data)  # type: ignore[union-attr]


def test_a_project_is_opened_as_it_is_when_its_adapters_are_read(
    controller: Controller, cell: Any, settle: Any, qtbot: Any, tmp_path: Path
) -> None:
    model = controller.session.models.model
    assert model is not None
    controller.session.models.adapters.add(random_adapter(base_hash=model.loaded.weights_hash), "nuclei")
    controller.session.models.activate("nuclei")
    project = project_controller_of(controller)
    _commit(controller, cell, settle, qtbot)
    project.save(tmp_path / "p")
    _wait_for_labels(tmp_path / "p", qtbot)
    first = controller.active_layers.target_layer
    project.open(tmp_path / "p", _leave_out)
    first.data_setitem((np.array([0]), np.array([0])), 9)  # type: ignore[union-attr]
    qtbot.waitUntil(lambda: controller.active_layers.target_layer is not first, timeout=WAIT_MS)
    assert controller.active_layers.target_layer.data[0, 0] == 9  # type: ignore[union-attr]


def test_what_is_no_project_is_refused_at_once(
    controller: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr("napari_sam_lora._qt.viewer.controller.show_warning", warnings.append)
    project = project_controller_of(controller)
    project.open(tmp_path, _leave_out)
    with raises(InputError, "manifest-not-found") as error:
        read_manifest(tmp_path)
    assert warnings == [str(error.value)]
    assert project.folder is None


def test_a_panel_that_was_closed_while_a_project_was_read_can_still_ask(
    controller: Controller, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = ProjectBox(controller)
    ask = box.ask
    parents: list[Any] = []

    def choose(parent: Any, *_: Any) -> tuple[str, str]:
        parents.append(parent)
        return str(tmp_path / "found.tif"), ""

    monkeypatch.setattr(QFileDialog, "getOpenFileName", choose)
    found = FoundImage(ImageReference("id", "cells", "gone.tif", "", "", (9, 9), (1.0, 1.0)), None, "missing")
    assert ask(found) == tmp_path / "found.tif"
    box.deleteLater()
    qtbot.waitUntil(lambda: not isalive(box), timeout=WAIT_MS)
    assert ask(found) == tmp_path / "found.tif"
    assert parents[0] is box
    assert parents[1] is None


def test_a_folder_of_other_things_is_refused_and_saving_goes_on(
    controller: Controller, cell: Any, settle: Any, qtbot: Any, tmp_path: Path
) -> None:
    project = project_controller_of(controller)
    _commit(controller, cell, settle, qtbot)
    (tmp_path / "photo.jpg").write_bytes(b"x")
    project.save(tmp_path)
    assert project.folder is None
    assert len(_sessions()) == 1


def test_the_box_asks_only_if_there_is_something_to_restore(controller: Controller, put: Any) -> None:
    box = put(ProjectBox(controller))
    assert isinstance(box.project, ProjectController)
    assert not box.question.isVisible()
    assert not box.answers.isVisible()
    assert box.save.text() == "Save project…"

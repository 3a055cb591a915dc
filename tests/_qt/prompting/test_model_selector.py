"""Choosing and loading models in the model box."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_sam_lora._qt.prompting.model_selector import NO_MODEL, OTHER_FILE, ModelBox
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.errors import CheckpointError
from napari_sam_lora.model.registry import MODELS
from napari_sam_lora.session import Session

from ..conftest import WAIT_MS

Fetch = Callable[[Any, Callable[[int, int], None]], Path]


@pytest.fixture
def box(controller: Controller, put: Any) -> ModelBox:
    made: ModelBox = put(ModelBox(controller))
    return made


@pytest.fixture
def fetch_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fetch], None]:
    """Replace the download by a function that uses no network."""

    def replace(call: Fetch) -> None:
        monkeypatch.setattr("napari_sam_lora.model.download.model_path", call)

    return replace


def test_opening_the_boxes_imports_no_torch() -> None:
    code = (
        "import sys; import napari_sam_lora._qt.prompting.model_selector, napari_sam_lora._qt.objects.table;"
        "import napari_sam_lora._qt.automatic.panel, napari_sam_lora._qt.propagation.panel;"
        "import napari_sam_lora._qt.finetuning.panel; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_each_named_model_shows_licence_size_and_whether_it_is_downloaded(box: ModelBox) -> None:
    box.choose("vit_b_lm")
    description = box.about.text().replace("\u2011", "-")
    for fact in ("micro-sam", MODELS["vit_b_lm"].licence, "375 MB", "not downloaded yet"):
        assert fact in description
    assert box.use.text() == "Download (375 MB) and use"
    box.choose("sam_nano")
    assert "Comes with this plugin" in box.about.text()


def test_a_model_that_is_in_use_as_chosen_need_not_be_loaded_again(box: ModelBox) -> None:
    assert not box.use.isEnabled()
    assert "In use: sam_nano on the processor" in box.state.text()
    assert box.devices.currentText() == "auto: processor"
    box.sizes.setCurrentIndex(box.sizes.findData(512))
    assert box.use.isEnabled()


def test_loading_a_model_keeps_prompts_and_labels(box: ModelBox, controller: Controller, qtbot: Any) -> None:
    plane = controller.active_layers.plane
    assert plane is not None
    layer = controller.active_layers.make_target()
    layer.data_setitem((np.array([3]), np.array([4])), 1)
    controller.session.prompts.add(plane, "box", [40, 60, 70, 95])
    before = controller.session.models.model
    box.sizes.setCurrentIndex(box.sizes.findData(384))
    box.use.click()
    qtbot.waitUntil(lambda: controller.session.models.model is not before and not box.use.isHidden(), timeout=WAIT_MS)
    assert "input 384 pixels" in box.state.text()
    assert not box.use.isEnabled()
    assert len(controller.session.prompts.draft(plane).rows()) == 1
    assert layer.data[3, 4] == 1


def test_a_download_shows_its_progress_and_can_be_cancelled(
    box: ModelBox, controller: Controller, qtbot: Any, fetch_with: Callable[[Fetch], None]
) -> None:
    go_on, before = threading.Event(), controller.session.models.model

    def fetch(info: Any, progress: Callable[[int, int], None]) -> Path:
        progress(100 * 2**20, 375 * 2**20)
        go_on.wait(30)
        progress(101 * 2**20, 375 * 2**20)  # raises, since it was cancelled
        raise AssertionError

    fetch_with(fetch)
    box.choose("vit_b")
    box.use.click()
    qtbot.waitUntil(lambda: box.bar.value() == 100, timeout=WAIT_MS)
    assert box.state.text() == "Downloading vit_b: 100 of 375 MB… You can go on working with sam_nano."
    assert box.bar.maximum() == 375
    assert box.use.isHidden()
    box.cancel.click()
    assert not box.use.isHidden()  # at once, although the connection has not ended
    go_on.set()
    qtbot.wait(50)
    assert controller.session.models.model is before
    assert "In use: sam_nano" in box.state.text()


def test_the_error_of_a_failed_download_is_shown(
    box: ModelBox, controller: Controller, qtbot: Any, fetch_with: Callable[[Fetch], None]
) -> None:
    def fetch(info: Any, progress: Callable[[int, int], None]) -> Path:
        raise CheckpointError("vit_b is not on this computer and could not be fetched. Fetch it in another way.")

    fetch_with(fetch)
    box.choose("vit_b")
    box.use.click()
    qtbot.waitUntil(lambda: "Fetch it in another way" in box.state.text(), timeout=WAIT_MS)
    assert box.use.isEnabled()
    assert controller.session.models.model is not None
    box.choose("sam_nano")
    box._on_model(box.models.currentIndex())
    assert "In use" in box.state.text()


def test_a_chosen_file_stays_in_the_list(
    box: ModelBox, controller: Controller, put: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"")
    monkeypatch.setattr(
        "napari_sam_lora._qt.prompting.model_selector.QFileDialog.getOpenFileName",
        lambda *_: (str(path), "SAM checkpoints"),
    )
    box.models.setCurrentIndex(box.models.findText(OTHER_FILE))
    box.models.activated.emit(box.models.currentIndex())
    assert box.chosen == str(path)
    again = put(ModelBox(controller))
    assert again.models.findData(str(path)) > 0


def test_no_file_chosen_leaves_the_choice_as_it_was(box: ModelBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_sam_lora._qt.prompting.model_selector.QFileDialog.getOpenFileName", lambda *_: ("", ""))
    box.models.setCurrentIndex(box.models.findText(OTHER_FILE))
    box.models.activated.emit(box.models.currentIndex())
    assert box.chosen == "sam_nano"


def test_before_a_model_is_loaded_the_next_step_is_shown(viewer: Any, qapp: Any, put: Any) -> None:
    controller = Controller(viewer, qapp, Session())
    box = put(ModelBox(controller))
    assert box.state.text() == NO_MODEL
    assert box.devices.currentText() == "automatic"
    assert box.use.isEnabled()
    controller.close()


def test_the_activity_dock_shows_megabytes_until_a_download_is_cancelled(
    box: ModelBox, controller: Controller, qtbot: Any, fetch_with: Callable[[Fetch], None]
) -> None:
    go_on = threading.Event()

    def fetch(info: Any, progress: Callable[[int, int], None]) -> Path:
        progress(100 * 2**20, 375 * 2**20)
        go_on.wait(30)
        raise CheckpointError("The connection has ended.")

    fetch_with(fetch)
    bars = controller._bars._bars
    controller.model_loader.load_model("vit_b")
    qtbot.waitUntil(lambda: "model" in bars, timeout=WAIT_MS)
    assert (bars["model"].n, bars["model"].total) == (100, 375)
    controller.session.models.cancel("model")
    assert not bars
    go_on.set()

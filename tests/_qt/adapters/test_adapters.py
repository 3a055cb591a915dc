"""The adapters widget in a real viewer."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from error_codes import raises
from numpy.typing import NDArray
from qtpy.QtWidgets import QApplication, QInputDialog, QMessageBox
from safetensors.torch import save_file

from napari_sam_lora import Adapter, Prompts, load_model
from napari_sam_lora._qt.adapters.panel import NO_ADAPTERS, AdaptersPanel
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.errors import AdapterError
from napari_sam_lora.session import PlaneKey, Session

from ..helpers import dense
from ..tuning import SOON_MS, open_labelled, random_adapter, small_model

PLANE = PlaneKey.of("nuclei", 2)
BOX = [40, 60, 70, 95]
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture
def controller(viewer: Any, nuclei: Pair) -> Iterator[Controller]:
    yield from open_labelled(viewer, *nuclei)


@pytest.fixture
def panel(controller: Controller) -> AdaptersPanel:
    made = AdaptersPanel(controller.viewer)
    controller.viewer.window.add_dock_widget(made)
    return made


def _cell(panel: AdaptersPanel, row: int, column: int) -> Any:
    return panel.table.item(row, column)


def test_an_empty_list_says_how_to_get_an_adapter(panel: AdaptersPanel) -> None:
    assert not panel.empty.isHidden()
    assert panel.empty.text() == NO_ADAPTERS
    assert not panel.use.isEnabled()
    assert not panel.toggle.isEnabled()


def test_an_adapter_is_listed_with_its_description(panel: AdaptersPanel) -> None:
    metrics = {
        "verdict": "better",
        "reason": "On 9 held-out objects.",
        "base": {"box_iou": 0.5, "click_iou": 0.4},
        "adapted": {"box_iou": 0.6, "click_iou": 0.7},
    }
    panel.controller.session.models.adapters.add(random_adapter().with_metrics(metrics), "nuclei", "bright ones")
    assert [_cell(panel, 0, column).text() for column in range(4)] == ["nuclei", "+0.200", "7", "bright ones"]
    for fact in ("sam_nano", "7 objects in 1 image", "Better. On 9 held-out objects.", "MiB", "bright ones"):
        assert fact in panel.about.text()


def test_using_and_not_using_it(panel: AdaptersPanel) -> None:
    session = panel.controller.session
    session.models.adapters.add(random_adapter(), "a")
    panel.use.click()
    assert session.models.active == "a"
    assert "“a”" in panel.state.text()
    assert panel.use.text() == "Stop using"
    assert _cell(panel, 0, 0).font().bold()
    panel.use.click()
    assert session.models.active == ""


def test_an_adapter_is_used_once_the_default_model_is_loaded(qtbot: Any, viewer: Any) -> None:
    controller = Controller(viewer, QApplication.instance(), Session())
    panel = AdaptersPanel(viewer)
    viewer.window.add_dock_widget(panel)
    controller.session.models.adapters.add(random_adapter(), "a")
    panel.use.click()
    assert panel.state.text() == "Loading the model sam_nano …"
    qtbot.waitUntil(lambda: controller.session.models.active == "a", timeout=SOON_MS)
    qtbot.waitUntil(lambda: "“a”" in panel.state.text(), timeout=SOON_MS)
    controller.close()


def test_comparing_switches_the_masks_of_the_present_prompts(qtbot: Any, panel: AdaptersPanel) -> None:
    controller = panel.controller
    controller.session.models.adapters.add(random_adapter(), "a")
    panel.use.click()
    controller.session.prompts.add(PLANE, "box", BOX)
    masks = []
    for _ in range(3):
        preview = controller.session.prompts.preview(PLANE).result(SOON_MS)
        masks.append((preview.adapter, dense(preview)))
        panel.toggle.click()
    assert [name for name, _ in masks] == ["a", "", "a"]
    assert not np.array_equal(masks[0][1], masks[1][1])
    assert np.array_equal(masks[0][1], masks[2][1])


def test_an_adapter_of_another_base_is_refused_with_a_message_to_the_user(
    panel: AdaptersPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("napari_sam_lora._qt.viewer.controller.show_warning", shown.append)
    session = panel.controller.session
    session.models.adapters.add(random_adapter(), "own")
    session.models.activate("own")
    session.models.adapters.add(random_adapter(1, "0" * 16, "vit_b"), "foreign")
    panel.table.choose("foreign")
    assert "vit_b" in panel.about.text()
    assert _cell(panel, panel.table.currentRow(), 0).font().italic()
    panel.use.click()
    with raises(AdapterError, "other-base-model", match="vit_b") as refused:
        session.models.activate("foreign")
    assert shown == [str(refused.value)]
    assert session.models.active == "own", "the one in use stays in use"


def test_names_and_notes_are_edited_in_the_list(panel: AdaptersPanel) -> None:
    session = panel.controller.session
    for name in ("a", "b"):
        session.models.adapters.add(random_adapter(), name)
    session.models.activate("a")
    row = next(number for number in range(2) if _cell(panel, number, 0).text() == "a")
    _cell(panel, row, 0).setText("better name")
    assert session.models.active == "better name"
    row = next(number for number in range(2) if _cell(panel, number, 0).text() == "better name")
    _cell(panel, row, 3).setText("for bright cells")
    assert session.models.adapters.entry("better name").note == "for bright cells"
    row = next(number for number in range(2) if _cell(panel, number, 0).text() == "b")
    _cell(panel, row, 0).setText("better name")
    assert {entry.name for entry in session.models.adapters.entries()} == {"better name", "b"}, (
        "a name in use is refused"
    )
    assert {_cell(panel, number, 0).text() for number in range(2)} == {"better name", "b"}


@pytest.mark.parametrize("sure", [True, False])
def test_deleting_asks_first(panel: AdaptersPanel, monkeypatch: pytest.MonkeyPatch, sure: bool) -> None:
    buttons = QMessageBox.StandardButton
    monkeypatch.setattr(QMessageBox, "question", lambda *_: buttons.Yes if sure else buttons.No)
    session = panel.controller.session
    session.models.adapters.add(random_adapter(), "a")
    session.models.activate("a")
    panel.delete.click()
    assert [entry.name for entry in session.models.adapters.entries()] == ([] if sure else ["a"])
    assert session.models.active == ("" if sure else "a")


def test_an_exported_file_is_imported_again(qtbot: Any, panel: AdaptersPanel, tmp_path: Path) -> None:
    session = panel.controller.session
    session.models.adapters.add(random_adapter(), "a")
    panel.export("a", tmp_path / "shared")
    qtbot.waitUntil((tmp_path / "shared.safetensors").exists, timeout=SOON_MS)
    panel.import_file(tmp_path / "shared.safetensors")
    qtbot.waitUntil(lambda: len(session.models.adapters.entries()) == 2, timeout=SOON_MS)
    assert session.models.adapters.get("shared").key == session.models.adapters.get("a").key


def test_which_blocks_is_asked_for_a_file_of_another_project(
    qtbot: Any, panel: AdaptersPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions: list[tuple[str, str]] = []

    def answer(_: Any, title: str, question: str, text: str) -> tuple[str, bool]:
        questions.append((question, text))
        return "1, 4", True

    monkeypatch.setattr(QInputDialog, "getText", answer)
    session = panel.controller.session
    assert session.models.model is not None
    width = session.models.model.loaded.sam.image_encoder.blocks[0].attn.proj.in_features
    pairs = {f"w_a_{number:03d}": torch.ones(2, width) for number in range(4)}
    pairs |= {f"w_b_{number:03d}": torch.ones(width, 2) for number in range(4)}
    save_file(pairs, tmp_path / "theirs.safetensors")
    panel.import_file(tmp_path / "theirs.safetensors")
    qtbot.waitUntil(lambda: bool(session.models.adapters.entries()), timeout=SOON_MS)
    assert session.models.adapters.get("theirs").info.lora.blocks == (1, 4)
    ((question, suggested),) = questions
    assert "theirs.safetensors" in question
    assert re.findall(r"\d+", question) == ["2", "6", "0", "5"]
    assert suggested == "4-5"


def test_alpha_is_asked_for_a_file_of_lora_vit(
    qtbot: Any, panel: AdaptersPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions: list[tuple[str, str, int]] = []

    def answer(_: Any, title: str, question: str, *numbers: int) -> tuple[int, bool]:
        questions.append((title, question, numbers[0]))
        return 5, True

    monkeypatch.setattr(QInputDialog, "getInt", answer)
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("0, 3", True))
    session = panel.controller.session
    assert session.models.model is not None
    width = session.models.model.loaded.sam.image_encoder.blocks[0].attn.proj.in_features
    pairs = {f"w_a_{number:03d}": torch.ones(2, width) for number in range(4)}
    pairs |= {f"w_b_{number:03d}": torch.ones(width, 2) for number in range(4)}
    save_file(pairs | {"fc_001": torch.ones(2, 2)}, tmp_path / "theirs.safetensors")
    panel.import_file(tmp_path / "theirs.safetensors")
    qtbot.waitUntil(lambda: bool(session.models.adapters.entries()), timeout=SOON_MS)
    ((title, question, suggested),) = questions
    assert title == "Which alpha?"
    assert "theirs.safetensors" in question
    assert suggested == 2
    adapter = session.models.adapters.get("theirs")
    assert adapter.info.lora.blocks == (0, 3)
    addition = [value for name, value in adapter.tensors.items() if name.endswith("lora.q.b")]
    assert all(torch.equal(value, torch.full_like(value, 2.0)) for value in addition)  # 5 // 2
    assert len(addition) == 2


def test_a_file_that_is_no_adapter_is_refused_with_a_message(
    qtbot: Any, panel: AdaptersPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("napari_sam_lora._qt.viewer.background_jobs.show_error", shown.append)
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    panel.import_file(tmp_path / "x.safetensors")
    qtbot.waitUntil(lambda: len(shown) == 1, timeout=SOON_MS)
    model = panel.controller.session.models.model
    assert model is not None
    with raises(AdapterError, "adapter-file-damaged", match="x.safetensors") as refused:
        panel.controller.session.models.adapters.import_file(tmp_path / "x.safetensors", model.loaded)
    assert shown == [str(refused.value)]
    assert panel.controller.session.models.adapters.entries() == ()


def test_a_merged_checkpoint_segments_as_base_and_adapter_do(
    qtbot: Any, panel: AdaptersPanel, tmp_path: Path, nuclei: Pair
) -> None:
    adapter = random_adapter()
    panel.controller.session.models.adapters.add(adapter, "a")
    panel.merge("a", tmp_path / "merged.safetensors")
    qtbot.waitUntil((tmp_path / "merged.safetensors").exists, timeout=SOON_MS)
    with small_model().adapted(adapter) as adapted:
        wanted = adapted.segment(adapted.encode(nuclei[0]), Prompts(boxes=[BOX]))
    merged = load_model(tmp_path / "merged.safetensors", "cpu", input_size=128)
    found = merged.segment(merged.encode(nuclei[0]), Prompts(boxes=[BOX]))
    assert np.array_equal(found.masks, wanted.masks)
    assert found.scores == pytest.approx(wanted.scores, abs=1e-3)


@pytest.mark.parametrize(
    ("write", "possible"), [("export", [".safetensors"]), ("merge", [".pth", ".pt", ".safetensors"])]
)
def test_a_file_with_an_unknown_ending_is_refused(
    panel: AdaptersPanel, tmp_path: Path, qtbot: Any, write: str, possible: list[str]
) -> None:
    panel.controller.session.models.adapters.add(random_adapter(), "a")
    with qtbot.waitSignal(panel.controller.message) as said:
        getattr(panel, write)("a", tmp_path / "a.ckpt")
    assert all(ending in said.args[0] for ending in ("a.ckpt", *possible))


def test_the_folder_of_adapters_is_read_in_the_background(
    qtbot: Any, viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_adapter().save(tmp_path / "kept.safetensors")
    readers: list[threading.Thread] = []
    load = Adapter.load

    def noted(path: Path) -> Adapter:
        readers.append(threading.current_thread())
        return load(path)

    monkeypatch.setattr(Adapter, "load", noted)
    controller = Controller(viewer, QApplication.instance(), Session(small_model(), adapters_folder=tmp_path))
    panel = AdaptersPanel(viewer)
    viewer.window.add_dock_widget(panel)
    qtbot.waitUntil(lambda: panel.table.rowCount() == 1, timeout=SOON_MS)
    assert len(readers) == 1
    assert readers[0] is not threading.main_thread()
    assert _cell(panel, 0, 0).text() == "kept"
    assert panel.empty.isHidden()
    controller.close()

"""Keyboard shortcuts of the panels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from error_codes import raises
from napari.components import ViewerModel
from napari.layers import Image, Labels, Points, Shapes
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.shortcuts import default_shortcuts

from napari_sam_lora._qt.prompting.panel import PromptPanel
from napari_sam_lora._qt.viewer import shortcuts
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.errors import AdapterError
from napari_sam_lora.labels import LabelledObject

from ..conftest import WAIT_MS
from ..helpers import add_box, add_point, drawn_on


def press(viewer: Any, key: str) -> None:
    viewer.keymap[coerce_keybinding(key)](viewer)


@pytest.fixture
def panel(controller: Controller, viewer: Any) -> PromptPanel:
    """Dock and register a panel, as when its window is shown."""
    made = PromptPanel(viewer)
    viewer.window.add_dock_widget(made)
    controller.attach(made)
    return made


def test_no_key_is_one_that_napari_uses() -> None:
    used = {binding for bindings in default_shortcuts.values() for binding in bindings}
    for kind in (ViewerModel, Image, Points, Shapes):
        used |= set(kind.class_keymap)
    ours = {coerce_keybinding(one.key): one.action for one in shortcuts.KEYS}
    assert not used & set(ours)
    # In a Labels layer these two are napari's, and mean the same.
    assert {ours[key] for key in set(ours) & set(Labels.class_keymap)} <= {"undo", "redo"}


def test_the_table_lists_every_key() -> None:
    table = shortcuts.table()
    for one in shortcuts.KEYS:
        assert one.description in table
    assert "Shift-click" in table


def test_the_documentation_lists_every_key() -> None:
    text = (Path(__file__).parents[3] / "docs" / "prompting.md").read_text("utf-8")
    for one in shortcuts.KEYS:
        assert f"| {one.key.replace('Control', 'Ctrl')} | {one.description} |" in text


def test_keys_work_while_a_panel_is_open_only(controller: Controller, viewer: Any, panel: PromptPanel) -> None:
    assert {coerce_keybinding(one.key) for one in shortcuts.KEYS} <= set(viewer.keymap)
    controller.detach(panel)
    assert not {coerce_keybinding(one.key) for one in shortcuts.KEYS} & set(viewer.keymap)


def test_closing_the_dock_gives_the_keys_back(
    controller: Controller, viewer: Any, panel: PromptPanel, put: Any
) -> None:
    controller.detach(panel)
    other = PromptPanel(viewer)
    dock = viewer.window.add_dock_widget(other)
    controller.attach(other)
    assert coerce_keybinding("Shift-C") in viewer.keymap
    viewer.window.remove_dock_widget(dock)
    assert coerce_keybinding("Shift-C") not in viewer.keymap
    put(other)  # deletes it


def test_a_key_that_somebody_else_has_bound_stays_theirs(controller: Controller, viewer: Any) -> None:
    pressed: list[str] = []
    viewer.bind_key("Shift-C", lambda _: pressed.append("theirs"))
    panel = PromptPanel(viewer)
    controller.attach(panel)
    press(viewer, "Shift-C")
    assert pressed == ["theirs"]
    controller.detach(panel)
    assert coerce_keybinding("Shift-C") in viewer.keymap


def test_an_object_is_made_and_taken_back_with_keys_alone(
    controller: Controller,
    viewer: Any,
    panel: PromptPanel,
    cell: LabelledObject,
    settle: Callable[[Controller], None],
    qtbot: Any,
) -> None:
    add_point(controller, cell.centre)
    press(viewer, "Shift-R")
    assert not len(controller.session.prompts.draft(controller.active_layers.plane))  # type: ignore[arg-type]
    press(viewer, "Shift-T")
    assert not controller.drawing.positive
    press(viewer, "Shift-T")
    add_box(controller, cell.box)
    settle(controller)
    press(viewer, "Shift-K")
    assert controller.previews.options.candidate == 0
    press(viewer, "Shift-N")
    assert drawn_on(controller).obj == 1
    press(viewer, "Shift-C")
    qtbot.waitUntil(lambda: controller.active_layers.target_layer is not None, timeout=WAIT_MS)
    assert controller.active_layers.target_layer.data.any()  # type: ignore[union-attr]
    press(viewer, "Control-Z")
    assert not controller.active_layers.target_layer.data.any()  # type: ignore[union-attr]
    press(viewer, "Control-Shift-Z")
    assert controller.active_layers.target_layer.data.any()  # type: ignore[union-attr]


def test_switching_to_an_adapter_that_is_not_there_says_so(
    controller: Controller, viewer: Any, panel: PromptPanel
) -> None:
    with raises(AdapterError, "no-last-adapter") as error:
        controller.session.models.toggle()
    messages: list[str] = []
    controller.message.connect(messages.append)
    press(viewer, "Shift-M")
    assert messages == [str(error.value)]


def test_keys_do_nothing_without_an_image(controller: Controller, viewer: Any, panel: PromptPanel) -> None:
    viewer.layers.clear()
    for one in shortcuts.KEYS:
        press(viewer, one.key)
    assert not len(viewer.layers)

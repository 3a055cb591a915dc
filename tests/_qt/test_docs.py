"""Names of the user interface in the documentation are on the screen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from npe2 import PluginManifest
from qtpy.QtGui import QAction
from qtpy.QtWidgets import QAbstractButton, QComboBox, QGroupBox, QLabel, QTableWidget, QWidget
from superqt import QCollapsible

from napari_sam_lora._qt.adapters.panel import AdaptersPanel
from napari_sam_lora._qt.finetuning.panel import FinetunePanel
from napari_sam_lora._qt.finetuning.verdict import FIGURES
from napari_sam_lora._qt.npe2.writers import KINDS
from napari_sam_lora._qt.prompting.panel import PromptPanel
from napari_sam_lora._qt.viewer.controller import Controller

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [
    DOCS / f"{name}.md"
    for name in ("index", "installation", "prompting", "tutorial-microscopy", "tutorial-medical", "faq")
]
ITALIC = re.compile(r"(?<![*\w])\*([^*\s][^*]*)\*(?![*\w])")
# Menus and tips of napari.
NAPARI = {"File", "Open Sample", "Plugins", "Change order of the visible axes"}
# Shown when a run has ended.
AFTER_A_RUN = {"Use it", "Use it anyway", "worst", *(figure[1].split(",")[0] for figure in FIGURES)}


def _texts(panel: QWidget) -> Iterator[str]:
    """Yield all texts of a panel."""
    for label in panel.findChildren(QLabel):
        yield label.text()
    for button in panel.findChildren(QAbstractButton):
        yield button.text().partition(" · ")[0]
    for box in panel.findChildren(QGroupBox):
        yield box.title()
    for section in panel.findChildren(QCollapsible):
        yield section.text().partition(":")[0]
    for combo in panel.findChildren(QComboBox):
        yield from (combo.itemText(number) for number in range(combo.count()))
    for action in panel.findChildren(QAction):
        yield action.text()
    for table in panel.findChildren(QTableWidget):
        yield from (item.text() for one in range(table.columnCount()) if (item := table.horizontalHeaderItem(one)))


def _of_manifest(manifest: PluginManifest) -> set[str]:
    made = manifest.contributions
    named = [*(made.widgets or []), *(made.sample_data or [])]
    preferences = [one.title for part in (made.configurations or {}).values() for one in part.properties.values()]
    return {str(manifest.display_name), *(one.display_name for one in named), *map(str, preferences)}


def test_what_the_pages_call_by_name_is_on_the_screen(
    controller: Controller, manifest: PluginManifest, put: Any
) -> None:
    target = controller.active_layers.make_target()
    panels = [put(kind(controller.viewer)) for kind in (PromptPanel, FinetunePanel, AdaptersPanel)]
    shown = {text for panel in panels for text in _texts(panel)} | _of_manifest(manifest) | {target.name}
    shown |= {kind.partition(" (")[0] for kind in KINDS} | NAPARI | AFTER_A_RUN
    named = {
        " ".join(part.split()): page.name
        for page in PAGES
        for names in ITALIC.findall(page.read_text("utf-8"))
        for part in names.split("▸")
    }
    assert len(named) > 50
    assert {name: page for name, page in named.items() if name not in shown} == {}

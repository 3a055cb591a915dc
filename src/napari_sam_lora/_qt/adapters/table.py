"""Table of the adapters on this computer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QTableWidgetItem

from napari_sam_lora._qt.finetuning.controller import FinetuningController
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.compact_table import CompactTable
from napari_sam_lora.errors import SamLoraError
from napari_sam_lora.session import AdapterEntry
from napari_sam_lora.text import pluralize

COLUMNS = {
    "Name": "Double-click to rename an adapter. The one in use is bold; those of another base model are in italics.",
    "Gain": "Gain in IoU over the base model on held-out objects, mean of box and first click.",
    "Objects": "Number of objects that it was trained on.",
    "Note": "Double-click to write a note, which is kept in the file.",
}


class AdaptersTable(CompactTable):
    """Table of adapters, the newest first; names and notes can be edited in place.

    Signals
    -------
    chosen : ()
        Another row was selected, or the list has changed.

    Parameters
    ----------
    controller : Controller
    finetuning_controller : FinetuningController
    """

    chosen = Signal()

    def __init__(self, controller: Controller, finetuning_controller: FinetuningController) -> None:
        super().__init__(COLUMNS, stretched=(0, 3))
        self._controller, self._finetuning_controller = controller, finetuning_controller
        self._filling = False
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.itemSelectionChanged.connect(self._on_selection)
        self.itemChanged.connect(self._on_edit)
        controller.events.adapters_changed.connect(self.refresh)
        controller.events.model_changed.connect(self.refresh)
        controller.events.active_changed.connect(self.refresh)
        self.refresh()

    @property
    def entry(self) -> AdapterEntry | None:
        """Entry of the selected adapter; None if none is selected."""
        name = self._selected()
        return next((entry for entry in self._finetuning_controller.adapters() if entry.name == name), None)

    def choose(self, name: str) -> None:
        """Select the adapter of this name."""
        for number in range(self.rowCount()):
            item = self.item(number, 0)
            if item is not None and item.data(Qt.ItemDataRole.UserRole) == name:
                self.selectRow(number)

    def refresh(self, *_: object) -> None:
        """Show the current list; the selection stays."""
        session, chosen = self._controller.session, self._selected()
        entries = self._finetuning_controller.adapters()
        self._filling = True
        self.setRowCount(len(entries))
        for number, entry in enumerate(entries):
            self._fill_row(number, entry)
        self._filling = False
        self.setVisible(bool(entries))
        self.updateGeometry()
        if chosen not in {entry.name for entry in entries}:
            chosen = session.models.active or (entries[0].name if entries else "")
        self.choose(chosen)
        self.chosen.emit()

    def _fill_row(self, number: int, entry: AdapterEntry) -> None:
        model = self._controller.session.models.model
        gain = "" if entry.gain is None else f"{entry.gain:+.3f}"
        for column, text in enumerate((entry.name, gain, str(entry.objects or ""), entry.note)):
            item = QTableWidgetItem(text)
            item.setData(Qt.ItemDataRole.UserRole, entry.name)
            item.setToolTip("\n".join(describe_entry(entry)))
            flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
            item.setFlags(flags | Qt.ItemFlag.ItemIsEditable if column in (0, 3) else flags)
            font = item.font()
            font.setBold(entry.name == self._controller.session.models.active)
            font.setItalic(model is not None and entry.base_hash != model.loaded.weights_hash)
            item.setFont(font)
            self.setItem(number, column, item)

    def _selected(self) -> str:
        items = self.selectedItems()
        return str(items[0].data(Qt.ItemDataRole.UserRole)) if items else ""

    def _on_selection(self) -> None:
        if not self._filling:
            self.chosen.emit()

    def _on_edit(self, item: QTableWidgetItem) -> None:
        if self._filling:
            return
        name, text = str(item.data(Qt.ItemDataRole.UserRole)), item.text().strip()
        with self._controller.report_errors():
            try:
                if item.column() == 0:
                    self._controller.session.models.rename_adapter(name, text)
                else:
                    self._controller.session.models.adapters.set_note(name, text)
            except SamLoraError:
                self.refresh()  # undo the edit
                raise


def describe_entry(entry: AdapterEntry) -> list[str]:
    """Return a description of an adapter, line by line."""
    lines = [f"Base model: {entry.base_name}", f"Made: {_local_time(entry.created)}, {entry.megabytes:.2f} MiB"]
    if entry.objects:
        lines.append(f"Trained on {pluralize(entry.objects, 'object')} in {pluralize(entry.images, 'image')}")
    lines.append(
        f"{entry.verdict[:1].upper()}{entry.verdict[1:]}. {entry.reason}"
        if entry.verdict
        else "Not compared with the base model."
    )
    return [*lines, *([f"Note: {entry.note}"] if entry.note else [])]


def _local_time(created: str) -> str:
    try:
        return datetime.fromisoformat(created).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return created


def is_foreign(entry: AdapterEntry, model: Any) -> bool:
    """Return whether an adapter belongs to another base model than the loaded one."""
    return model is not None and entry.base_hash != model.loaded.weights_hash

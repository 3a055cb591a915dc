"""The list of adapters."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from napari_sam_lora._qt.finetuning.controller import FinetuningController
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.errors import SamLoraError
from napari_sam_lora.session import AdapterEntry
from napari_sam_lora.text import pluralize

COLUMNS = ("Name", "Gain", "Objects", "Note")
TIPS = (
    "Double-click to rename it. The one in use is bold; those of another base model are in italics.",
    "What it gained in IoU on objects that it was not trained on, mean of box and first click.",
    "Objects that it learned from.",
    "Double-click to write something about it; it is kept in the file.",
)


class AdaptersTable(QTableWidget):
    """Adapters, the newest first; names and notes can be edited in place.

    Signals
    -------
    chosen : ()
        Another row is selected, or the list has changed.

    Parameters
    ----------
    controller : Controller
    finetuning : FinetuningController
    """

    chosen = Signal()

    def __init__(self, controller: Controller, finetuning: FinetuningController) -> None:
        super().__init__(0, len(COLUMNS))
        self._controller, self._finetuning = controller, finetuning
        self._filling = False
        self._set_up()
        self.itemSelectionChanged.connect(self._on_selection)
        self.itemChanged.connect(self._on_edit)
        controller.adapters_changed.connect(self.refresh)
        controller.model_changed.connect(self.refresh)
        controller.active_changed.connect(self.refresh)
        self.refresh()

    @property
    def entry(self) -> AdapterEntry | None:
        """The one that is selected."""
        name = self._selected()
        return next((one for one in self._finetuning.adapters() if one.name == name), None)

    def choose(self, name: str) -> None:
        """Select the adapter of this name."""
        for number in range(self.rowCount()):
            item = self.item(number, 0)
            if item is not None and item.data(Qt.ItemDataRole.UserRole) == name:
                self.selectRow(number)

    def refresh(self, *_: object) -> None:
        """Show the list as it is now; the selection stays."""
        session, chosen = self._controller.session, self._selected()
        entries = self._finetuning.adapters()
        self._filling = True
        self.setRowCount(len(entries))
        for number, entry in enumerate(entries):
            self._fill(number, entry)
        self._filling = False
        self.setVisible(bool(entries))
        self.updateGeometry()
        if chosen not in {entry.name for entry in entries}:
            chosen = session.active or (entries[0].name if entries else "")
        self.choose(chosen)
        self.chosen.emit()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """As high as the rows, up to a few."""
        rows = sum(self.rowHeight(number) for number in range(min(self.rowCount(), 8)))
        header = self.horizontalHeader()
        return QSize(260, rows + (header.sizeHint().height() if header is not None else 0) + 6)

    minimumSizeHint = sizeHint  # noqa: N815 - Qt's name

    def _set_up(self) -> None:
        self.setHorizontalHeaderLabels(list(COLUMNS))
        for number, tip in enumerate(TIPS):
            head = self.horizontalHeaderItem(number)
            if head is not None:
                head.setToolTip(tip)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        rows, header = self.verticalHeader(), self.horizontalHeader()
        if rows is not None and header is not None:
            rows.hide()
            header.setMinimumSectionSize(20)
            for number in range(len(COLUMNS)):
                stretch = number in (0, 3)
                mode = QHeaderView.ResizeMode.Stretch if stretch else QHeaderView.ResizeMode.ResizeToContents
                header.setSectionResizeMode(number, mode)

    def _fill(self, number: int, entry: AdapterEntry) -> None:
        model = self._controller.session.model
        gain = "" if entry.gain is None else f"{entry.gain:+.3f}"
        for column, text in enumerate((entry.name, gain, str(entry.objects or ""), entry.note)):
            item = QTableWidgetItem(text)
            item.setData(Qt.ItemDataRole.UserRole, entry.name)
            item.setToolTip("\n".join(described(entry)))
            flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
            item.setFlags(flags | Qt.ItemFlag.ItemIsEditable if column in (0, 3) else flags)
            font = item.font()
            font.setBold(entry.name == self._controller.session.active)
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
                    self._controller.session.rename_adapter(name, text)
                else:
                    self._controller.session.adapters.set_note(name, text)
            except SamLoraError:
                self.refresh()  # as it was
                raise


def described(entry: AdapterEntry) -> list[str]:
    """What is known of an adapter, line by line."""
    lines = [f"Base model: {entry.base_name}", f"Made: {_local(entry.created)}, {entry.megabytes:.2f} MiB"]
    if entry.objects:
        lines.append(f"Learned from {pluralize(entry.objects, 'object')} in {pluralize(entry.images, 'image')}")
    lines.append(f"{entry.verdict[:1].upper()}{entry.verdict[1:]}. {entry.reason}" if entry.verdict else "Not checked.")
    return [*lines, *([f"Note: {entry.note}"] if entry.note else [])]


def _local(created: str) -> str:
    try:
        return datetime.fromisoformat(created).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return created


def is_foreign(entry: AdapterEntry, model: Any) -> bool:
    """Whether an adapter belongs to another base model than the loaded one."""
    return model is not None and entry.base_hash != model.loaded.weights_hash

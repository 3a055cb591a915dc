"""Table model with the objects of one label image as rows; it reports only what has changed to its view."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, QObject, QSortFilterProxyModel, Qt
from qtpy.QtGui import QColor

from napari_sam_lora._qt.objects.physical_size import PixelSize
from napari_sam_lora.session import LabelSet, ObjectRecord
from napari_sam_lora.text import pluralize

ID, CLASS, SIZE, SCORE, ORIGIN, APPROVED = range(6)
ORIGINS = {
    "prompted": "prompted",
    "painted": "painted",
    "re-segmented": "again",
    "everything": "found",
    "propagated": "propagated",
}
ORIGIN_TIPS = {
    "prompted": "Made from prompts",
    "painted": "Painted, or changed with the brush; segmenting again does not change it",
    "re-segmented": "Segmented again from its prompts with an adapter",
    "everything": "Found by “Find everything”",
    "propagated": "Propagated from other planes",
}
SORT_ROLE = Qt.ItemDataRole.UserRole
# With more separate changes than this, a reset is cheaper than reporting each.
MAX_CHANGES = 200
Index = QModelIndex


class ObjectsModel(QAbstractTableModel):
    """Objects of one label image in the order of their ids.

    Parameters
    ----------
    approve : callable
        Called with the id of an object and whether the user approves it.
    parent : QObject, optional
    """

    def __init__(self, approve: Callable[[int, bool], None], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._approve = approve
        self._labels: LabelSet | None = None
        self._layer: Any | None = None
        self._ids: list[int] = []
        self._records: dict[int, ObjectRecord] = {}
        self._areas: dict[int, int] = {}
        self._colours: dict[int, QColor] = {}
        self._classes: dict[int, tuple[str, QColor | None]] = {}
        self._size = PixelSize()
        self._readers: dict[int, Callable[[ObjectRecord, int], Any]] = {
            Qt.ItemDataRole.DisplayRole: self._text,
            SORT_ROLE: self._sort_key,
            Qt.ItemDataRole.CheckStateRole: self._check,
            Qt.ItemDataRole.DecorationRole: self._swatch,
            Qt.ItemDataRole.TextAlignmentRole: self._alignment,
            Qt.ItemDataRole.ToolTipRole: self._tip,
        }

    def show(self, labels: LabelSet | None, layer: Any | None) -> None:
        """Show another label image and its layer; None for an empty table."""
        self.beginResetModel()
        self._labels, self._layer = labels, layer
        self._colours.clear()
        self._size = PixelSize() if layer is None else PixelSize.of(layer)
        self._read()
        self.endResetModel()

    def update(self) -> None:
        """Read the objects again and report what has changed to the view."""
        if self._labels is None:
            return
        before, old_areas, old_classes = self._records, self._areas, self._classes
        records = self._read_records()
        self._areas = self._labels.areas()
        removed = [row for row, label in enumerate(self._ids) if label not in records]
        new = [label for label in records if label not in before]
        if len(_runs(removed)) > MAX_CHANGES or len(new) > MAX_CHANGES:
            self.beginResetModel()
            self._read()
            self.endResetModel()
            return
        for first, last in reversed(_runs(removed)):
            self.beginRemoveRows(Index(), first, last)
            del self._ids[first : last + 1]
            self.endRemoveRows()
        self._records = {label: record for label, record in records.items() if label in before}
        for label in new:
            row = int(np.searchsorted(self._ids, label))
            self.beginInsertRows(Index(), row, row)
            self._ids.insert(row, label)
            self._records[label] = records[label]
            self.endInsertRows()
        changed = [
            row
            for row, label in enumerate(self._ids)
            if _shown_values(before.get(label)) != _shown_values(records[label])
            or old_areas.get(label) != self._areas.get(label)
        ]
        self._read_classes()
        if self._classes != old_classes and self._ids:
            changed = [*range(len(self._ids))]
        for first, last in _runs(changed):
            self.dataChanged.emit(self.index(first, 0), self.index(last, APPROVED))

    def recolour(self) -> None:
        """Update colours and sizes after the layer has other colours, or another scale."""
        self._colours.clear()
        self._size = PixelSize() if self._layer is None else PixelSize.of(self._layer)
        if self._ids:
            self.dataChanged.emit(self.index(0, ID), self.index(len(self._ids) - 1, SIZE))
        self.headerDataChanged.emit(Qt.Orientation.Horizontal, SIZE, SIZE)

    def record(self, label: int) -> ObjectRecord | None:
        """Return the record of an object; None if it is not in the table."""
        return self._records.get(label)

    def records(self) -> list[ObjectRecord]:
        """Return the records of all objects in the table."""
        return list(self._records.values())

    def id_at(self, row: int) -> int:
        """Return the id of the object in a row."""
        return self._ids[row]

    def row_of(self, label: int) -> int:
        """Return the row of an object; -1 if there is none."""
        row = int(np.searchsorted(self._ids, label))
        return row if row < len(self._ids) and self._ids[row] == label else -1

    # Methods of Qt's table model

    def rowCount(self, parent: Any = None) -> int:  # noqa: N802 - Qt's name
        """Return the number of objects."""
        return 0 if parent is not None and parent.isValid() else len(self._ids)

    def columnCount(self, parent: Any = None) -> int:  # noqa: N802 - Qt's name
        """Return 6: id, class, size, score, origin, approved."""
        return APPROVED + 1

    def headerData(self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:  # noqa: N802 - Qt's name
        """Return the names of the columns, and their tooltips."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        size = f"{self._size.kind} in {'pixels' if self._size.unit == 'px' else self._size.unit}"
        names = ("Id", "Class", f"{self._size.unit}", "Score", "Origin", "✓")
        tips = (
            "Value of the object in the labels, and its colour",
            "Class of the object; choose one below",
            f"{size}, in all planes",
            "Quality of the mask as the model estimated it, from 0 to 1",
            "How the object was made",
            "Approved: segmenting again does not change the object",
        )
        texts: dict[int, tuple[str, ...]] = {Qt.ItemDataRole.DisplayRole: names, Qt.ItemDataRole.ToolTipRole: tips}
        return texts[role][section] if role in texts else None

    def flags(self, index: Any) -> Any:
        """Return the flags of a cell; the last column can be checked."""
        flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        return flags | Qt.ItemFlag.ItemIsUserCheckable if index.column() == APPROVED else flags

    def data(self, index: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows for a role."""
        record, column = self._records[self._ids[index.row()]], index.column()
        read = self._readers.get(role)
        return None if read is None else read(record, column)

    def setData(self, index: Any, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:  # noqa: N802 - Qt's name
        """Approve an object, or withdraw the approval."""
        if role != Qt.ItemDataRole.CheckStateRole or index.column() != APPROVED:
            return False
        self._approve(self._ids[index.row()], Qt.CheckState(value) == Qt.CheckState.Checked)
        return True

    def _text(self, record: ObjectRecord, column: int) -> str:
        if column == ID:
            return str(record.id)
        if column == CLASS:
            return self._classes.get(record.class_id, ("", None))[0]
        if column == SIZE:
            return self._size.format(self._area(record.id))
        if column == SCORE:
            return "" if math.isnan(record.score) else f"{record.score:.2f}"
        return ORIGINS["propagated" if record.propagated_planes else record.origin] if column == ORIGIN else ""

    def _sort_key(self, record: ObjectRecord, column: int) -> Any:
        if column == SIZE:
            return self._area(record.id)
        if column == SCORE:
            return -1.0 if math.isnan(record.score) else record.score
        if column == APPROVED:
            return int(record.approved)
        return record.id if column == ID else self._text(record, column)

    def _check(self, record: ObjectRecord, column: int) -> Any:
        if column != APPROVED:
            return None
        return Qt.CheckState.Checked if record.approved else Qt.CheckState.Unchecked

    def _swatch(self, record: ObjectRecord, column: int) -> QColor | None:
        if column == CLASS:
            return self._classes.get(record.class_id, ("", None))[1]
        return self._colour(record.id) if column == ID else None

    def _alignment(self, record: ObjectRecord, column: int) -> Any:
        side = Qt.AlignmentFlag.AlignRight if column in (SIZE, SCORE) else Qt.AlignmentFlag.AlignLeft
        return side | Qt.AlignmentFlag.AlignVCenter

    def _tip(self, record: ObjectRecord, column: int) -> str | None:
        if column == CLASS:
            return self._text(record, column) or None
        if column != ORIGIN:
            return None
        tip = ORIGIN_TIPS[record.origin] + (f", with the adapter {record.adapter}" if record.adapter else "")
        count = len(record.propagated_planes)
        return tip + (f"; propagated to {pluralize(count, 'plane')}" if count else "")

    def _area(self, label: int) -> int:
        return self._areas.get(label, 0)

    def _colour(self, label: int) -> QColor:
        colour = self._colours.get(label)
        if colour is None:
            rgba = None if self._layer is None else self._layer.get_color(label)
            colour = QColor() if rgba is None else QColor.fromRgbF(*(float(value) for value in rgba[:3]))
            self._colours[label] = colour
        return colour

    def _read_records(self) -> dict[int, ObjectRecord]:
        return {} if self._labels is None else {record.id: record for record in self._labels.records()}

    def _read(self) -> None:
        self._records = self._read_records()
        self._ids = sorted(self._records)
        self._areas = {} if self._labels is None else self._labels.areas()
        self._read_classes()

    def _read_classes(self) -> None:
        classes = () if self._labels is None else self._labels.classes
        self._classes = {one.id: (one.name, QColor.fromRgbF(*one.colour)) for one in classes}


class SortedObjects(QSortFilterProxyModel):
    """Objects sorted by the values of a column, not by their texts."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.setSortRole(SORT_ROLE)


def _shown_values(record: ObjectRecord | None) -> tuple[object, ...]:
    """Return the values of a record that the table shows, to compare them."""
    if record is None:
        return ()
    score = None if math.isnan(record.score) else record.score
    return record.class_id, score, record.origin, record.approved, record.adapter, len(record.propagated_planes)


def _runs(rows: list[int]) -> list[tuple[int, int]]:
    """Return the first and last row of each run of consecutive rows."""
    grouped = groupby(enumerate(rows), lambda pair: pair[1] - pair[0])
    runs = ([row for _, row in group] for _, group in grouped)
    return [(run[0], run[-1]) for run in runs]

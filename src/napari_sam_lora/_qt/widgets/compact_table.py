"""Table that is as high as its rows, up to a few."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import QHeaderView, QTableWidget

# So that its columns fit into a narrow panel.
_LEAST_WIDTH, _LEAST_SECTION, _FRAME = 260, 20, 6


class CompactTable(QTableWidget):
    """Table for a narrow panel, without numbers of rows and without a horizontal scroll bar.

    Parameters
    ----------
    columns : mapping of str to str
        Headings with their tooltips.
    stretched : collection of int
        Columns that share the width that the others leave.
    most_rows : int
        Rows that are shown without scrolling.
    """

    def __init__(self, columns: Mapping[str, str], stretched: Collection[int], most_rows: int = 8) -> None:
        super().__init__(0, len(columns))
        self._most_rows = most_rows
        self.setHorizontalHeaderLabels(list(columns))
        for number, tip in enumerate(columns.values()):
            head = self.horizontalHeaderItem(number)
            if head is not None:
                head.setToolTip(tip)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        rows, header = self.verticalHeader(), self.horizontalHeader()
        if rows is not None and header is not None:
            rows.hide()
            header.setMinimumSectionSize(_LEAST_SECTION)
            for number in range(len(columns)):
                is_stretched = number in stretched
                mode = QHeaderView.ResizeMode.Stretch if is_stretched else QHeaderView.ResizeMode.ResizeToContents
                header.setSectionResizeMode(number, mode)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return a size as high as the heading and the rows, up to the most rows."""
        rows = sum(self.rowHeight(number) for number in range(min(self.rowCount(), self._most_rows)))
        header = self.horizontalHeader()
        return QSize(_LEAST_WIDTH, rows + (header.sizeHint().height() if header is not None else 0) + _FRAME)

    minimumSizeHint = sizeHint  # noqa: N815 - Qt's name

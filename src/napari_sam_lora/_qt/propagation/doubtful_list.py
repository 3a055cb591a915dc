"""List of the doubtful planes of propagations."""

from __future__ import annotations

from qtpy.QtWidgets import QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from napari_sam_lora._qt.propagation.doubtful_planes import DoubtfulPlanes, describe
from napari_sam_lora._qt.widgets.controls import Notice, button
from napari_sam_lora.text import pluralize

WHAT_TO_DO = (
    "The object may have been left there: correct the plane if it is wrong, and propagate again. Approve the object if "
    "all is well."
)
ROWS = 4


class DoubtfulList(QWidget):
    """Doubtful planes, one row for each object; a click goes there. Takes up no space while there are none.

    Parameters
    ----------
    doubtful : DoubtfulPlanes

    Attributes
    ----------
    texts : list of str
        The rows.
    """

    def __init__(self, doubtful: DoubtfulPlanes) -> None:
        super().__init__()
        self._doubtful = doubtful
        self.texts: list[str] = []
        self.about = Notice()
        self.rows = QListWidget()
        self.rows.setToolTip("Click to go to the plane")
        self.rows.setWordWrap(True)
        self.rows.setFixedHeight(ROWS * 2 * self.rows.fontMetrics().height())
        self.rows.itemClicked.connect(self._on_row)
        self.next = button(
            "Next doubtful plane", "Go to the next doubtful plane and select its object (Shift-D)", doubtful.go_to_next
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.about, self.rows, self.next):
            layout.addWidget(widget)
        doubtful.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """List the masks that are doubtful now."""
        masks = self._doubtful.masks()
        self.setVisible(bool(masks))
        texts = [describe(one) for one in masks]
        if texts != self.texts:
            self.texts = texts
            self.rows.clear()
            self.rows.addItems(texts)
        planes = len({one.plane for one in masks})
        verb = "is" if planes == 1 else "are"
        self.about.say(f"{pluralize(planes, 'plane')} {verb} doubtful. {WHAT_TO_DO}" if masks else "")

    def _on_row(self, item: QListWidgetItem) -> None:
        masks, row = self._doubtful.masks(), self.rows.row(item)
        if row < len(masks):
            self._doubtful.go_to(masks[row])

"""Parts of panels: the scrolling column, and choosing a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QEvent, QObject, QPropertyAnimation, QSignalBlocker, Qt, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_sam_lora._qt.closing import main_window_of
from napari_sam_lora._qt.parts import Words

NO_IMAGE = "Open an image, or try File ▸ Open Sample ▸ SAM LoRA ▸ Fluorescence nuclei."


class ScrollPanel(QWidget):
    """A column of widgets that scrolls when there is too little room for it."""

    def __init__(self) -> None:
        super().__init__()
        self._content = QWidget()
        self.column = QVBoxLayout(self._content)
        self.column.setContentsMargins(8, 6, 8, 6)
        self.column.setSpacing(6)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(self._content)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(area)
        self.setMinimumWidth(240)

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802 - Qt's name
        """A dock that is closed lets go of its panel; one under another tab, or hidden, is still open."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.ParentChange and main_window_of(self) is None:
            self.leave()

    def leave(self) -> None:
        """Called when the dock of the panel was closed; also while it is being made."""


class LayerCombo(QComboBox):
    """A choice among layers, by name.

    Signals
    -------
    chosen : (object)
        The layer that the user chose; None for the first entry, if that is none.
    """

    chosen = Signal(object)

    def __init__(self, tip: str) -> None:
        super().__init__()
        self.setToolTip(tip)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._layers: list[Any] = []
        self.activated.connect(self._on_activated)

    def set_layers(self, layers: Sequence[Any], chosen: Any | None, none: str = "") -> None:
        """Offer these layers.

        Parameters
        ----------
        none : str
            Words for an entry that stands for no layer; there is none by default.
        """
        self._layers = [*([None] if none else []), *layers]
        blocker = QSignalBlocker(self)
        self.clear()
        self.addItems([none if layer is None else str(layer.name) for layer in self._layers])
        self.setCurrentIndex(next((i for i, layer in enumerate(self._layers) if layer is chosen), -1))
        self.setEnabled(bool(self._layers))
        blocker.unblock()

    def _on_activated(self, number: int) -> None:
        if 0 <= number < len(self._layers):
            self.chosen.emit(self._layers[number])


def heading(text: str) -> Words:
    """The title of a section."""
    label = Words(text)
    font = label.font()
    font.setBold(True)
    label.setFont(font)
    return label


def column(parent: QWidget) -> QVBoxLayout:
    """The layout of a section."""
    made = QVBoxLayout(parent)
    made.setContentsMargins(0, 0, 0, 0)
    made.setSpacing(4)
    return made


class Section(QCollapsible):
    """A section that opens when its title is clicked; its arrow has the colour of the title in each theme."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self._moving = self.findChild(QPropertyAnimation)
        if self._moving is not None:
            self._moving.finished.connect(self._make_room)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # type: ignore[override, unused-ignore] # noqa: N802
        """Follow what is inside; superqt does so as if its text were not wrapped."""
        if event.type() in (QEvent.Type.Resize, QEvent.Type.LayoutRequest):
            self._make_room()
        return False

    def _make_room(self) -> None:
        moving = self._moving is not None and self._moving.state() == QPropertyAnimation.State.Running
        content = self.content()
        layout = content.layout()
        if layout is not None and self.isExpanded() and not moving:
            layout.invalidate()  # it learns of the change only after this
            wrapped = layout.totalHeightForWidth(content.width()) if layout.hasHeightForWidth() else 0
            content.setMaximumHeight(max(content.sizeHint().height(), wrapped))

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """The theme is known by now."""
        super().showEvent(event)
        self._draw_arrows()

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802 - Qt's name
        """Follow the theme."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.StyleChange and self.isVisible():
            self._draw_arrows()

    def _draw_arrows(self) -> None:
        self.toggleButton().ensurePolished()
        self.setCollapsedIcon("▶")
        self.setExpandedIcon("▼")


def folded(title: str, widget: QWidget) -> Section:
    """A section that opens when its title is clicked."""
    made = Section(title)
    # superqt's "no higher than the hint" does not heed wrapped text either.
    made.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
    for layout, margin in ((made.layout(), 0), (made.content().layout(), 4)):
        if layout is not None:
            layout.setContentsMargins(0, margin, 0, margin)
            layout.setAlignment(Qt.AlignmentFlag(0))
    made.addWidget(widget)
    return made

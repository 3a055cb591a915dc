"""Parts of the panels for fine-tuning and adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qtpy.QtCore import QEvent, QObject, QPropertyAnimation, QSignalBlocker, Qt, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_sam_lora._qt.viewer.close_guards import main_window_of


class TextLabel(QLabel):
    """A label that wraps its text instead of widening the panel."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.setWordWrap(True)
        policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)  # or the room is that of unwrapped text
        self.setSizePolicy(policy)


def button(text: str, tip: str, call: Callable[..., Any] | None = None, *, checkable: bool = False) -> QPushButton:
    """A push button with a tooltip, which may be narrower than its text wants."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setCheckable(checkable)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    made.setMinimumWidth(30)
    if call is not None:
        made.clicked.connect(call)
    return made


def row(*widgets: QWidget) -> QWidget:
    """Widgets beside each other."""
    made = QWidget()
    line = QHBoxLayout(made)
    line.setContentsMargins(0, 0, 0, 0)
    line.setSpacing(4)
    for widget in widgets:
        line.addWidget(widget)
    return made


class Notice(TextLabel):
    """Text that comes and goes; it takes no room while it is empty."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setVisible(bool(text))

    def say(self, text: str) -> None:
        """Show this text, or nothing."""
        if text != self.text():
            self.setText(text)
        self.setVisible(bool(text))


def action(text: str, tip: str, call: Callable[[], Any]) -> QPushButton:
    """A push button that calls without arguments."""
    return button(text, tip, lambda *_: call())


def chooser(words: Mapping[str, str], tip: str) -> QComboBox:
    """A choice, whose data are the keys; as narrow as need be."""
    made = QComboBox()
    made.setToolTip(tip)
    made.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    made.setMinimumContentsLength(8)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    for value, text in words.items():
        made.addItem(text, value)
    return made


def box(title: str, *widgets: QWidget) -> QGroupBox:
    """Widgets below each other under a title."""
    made = QGroupBox(title)
    layout = QVBoxLayout(made)
    layout.setContentsMargins(6, 6, 6, 6)
    for widget in widgets:
        layout.addWidget(widget)
    return made


def duration(seconds: float) -> str:
    """A time in words of the right size: "40 s", "3 min", "1 h 20 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


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
            Text for an entry that stands for no layer; there is none by default.
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


def heading(text: str) -> TextLabel:
    """The title of a section."""
    label = TextLabel(text)
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

"""Labels, buttons, combo boxes and notices of the panels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QPaintEvent, QResizeEvent
from qtpy.QtWidgets import QComboBox, QLabel, QPushButton, QSizePolicy, QStyle, QStyleOptionComboBox, QStylePainter
from superqt.utils import signals_blocked

# Hint of panels that need an image.
NO_IMAGE = "Open an image, or try File ▸ Open Sample ▸ SAM LoRA ▸ Fluorescence nuclei."


class TextLabel(QLabel):
    """Label that wraps its text instead of widening the panel."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.setWordWrap(True)
        policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)  # otherwise Qt reserves the height of the unwrapped text
        self.setSizePolicy(policy)


class Notice(TextLabel):
    """Message that takes up no space while it is empty."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setVisible(bool(text))

    def say(self, text: str) -> None:
        """Show this text; hide the notice if it is empty."""
        if text != self.text():
            self.setText(text)
        self.setVisible(bool(text))


class ElidedButton(QPushButton):
    """Push button whose text loses its middle where the panel is narrow, since names often differ at their ends.

    Parameters
    ----------
    text, tip : str
    call : callable
        Called without arguments when the button is clicked.
    """

    def __init__(self, text: str, tip: str, call: Callable[[], Any]) -> None:
        super().__init__()
        self._whole, self._tip = text, tip
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumWidth(30)
        self.clicked.connect(lambda *_: call())
        self.set_whole_text(text)

    def whole_text(self) -> str:
        """Return the text before it was shortened."""
        return self._whole

    def set_whole_text(self, text: str) -> None:
        """Show a text, shortened to the width of the button; the tooltip contains all of it."""
        self._whole = text
        self.setToolTip(f"{text}\n{self._tip}")
        self.setAccessibleName(text)
        self._shorten()

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        """Fit the text to the new width."""
        super().resizeEvent(event)
        self._shorten()

    def _shorten(self) -> None:
        room = self.width() - 2 * self.fontMetrics().averageCharWidth()
        shown = self.fontMetrics().elidedText(self._whole, Qt.TextElideMode.ElideMiddle, room)
        self.setText(shown.replace("&", "&&"))  # or Qt takes the next letter for a key


def button(text: str, tip: str, call: Callable[[], Any] | None = None, *, checkable: bool = False) -> QPushButton:
    """Return a push button with a tooltip; it can become narrower than its text.

    Parameters
    ----------
    call : callable, optional
        Called without arguments when the button is clicked.
    """
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setCheckable(checkable)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    made.setMinimumWidth(30)
    if call is not None:
        made.clicked.connect(lambda *_: call())
    return made


def combo_box(texts: Mapping[str, str], tip: str) -> QComboBox:
    """Return a combo box that shows the values of a mapping; its item data are the keys."""
    made = QComboBox()
    for value, text in texts.items():
        made.addItem(text, value)
    made.setToolTip(tip)
    allow_narrow(made)
    return made


class LayerCombo(QComboBox):
    """Combo box of layers, by name.

    Signals
    -------
    chosen : (object)
        The layer that the user chose; None for the entry that stands for no layer.
    """

    chosen = Signal(object)

    def __init__(self, tip: str) -> None:
        super().__init__()
        self._tip = tip
        self.setToolTip(tip)
        allow_narrow(self)
        self._layers: list[Any] = []
        self.activated.connect(self._on_activated)

    def set_layers(self, layers: Sequence[Any], chosen: Any | None, none: str = "") -> None:
        """Offer these layers.

        Parameters
        ----------
        layers : sequence of napari layers
        chosen : napari layer or None
            The layer that is shown as chosen.
        none : str
            Text of a first entry that stands for no layer; without a text there is no such entry.
        """
        self._layers = [*([None] if none else []), *layers]
        with signals_blocked(self):
            self.clear()
            self.addItems([none if layer is None else str(layer.name) for layer in self._layers])
            self.setCurrentIndex(next((i for i, layer in enumerate(self._layers) if layer is chosen), -1))
            self.setEnabled(bool(self._layers))
        self.setToolTip(f"{self.currentText()}\n{self._tip}" if self.currentText() else self._tip)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the chosen name without its middle where the panel is narrow, since names often differ at their ends."""
        painter, option = QStylePainter(self), QStyleOptionComboBox()
        self.initStyleOption(option)
        parts = QStyle.SubControl.SC_ComboBoxEditField
        style = self.style()
        if style is not None:
            field = style.subControlRect(QStyle.ComplexControl.CC_ComboBox, option, parts, self)
            room = field.width() - self.fontMetrics().averageCharWidth()
            text = self.fontMetrics().elidedText(self.currentText(), Qt.TextElideMode.ElideMiddle, room)
            option.currentText = text
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def _on_activated(self, index: int) -> None:
        if 0 <= index < len(self._layers):
            self.chosen.emit(self._layers[index])


def allow_narrow(combo: QComboBox) -> None:
    """Let a combo box become narrower than its longest entry."""
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(8)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

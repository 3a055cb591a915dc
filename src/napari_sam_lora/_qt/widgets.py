"""Parts of the panels for fine-tuning and adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QGroupBox, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_sam_lora._qt.parts import Words, button


class Notice(Words):
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

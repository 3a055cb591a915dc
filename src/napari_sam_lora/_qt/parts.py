"""Small things that the panels are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QWidget


class Words(QLabel):
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

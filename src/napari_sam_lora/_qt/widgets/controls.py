"""Labels, buttons, combo boxes and notices of the panels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QLabel, QPushButton, QSizePolicy
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

    def _on_activated(self, index: int) -> None:
        if 0 <= index < len(self._layers):
            self.chosen.emit(self._layers[index])


def allow_narrow(combo: QComboBox) -> None:
    """Let a combo box become narrower than its longest entry."""
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(8)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

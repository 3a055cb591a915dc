"""Row of thumbnails; a click shows their place in the viewer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QSizePolicy, QToolButton, QWidget

from napari_sam_lora._qt.finetuning.example_pictures import Example, Picture
from napari_sam_lora._qt.viewer.controller import Controller

SIDE = 76  # pixels; three thumbnails fit side by side in a panel of 330 pixels


class PictureStrip(QScrollArea):
    """Thumbnails side by side; hidden while there are none.

    Parameters
    ----------
    controller : Controller
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.buttons: list[QToolButton] = []
        self.hide()

    def show_examples(self, examples: Sequence[Example]) -> None:
        """Replace the thumbnails."""
        content = QWidget()
        layout = QHBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        self.buttons = [self._button(example) for example in examples]
        for one in self.buttons:
            layout.addWidget(one)
        layout.addStretch(1)
        self.setWidget(content)
        self.setVisible(bool(examples))

    def clear(self) -> None:
        """Remove all thumbnails."""
        if self.buttons:
            self.show_examples([])

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return the height of a thumbnail with its title and a scroll bar."""
        bar = self.horizontalScrollBar()
        return QSize(260, SIDE + 2 * self.fontMetrics().height() + (bar.sizeHint().height() if bar is not None else 0))

    def _button(self, example: Example) -> QToolButton:
        made = QToolButton()
        made.setIcon(QIcon(to_pixmap(example.picture)))
        made.setIconSize(QSize(SIDE, SIDE))
        made.setText(example.title)
        made.setToolTip(example.tip)
        made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
        made.clicked.connect(partial(self._go, example))
        return made

    def _go(self, example: Example, *_: object) -> None:
        self._controller.go_to(example.plane, example.centre)


def to_pixmap(picture: Picture) -> QPixmap:
    """Convert an RGB picture uint8 (y, x, 3) to a pixmap."""
    whole = np.ascontiguousarray(picture)
    height, width, _ = whole.shape
    pixels = whole.tobytes()  # must stay alive until Qt has its own copy
    return QPixmap.fromImage(QImage(pixels, width, height, 3 * width, QImage.Format.Format_RGB888).copy())

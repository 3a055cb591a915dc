"""Along which axis of a stack, and between which planes."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QSizePolicy, QSpinBox

from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.napari_stores import data_shape
from napari_sam_lora._qt.widgets.controls import row


def stack_axes(controller: Controller) -> list[int]:
    """Positions in ``plane.index`` of axes with several planes; the last one is the usual one to propagate along."""
    plane, layer = controller.plane, controller.image_layer
    if plane is None or layer is None:
        return []
    shape = data_shape(layer)
    return [place for place, axis in enumerate(plane.other_axes) if shape[axis] > 1]


class StackRange(QObject):
    """The axis, shown where there are several, and the first and last plane; two rows of a form.

    Signals
    -------
    changed : ()
        The user chose something else.

    Parameters
    ----------
    controller : Controller
    rows : QFormLayout
    place : int
        Of the first row.
    """

    changed = Signal()

    def __init__(self, controller: Controller, rows: QFormLayout, place: int) -> None:
        super().__init__(rows)
        self._controller = controller
        self._known: Any = None
        self._axes: list[int] = []
        self._length = 0
        self.along = QComboBox()
        self.along.setToolTip("Along which axis of the image")
        self.along.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.along.activated.connect(self._on_axis)
        self.first, self.last = (self._field(tip) for tip in ("The first plane to go to", "The last plane to go to"))
        self._axis_words = QLabel("Along")
        rows.insertRow(place, self._axis_words, self.along)
        rows.insertRow(place + 1, "Planes", row(self.first, QLabel("to"), self.last))
        self.refresh()

    @property
    def length(self) -> int:
        """Planes along the axis; 0 while none is shown."""
        return 0 if self._controller.plane is None else self._length

    @property
    def axis(self) -> int:
        """Position in ``plane.index`` of the shown plane."""
        place = self.along.currentIndex()
        return self._axes[place] if 0 <= place < len(self._axes) else -1

    @property
    def bounds(self) -> tuple[int, int]:
        """First and last plane, in order."""
        first, last = sorted((self.first.value(), self.last.value()))
        return first, last

    def refresh(self) -> None:
        """Follow the image and the view; what was chosen stays while both are the same, and while it is seen in 3-D."""
        controller = self._controller
        plane, layer = controller.plane, controller.image_layer
        if plane is None or layer is None:
            return
        shape = data_shape(layer)
        known = (controller.image, plane.axes, shape)
        if known == self._known:
            return
        self._known = known
        self._axes = stack_axes(controller)
        names = [str(layer.axis_labels[plane.other_axes[place]]) for place in self._axes]
        blocker = QSignalBlocker(self.along)
        self.along.clear()
        self.along.addItems([f"axis {name}" if name.lstrip("-").isdigit() else name for name in names])
        self.along.setCurrentIndex(len(names) - 1)
        blocker.unblock()
        for widget in (self._axis_words, self.along):
            widget.setVisible(len(names) > 1)
        self.reset()

    def reset(self) -> None:
        """The whole stack."""
        plane, layer = self._controller.plane, self._controller.image_layer
        if plane is None or layer is None or not self._axes:
            self._length = 1
            return
        self._length = data_shape(layer)[plane.other_axes[self.axis]]
        for field, value in ((self.first, 0), (self.last, self._length - 1)):
            blocker = QSignalBlocker(field)
            field.setRange(0, self._length - 1)
            field.setValue(value)
            blocker.unblock()

    def _on_axis(self, *_: object) -> None:
        self.reset()
        self.changed.emit()

    def _field(self, tip: str) -> QSpinBox:
        made = QSpinBox()
        made.setToolTip(f"{tip}, as napari counts them (from 0)")
        made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        made.setStyleSheet("min-width: 52px;")  # with napari's 70, two of them are wider than a panel
        made.valueChanged.connect(lambda *_: self.changed.emit())
        return made

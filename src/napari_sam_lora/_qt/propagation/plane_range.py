"""Axis and range of planes along which to propagate."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QSizePolicy, QSpinBox
from superqt.utils import signals_blocked

from napari_sam_lora._qt.layers.coordinates import data_shape
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.layout import row


def stack_axes(controller: Controller) -> list[int]:
    """Return the positions in ``plane.index`` of axes with several planes; the last one is the default."""
    plane, layer = controller.active_layers.plane, controller.active_layers.image_layer
    if plane is None or layer is None:
        return []
    shape = data_shape(layer)
    return [position for position, axis in enumerate(plane.other_axes) if shape[axis] > 1]


class PlaneRange(QObject):
    """Two rows of a form: the axis, shown where there are several, and the first and last plane.

    Signals
    -------
    changed : ()
        The user has chosen another axis or plane.

    Parameters
    ----------
    controller : Controller
    form : QFormLayout
    first_row : int
        Position of the first of the two rows in the form.
    """

    changed = Signal()

    def __init__(self, controller: Controller, form: QFormLayout, first_row: int) -> None:
        super().__init__(form)
        self._controller = controller
        self._shown_for: Any = None  # image, axes and shape
        self._axes: list[int] = []
        self._length = 0
        self.along = QComboBox()
        self.along.setToolTip("Along which axis of the image")
        self.along.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.along.activated.connect(self._on_axis)
        self.first, self.last = (
            self._plane_field(tip) for tip in ("First plane to propagate to", "Last plane to propagate to")
        )
        self._axis_label = QLabel("Along")
        form.insertRow(first_row, self._axis_label, self.along)
        form.insertRow(first_row + 1, "Planes", row(self.first, QLabel("to"), self.last))
        self.refresh()

    @property
    def length(self) -> int:
        """Number of planes along the axis; 0 while no plane is shown."""
        return 0 if self._controller.active_layers.plane is None else self._length

    @property
    def axis(self) -> int:
        """Position of the chosen axis in ``plane.index``; -1 if there is none."""
        chosen = self.along.currentIndex()
        return self._axes[chosen] if 0 <= chosen < len(self._axes) else -1

    @property
    def bounds(self) -> tuple[int, int]:
        """First and last plane, the smaller one first."""
        first, last = sorted((self.first.value(), self.last.value()))
        return first, last

    def refresh(self) -> None:
        """Follow the image and the view; a choice stays while both are the same, and while the viewer shows 3-D."""
        controller = self._controller
        plane, layer = controller.active_layers.plane, controller.active_layers.image_layer
        if plane is None or layer is None:
            return
        shape = data_shape(layer)
        shown_for = (controller.image, plane.axes, shape)
        if shown_for == self._shown_for:
            return
        self._shown_for = shown_for
        self._axes = stack_axes(controller)
        names = [str(layer.axis_labels[plane.other_axes[position]]) for position in self._axes]
        with signals_blocked(self.along):
            self.along.clear()
            self.along.addItems([f"axis {name}" if name.lstrip("-").isdigit() else name for name in names])
            self.along.setCurrentIndex(len(names) - 1)
        for widget in (self._axis_label, self.along):
            widget.setVisible(len(names) > 1)
        self.reset()

    def reset(self) -> None:
        """Set the range to the whole stack."""
        plane, layer = self._controller.active_layers.plane, self._controller.active_layers.image_layer
        if plane is None or layer is None or not self._axes:
            self._length = 1
            return
        self._length = data_shape(layer)[plane.other_axes[self.axis]]
        for field, value in ((self.first, 0), (self.last, self._length - 1)):
            with signals_blocked(field):
                field.setRange(0, self._length - 1)
                field.setValue(value)

    def _on_axis(self, *_: object) -> None:
        self.reset()
        self.changed.emit()

    def _plane_field(self, tip: str) -> QSpinBox:
        field = QSpinBox()
        field.setToolTip(f"{tip}, counted from 0 as napari does")
        field.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        field.setStyleSheet("min-width: 52px;")  # with napari's 70, two of them are wider than a panel
        field.valueChanged.connect(lambda *_: self.changed.emit())
        return field

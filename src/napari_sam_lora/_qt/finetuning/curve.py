"""The course of a run, drawn while it goes on: loss, and IoU on held-out objects against the base model."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_sam_lora.session import TrainingEvent

LOSS, HELD_OUT = QColor("#e69f00"), QColor("#3fa7d6")  # told apart by everyone, on dark and on light
MOST_POINTS = 200


@dataclass
class RunCurve:
    """What happened in a run so far.

    Attributes
    ----------
    losses : list of float
        One a step.
    looks : list of (int, float)
        Step and mean IoU of held-out objects.
    base : float or None
        The same of the base model.
    steps : int
        Planned.
    """

    losses: list[float] = field(default_factory=list)
    looks: list[tuple[int, float]] = field(default_factory=list)
    base: float | None = None
    steps: int = 1

    def add(self, event: TrainingEvent) -> None:
        """Note the step of an event, if it is a new one."""
        step = event.step
        if step is None or step.step <= len(self.losses):
            return
        self.steps = step.steps
        self.losses.append(step.loss)
        self.base = step.base_iou if step.base_iou is not None else self.base
        if step.held_out_iou is not None:
            self.looks.append((step.step, step.held_out_iou))


def smoothed(values: NDArray[np.float64], most: int = MOST_POINTS) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions (from 1) and means of at most so many equal parts of a series."""
    if not len(values):
        return np.empty(0), np.empty(0)
    parts = np.array_split(np.arange(len(values)), min(most, len(values)))
    return np.array([part.mean() + 1 for part in parts]), np.array([values[part].mean() for part in parts])


class CurveView(QWidget):
    """Draws a `RunCurve`: the loss from its own scale on the left, IoU from 0 to 1 on the right."""

    def __init__(self) -> None:
        super().__init__()
        self._curve = RunCurve()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "Orange: the loss, which should fall. Blue: how well objects that are not trained on are segmented (IoU), "
            "which should rise above the dashed line of the model without an adapter."
        )

    def show_curve(self, curve: RunCurve) -> None:
        """Draw it; call it a few times a second at most."""
        self._curve = curve
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Wide and low."""
        return QSize(260, 130)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw axes, curves and names in the colours of the theme."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(QPalette.ColorRole.WindowText)
        high = painter.fontMetrics().height()
        area = QRectF(4, high + 4, self.width() - 8, self.height() - 2 * high - 8)
        faint = QColor(text)
        faint.setAlpha(70)
        painter.setPen(QPen(faint, 1))
        painter.drawRect(area)
        self._draw_names(painter, text, area, high)
        self._draw_loss(painter, area)
        self._draw_looks(painter, area)
        painter.end()

    def _draw_names(self, painter: QPainter, text: QColor, area: QRectF, high: int) -> None:
        curve, top = self._curve, QRectF(area.left(), 0, area.width(), high + 2)
        low = QRectF(area.left(), area.bottom() + 2, area.width(), high + 2)
        left, right, middle = (
            Qt.AlignmentFlag.AlignLeft,
            Qt.AlignmentFlag.AlignRight,
            Qt.AlignmentFlag.AlignHCenter,
        )
        loss = f"loss {smoothed(np.array(curve.losses))[1][-1]:z.3f}" if curve.losses else "loss"
        painter.setPen(LOSS)
        painter.drawText(top, left, loss)
        painter.setPen(HELD_OUT)
        painter.drawText(top, right, f"held-out IoU {curve.looks[-1][1]:.2f}" if curve.looks else "held-out IoU")
        painter.setPen(text)
        painter.drawText(low, left, "0")
        painter.drawText(low, middle, "steps")
        painter.drawText(low, right, str(curve.steps))

    def _draw_loss(self, painter: QPainter, area: QRectF) -> None:
        places, values = smoothed(np.array(self._curve.losses, np.float64))
        finite = np.isfinite(values)
        if finite.any():
            most = max(float(values[finite].max()), 1e-9)
            self._draw_line(painter, area, LOSS, places[finite], values[finite] / most)

    def _draw_looks(self, painter: QPainter, area: QRectF) -> None:
        curve = self._curve
        if curve.base is not None:
            painter.setPen(QPen(HELD_OUT, 1, Qt.PenStyle.DashLine))
            height = area.bottom() - curve.base * area.height()
            painter.drawLine(QPointF(area.left(), height), QPointF(area.right(), height))
        first = [] if curve.base is None else [(0, curve.base)]
        looks = np.array([*first, *curve.looks], np.float64).reshape(-1, 2)
        self._draw_line(painter, area, HELD_OUT, looks[:, 0], looks[:, 1])
        for point in self._points(area, looks[:, 0], looks[:, 1]):
            painter.setBrush(HELD_OUT)
            painter.drawEllipse(point, 2.5, 2.5)

    def _draw_line(
        self, painter: QPainter, area: QRectF, colour: QColor, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> None:
        painter.setPen(QPen(colour, 1.6))
        painter.drawPolyline(QPolygonF(self._points(area, x, y)))

    def _points(self, area: QRectF, x: NDArray[np.float64], y: NDArray[np.float64]) -> list[QPointF]:
        across = area.left() + np.clip(x / self._curve.steps, 0, 1) * area.width()
        down = area.bottom() - np.clip(y, 0, 1) * area.height()
        return [QPointF(float(a), float(b)) for a, b in zip(across, down, strict=True)]

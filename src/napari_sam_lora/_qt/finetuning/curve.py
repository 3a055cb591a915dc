"""Curves of a run, drawn while it is going on: loss, and IoU on held-out objects against the base model."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_sam_lora.session import TrainingEvent

LOSS_COLOUR, HELD_OUT_COLOUR = QColor("#e69f00"), QColor("#3fa7d6")  # safe for colour-blind users in both themes
MAX_POINTS = 200


@dataclass
class RunCurve:
    """Losses and held-out IoU of a run so far.

    Attributes
    ----------
    losses : list of float
        Loss of each step.
    held_out : list of (int, float)
        Step and mean IoU of the held-out objects, at each validation.
    base_iou : float or None
        Mean IoU of the held-out objects with the base model.
    steps : int
        Number of steps planned.
    """

    losses: list[float] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)
    base_iou: float | None = None
    steps: int = 1

    def add(self, event: TrainingEvent) -> None:
        """Add the step of an event, unless it was added before."""
        step = event.step
        if step is None or step.step <= len(self.losses):
            return
        self.steps = step.steps
        self.losses.append(step.loss)
        self.base_iou = step.base_iou if step.base_iou is not None else self.base_iou
        if step.held_out_iou is not None:
            self.held_out.append((step.step, step.held_out_iou))


def smooth(
    values: NDArray[np.float64], max_points: int = MAX_POINTS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split a series into at most `max_points` equal runs; return their mean steps (counted from 1) and mean values."""
    if not len(values):
        return np.empty(0), np.empty(0)
    bins = np.array_split(np.arange(len(values)), min(max_points, len(values)))
    return np.array([steps.mean() + 1 for steps in bins]), np.array([values[steps].mean() for steps in bins])


class CurveView(QWidget):
    """Plot of a `RunCurve`: the loss on its own scale, and IoU from 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self._curve = RunCurve()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "Orange: the loss, which should fall. Blue: IoU on held-out objects, which are not trained on; it should "
            "rise above the dashed line, the base model without an adapter."
        )

    def show_curve(self, curve: RunCurve) -> None:
        """Draw a curve; call this a few times a second at most."""
        self._curve = curve
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return a wide and low size."""
        return QSize(260, 130)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw frame, labels and curves; text in the colour of the theme."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(QPalette.ColorRole.WindowText)
        line = painter.fontMetrics().height()
        area = QRectF(4, line + 4, self.width() - 8, self.height() - 2 * line - 8)
        faint = QColor(text)
        faint.setAlpha(70)
        painter.setPen(QPen(faint, 1))
        painter.drawRect(area)
        self._draw_labels(painter, text, area, line)
        self._draw_loss(painter, area)
        self._draw_held_out(painter, area)
        painter.end()

    def _draw_labels(self, painter: QPainter, text: QColor, area: QRectF, line: int) -> None:
        curve, top = self._curve, QRectF(area.left(), 0, area.width(), line + 2)
        bottom = QRectF(area.left(), area.bottom() + 2, area.width(), line + 2)
        left, right, middle = (
            Qt.AlignmentFlag.AlignLeft,
            Qt.AlignmentFlag.AlignRight,
            Qt.AlignmentFlag.AlignHCenter,
        )
        loss = f"loss {smooth(np.array(curve.losses))[1][-1]:z.3f}" if curve.losses else "loss"
        painter.setPen(LOSS_COLOUR)
        painter.drawText(top, left, loss)
        painter.setPen(HELD_OUT_COLOUR)
        painter.drawText(top, right, f"held-out IoU {curve.held_out[-1][1]:.2f}" if curve.held_out else "held-out IoU")
        painter.setPen(text)
        painter.drawText(bottom, left, "0")
        painter.drawText(bottom, middle, "steps")
        painter.drawText(bottom, right, str(curve.steps))

    def _draw_loss(self, painter: QPainter, area: QRectF) -> None:
        steps, values = smooth(np.array(self._curve.losses, np.float64))
        finite = np.isfinite(values)
        if finite.any():
            largest = max(float(values[finite].max()), 1e-9)
            self._draw_line(painter, area, LOSS_COLOUR, steps[finite], values[finite] / largest)

    def _draw_held_out(self, painter: QPainter, area: QRectF) -> None:
        curve = self._curve
        if curve.base_iou is not None:
            painter.setPen(QPen(HELD_OUT_COLOUR, 1, Qt.PenStyle.DashLine))
            height = area.bottom() - curve.base_iou * area.height()
            painter.drawLine(QPointF(area.left(), height), QPointF(area.right(), height))
        first = [] if curve.base_iou is None else [(0, curve.base_iou)]
        steps, ious = np.array([*first, *curve.held_out], np.float64).reshape(-1, 2).T
        self._draw_line(painter, area, HELD_OUT_COLOUR, steps, ious)
        for point in self._points(area, steps, ious):
            painter.setBrush(HELD_OUT_COLOUR)
            painter.drawEllipse(point, 2.5, 2.5)

    def _draw_line(
        self, painter: QPainter, area: QRectF, colour: QColor, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> None:
        painter.setPen(QPen(colour, 1.6))
        painter.drawPolyline(QPolygonF(self._points(area, x, y)))

    def _points(self, area: QRectF, x: NDArray[np.float64], y: NDArray[np.float64]) -> list[QPointF]:
        lefts = area.left() + np.clip(x / self._curve.steps, 0, 1) * area.width()
        tops = area.bottom() - np.clip(y, 0, 1) * area.height()
        return [QPointF(float(left), float(top)) for left, top in zip(lefts, tops, strict=True)]

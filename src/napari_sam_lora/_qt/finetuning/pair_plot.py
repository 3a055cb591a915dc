"""A small plot of base against adapted model, a dot an object."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPalette, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_sam_lora._qt.finetuning.curve import HELD_OUT, LOSS

NEAR = 8.0  # pixels


class PairPlot(QWidget):
    """IoU of each object with the base model (across) and with the adapter (up): dots above the line have gained.

    Signals
    -------
    picked : (int)
        A dot was clicked: the number of its object.
    """

    picked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._points: list[tuple[float, float]] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "Each dot is an object that was not trained on: its IoU with the base model (across) and with the adapter "
            "(up), mean of box and first click. Blue dots have gained, orange ones lost. Click one to go there."
        )

    def show_points(self, base: Sequence[float], adapted: Sequence[float]) -> None:
        """Draw these objects."""
        self._points = list(zip(base, adapted, strict=True))
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Square."""
        return QSize(180, 180)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the frame, the diagonal and the dots."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area, text = self._area(), self.palette().color(QPalette.ColorRole.WindowText)
        faint = QColor(text)
        faint.setAlpha(90)
        painter.setPen(QPen(faint, 1))
        painter.drawRect(area)
        painter.drawLine(area.bottomLeft(), area.topRight())
        painter.setPen(text)
        high = painter.fontMetrics().height()
        below = QRectF(area.left(), area.bottom() + 1, area.width(), high + 2)
        painter.drawText(below, Qt.AlignmentFlag.AlignHCenter, "IoU of the base model")
        painter.save()
        painter.translate(area.left() - high - 2, area.bottom())
        painter.rotate(-90)
        painter.drawText(QRectF(0, 0, area.height(), high + 2), Qt.AlignmentFlag.AlignHCenter, "with the adapter")
        painter.restore()
        painter.setPen(Qt.PenStyle.NoPen)
        for (base, adapted), point in zip(self._points, self._places(), strict=True):
            colour = QColor(HELD_OUT if adapted >= base else LOSS)
            colour.setAlpha(200)
            painter.setBrush(colour)
            painter.drawEllipse(point, 3.5, 3.5)
        painter.end()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Pick the nearest dot."""
        if event is None or not self._points:
            return
        far = [(point - event.position()).manhattanLength() for point in self._places()]
        nearest = min(range(len(far)), key=far.__getitem__)
        if far[nearest] <= NEAR:
            self.picked.emit(nearest)

    def _area(self) -> QRectF:
        high = self.fontMetrics().height()
        side = min(self.width() - 2 * high - 8, self.height() - high - 8)
        return QRectF((self.width() - side + high) / 2, 4, side, side)

    def _places(self) -> list[QPointF]:
        area = self._area()
        return [
            QPointF(area.left() + base * area.width(), area.bottom() - adapted * area.height())
            for base, adapted in self._points
        ]

"""Scatter plot of the base model against the adapted one, one dot per object."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPalette, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_sam_lora._qt.finetuning.curve import HELD_OUT_COLOUR, LOSS_COLOUR

PICK_RADIUS = 8.0  # pixels of the screen


class PairPlot(QWidget):
    """IoU of each object with the base model (x) and with the adapter (y); dots above the diagonal have gained.

    Signals
    -------
    picked : (int)
        The user has clicked a dot: index of its object.
    """

    picked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._points: list[tuple[float, float]] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "Each dot is an object that was not trained on: its IoU with the base model (horizontal) and with the "
            "adapter (vertical), mean of box and first click. Blue dots have gained, orange ones lost. Click a dot to "
            "go to its object."
        )

    def show_points(self, base: Sequence[float], adapted: Sequence[float]) -> None:
        """Draw one dot per object; both sequences are IoUs in the same order of objects."""
        self._points = list(zip(base, adapted, strict=True))
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return a square size."""
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
        line = painter.fontMetrics().height()
        below = QRectF(area.left(), area.bottom() + 1, area.width(), line + 2)
        painter.drawText(below, Qt.AlignmentFlag.AlignHCenter, "IoU of the base model")
        painter.save()
        painter.translate(area.left() - line - 2, area.bottom())
        painter.rotate(-90)
        painter.drawText(QRectF(0, 0, area.height(), line + 2), Qt.AlignmentFlag.AlignHCenter, "with the adapter")
        painter.restore()
        painter.setPen(Qt.PenStyle.NoPen)
        for (base, adapted), point in zip(self._points, self._dots(), strict=True):
            colour = QColor(HELD_OUT_COLOUR if adapted >= base else LOSS_COLOUR)
            colour.setAlpha(200)
            painter.setBrush(colour)
            painter.drawEllipse(point, 3.5, 3.5)
        painter.end()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 - Qt's name
        """Emit `picked` for the nearest dot, if one is near enough."""
        if event is None or not self._points:
            return
        distances = [(point - event.position()).manhattanLength() for point in self._dots()]
        nearest = min(range(len(distances)), key=distances.__getitem__)
        if distances[nearest] <= PICK_RADIUS:
            self.picked.emit(nearest)

    def _area(self) -> QRectF:
        line = self.fontMetrics().height()
        side = min(self.width() - 2 * line - 8, self.height() - line - 8)
        return QRectF((self.width() - side + line) / 2, 4, side, side)

    def _dots(self) -> list[QPointF]:
        area = self._area()
        return [
            QPointF(area.left() + base * area.width(), area.bottom() - adapted * area.height())
            for base, adapted in self._points
        ]

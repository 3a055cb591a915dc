"""Containers of the panels: scroll panel, rows, columns, boxes and collapsible sections."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QPropertyAnimation, Qt
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QFrame, QGroupBox, QHBoxLayout, QScrollArea, QSizePolicy, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_sam_lora._qt.viewer.close_guards import main_window_of
from napari_sam_lora._qt.widgets.controls import TextLabel


class ScrollPanel(QWidget):
    """Column of widgets that scrolls if there is not enough space.

    Attributes
    ----------
    column : QVBoxLayout
        Add the widgets of the panel to this layout.
    """

    def __init__(self) -> None:
        super().__init__()
        self._content = QWidget()
        self.column = QVBoxLayout(self._content)
        self.column.setContentsMargins(8, 6, 8, 6)
        self.column.setSpacing(6)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(self._content)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(area)
        self.setMinimumWidth(240)

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802 - Qt's name
        """Detect that the dock was closed; a dock behind another tab, or hidden, still has a main window."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.ParentChange and main_window_of(self) is None:
            self.on_dock_closed()

    def on_dock_closed(self) -> None:
        """Clean up after the dock was closed. Also called while the panel is constructed."""


def row(*widgets: QWidget) -> QWidget:
    """Return a widget that holds others side by side."""
    made = QWidget()
    layout = QHBoxLayout(made)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for widget in widgets:
        layout.addWidget(widget)
    return made


def column(parent: QWidget) -> QVBoxLayout:
    """Set and return a vertical layout without margins."""
    made = QVBoxLayout(parent)
    made.setContentsMargins(0, 0, 0, 0)
    made.setSpacing(4)
    return made


def heading(text: str) -> TextLabel:
    """Return a label in bold, as the title of a section."""
    label = TextLabel(text)
    font = label.font()
    font.setBold(True)
    label.setFont(font)
    return label


def box(title: str, *widgets: QWidget) -> QGroupBox:
    """Return a group box that holds widgets below each other."""
    made = QGroupBox(title)
    layout = QVBoxLayout(made)
    layout.setContentsMargins(6, 6, 6, 6)
    for widget in widgets:
        layout.addWidget(widget)
    return made


def collapsible(title: str, widget: QWidget) -> Section:
    """Return a section with this widget, which opens when its title is clicked."""
    made = Section(title)
    # The default policy limits the section to its size hint, which ignores wrapped text.
    made.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
    for layout, margin in ((made.layout(), 0), (made.content().layout(), 4)):
        if layout is not None:
            layout.setContentsMargins(0, margin, 0, margin)
            layout.setAlignment(Qt.AlignmentFlag(0))
    made.addWidget(widget)
    return made


class Section(QCollapsible):
    """Collapsible section that fits wrapped text and whose arrow has the colour of the theme."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self._animation = self.findChild(QPropertyAnimation)
        if self._animation is not None:
            self._animation.finished.connect(self._fit_height)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # type: ignore[override, unused-ignore] # noqa: N802
        """Fit the height to the content when it changes; superqt would ignore that text wraps."""
        if event.type() in (QEvent.Type.Resize, QEvent.Type.LayoutRequest):
            self._fit_height()
        return False

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the arrows, now that the theme is known."""
        super().showEvent(event)
        self._draw_arrows()

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802 - Qt's name
        """Draw the arrows again when the theme changes."""
        super().changeEvent(event)
        if event is not None and event.type() == QEvent.Type.StyleChange and self.isVisible():
            self._draw_arrows()

    def _fit_height(self) -> None:
        is_moving = self._animation is not None and self._animation.state() == QPropertyAnimation.State.Running
        content = self.content()
        layout = content.layout()
        if layout is not None and self.isExpanded() and not is_moving:
            layout.invalidate()  # otherwise it answers with the height before the change
            wrapped = layout.totalHeightForWidth(content.width()) if layout.hasHeightForWidth() else 0
            content.setMaximumHeight(max(content.sizeHint().height(), wrapped))

    def _draw_arrows(self) -> None:
        self.toggleButton().ensurePolished()
        self.setCollapsedIcon("▶")
        self.setExpandedIcon("▼")

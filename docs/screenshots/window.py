"""A real napari window, operated as a user would, for screenshots."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from numpy.typing import ArrayLike
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QScrollArea, QWidget
from superqt import QCollapsible

from napari_sam_lora._qt.viewer.controller import controller_of
from napari_sam_lora.files import atomic_path

IMAGES = Path(__file__).parents[1] / "images"
SIZE = (1280, 800)
DOCK_WIDTH = 330
PATIENCE = 3600.0


class Window:
    """Viewer with the prompt panel.

    Parameters
    ----------
    theme : str
        napari's "dark" or "light".
    """

    def __init__(self, theme: str = "dark") -> None:
        self.viewer = napari.Viewer()
        self.viewer.theme = theme
        self.viewer.window.resize(*SIZE)
        self.controller = controller_of(self.viewer)
        dock, self.panel = self.viewer.window.add_plugin_dock_widget("napari-sam-lora", "Prompt and segment")
        main = dock.window()
        main.resizeDocks([dock], [DOCK_WIDTH], Qt.Orientation.Horizontal)

    def find(self, kind: type[QWidget]) -> Any:
        """Return the widget of this class in the panel."""
        return self.panel.findChild(kind)

    def unfold(self, *titles: str) -> None:
        """Open these sections of the panel and fold all others."""
        for section in self.panel.findChildren(QCollapsible):
            if section.text() in titles:
                section.expand(animate=False)
            else:
                section.collapse(animate=False)

    def scroll_to(self, widget: QWidget) -> None:
        """Scroll the panel until one of its widgets is visible."""
        self.wait(widget.isVisible)
        self._process_events()
        for area in self.panel.findChildren(QScrollArea):
            if area.widget() is not None and area.widget().isAncestorOf(widget):
                area.ensureWidgetVisible(widget)

    def click(self, *positions: ArrayLike, positive: bool = True) -> None:
        """Add point prompts at data coordinates."""
        self.controller.drawing.set_positive(positive)
        self.controller.draw_with("point")
        for position in positions:
            self.controller.drawing.layers.points.add(np.atleast_2d(position))

    def box(self, y0: float, x0: float, y1: float, x1: float, before: tuple[float, ...] = ()) -> None:
        """Add a box prompt over the last two axes; ``before`` is the position along the other axes."""
        corners = np.array([[y0, x0], [y0, x1], [y1, x1], [y1, x0]])
        vertices = np.hstack([np.tile(before, (4, 1)), corners]) if before else corners
        self.controller.draw_with("box")
        self.controller.drawing.layers.shapes.add(vertices, shape_type="rectangle")

    def settle(self) -> None:
        """Wait for the preview."""
        self.wait(lambda: self.controller.session.models.model is not None and not self.controller.previews.is_waiting)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Process events until a condition holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError("The window did not reach the expected state.")
            QApplication.processEvents()
            time.sleep(0.01)

    def save(self, name: str) -> None:
        """Write ``docs/images/NAME.png``."""
        self._process_events()
        with atomic_path(IMAGES / f"{name}.png") as path:
            self.viewer.screenshot(str(path), canvas_only=False, flash=False)

    def _process_events(self) -> None:
        """Process events long enough for layouts and drawing."""
        for _ in range(30):
            QApplication.processEvents()
            time.sleep(0.01)

    def close(self) -> None:
        """End all jobs and close the viewer."""
        self.controller.close()
        self.viewer.close()

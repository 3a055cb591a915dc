"""A real napari window that is driven as a user would drive it, and photographed."""

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
PATIENCE = 300.0


class Window:
    """A viewer with the prompt panel.

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
        """The part of the panel that is of this class."""
        return self.panel.findChild(kind)

    def unfold(self, *titles: str) -> None:
        """Open these sections of the panel and fold all others."""
        for section in self.panel.findChildren(QCollapsible):
            if section.text() in titles:
                section.expand(animate=False)
            else:
                section.collapse(animate=False)

    def scroll_to(self, part: QWidget) -> None:
        """Scroll the panel until the end of a part of it is seen."""
        self.wait(part.isVisible)
        self._live()
        for area in self.panel.findChildren(QScrollArea):
            if area.widget() is not None and area.widget().isAncestorOf(part):
                area.ensureWidgetVisible(part)

    def click(self, *places: ArrayLike, positive: bool = True) -> None:
        """Point prompts at data coordinates."""
        self.controller.drawing.set_positive(positive)
        self.controller.draw_with("point")
        for place in places:
            self.controller.drawing.layers.points.add(np.atleast_2d(place))

    def box(self, y0: float, x0: float, y1: float, x1: float, before: tuple[float, ...] = ()) -> None:
        """A box prompt over the last two axes."""
        corners = np.array([[y0, x0], [y0, x1], [y1, x1], [y1, x0]])
        whole = np.hstack([np.tile(before, (4, 1)), corners]) if before else corners
        self.controller.draw_with("box")
        self.controller.drawing.layers.shapes.add(whole, shape_type="rectangle")

    def settle(self) -> None:
        """Wait for the preview."""
        self.wait(lambda: self.controller.session.model is not None and not self.controller.previews.is_waiting)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Let the window live until a condition holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError("The window did not get where it should.")
            QApplication.processEvents()
            time.sleep(0.01)

    def save(self, name: str) -> None:
        """Write ``docs/images/NAME.png``."""
        self._live()
        with atomic_path(IMAGES / f"{name}.png") as path:
            self.viewer.screenshot(str(path), canvas_only=False, flash=False)

    def _live(self) -> None:
        """Long enough for layouts and drawing."""
        for _ in range(30):
            QApplication.processEvents()
            time.sleep(0.01)

    def close(self) -> None:
        """Close the viewer and all work."""
        self.controller.close()
        self.viewer.close()

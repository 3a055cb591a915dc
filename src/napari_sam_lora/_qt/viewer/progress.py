"""Bars in napari's activity dock, whose turning indicator leaves the processor to the work."""

from __future__ import annotations

from napari.utils import progress
from qtpy.QtWidgets import QApplication, QLabel, QMainWindow

# napari turns its indicator 33 times a second while a bar is open, and each time the whole window is composed anew.
# With a software renderer (remote desktops, virtual screens) that took a fifth of two cores; at a tenth of the speed
# it still moves.
INDICATOR_PERCENT = 10


def activity_bar(total: int, words: str) -> progress:
    """A new bar in the activity dock, to be closed by the caller. Call it on the GUI thread.

    Parameters
    ----------
    total : int
        Steps until the work is done.
    words : str
        What is being done.
    """
    bar = progress(total=total, desc=words)
    for window in QApplication.topLevelWidgets():
        if isinstance(window, QMainWindow):
            _calm_indicators(window)
    return bar


def _calm_indicators(window: QMainWindow) -> None:
    status = window.statusBar()
    for label in [] if status is None else status.findChildren(QLabel):
        movie = label.movie()
        if movie is not None:
            movie.setSpeed(INDICATOR_PERCENT)

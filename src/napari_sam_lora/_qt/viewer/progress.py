"""Progress bars in napari's activity dock, and durations in words."""

from __future__ import annotations

from typing import Any

from napari.utils import progress
from qtpy.QtWidgets import QApplication, QLabel, QMainWindow

from napari_sam_lora._qt.viewer.model_loader import ModelLoader
from napari_sam_lora._qt.viewer.thread_bridge import ThreadBridge

# napari turns its indicator 33 times a second while a bar is open, and each time draws the whole window.
# With a software renderer (remote desktops, virtual screens) that took a fifth of two cores. At a tenth of the speed
# it still moves.
INDICATOR_PERCENT = 10

# Titles of the bars, by the kind of work: the first element of the key in `Models.progressed`.
TITLES = {
    "model": "Downloading the model (MB)",
    "everything": "Finding all objects",
    "resegment": "Segmenting again",
    "propagate": "Propagating objects",
}


def activity_bar(total: int, title: str) -> progress:
    """Open a bar in the activity dock; the caller closes it. Call this on the GUI thread.

    Parameters
    ----------
    total : int
        Number of steps until the work is done; 0 counts as 1, since napari's bar for an unknown number moves all the
        time.
    title : str
        The work that is being done.
    """
    bar = progress(total=max(1, total), desc=title)
    for window in QApplication.topLevelWidgets():
        if isinstance(window, QMainWindow):
            _slow_indicators(window)
    return bar


class ProgressBars:
    """Bars of a session's work in the activity dock.

    Parameters
    ----------
    events : ThreadBridge
    model_loader : ModelLoader
    """

    def __init__(self, events: ThreadBridge, model_loader: ModelLoader) -> None:
        self._model_loader = model_loader
        self._bars: dict[str, Any] = {}
        events.progressed.connect(self._on_progress)
        events.busy_changed.connect(self._on_busy)
        model_loader.loading_changed.connect(self._on_loading)

    def close(self) -> None:
        """Remove all bars."""
        for kind in list(self._bars):
            self._close(kind)

    def _on_progress(self, key: Any, done: int, total: int) -> None:
        """Show the progress of the work with this key; see `Models.progressed`."""
        kind = key[0] if isinstance(key, tuple) and key else ""
        if kind not in TITLES or total <= 0:
            return
        if kind == "model":
            if not self._model_loader.loading:  # from a download that was cancelled meanwhile
                return
            done, total = done >> 20, max(1, total >> 20)  # bytes to megabytes
        bar = self._bars.get(kind)
        if bar is None:
            bar = self._bars[kind] = activity_bar(total, TITLES[kind])
        if bar.total != total:
            bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            self._close(kind)

    def _on_busy(self, busy: bool) -> None:
        if not busy:
            for kind in self._bars.keys() - {"model"}:
                self._close(kind)

    def _on_loading(self, name: str) -> None:
        if not name:
            self._close("model")

    def _close(self, kind: str) -> None:
        bar = self._bars.pop(kind, None)  # napari processes events meanwhile, and one of them may have closed it
        if bar is not None:
            bar.close()


def format_duration(seconds: float) -> str:
    """Return a time in suitable units: "40 s", "3 min", "1 h 20 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _slow_indicators(window: QMainWindow) -> None:
    status = window.statusBar()
    for label in [] if status is None else status.findChildren(QLabel):
        movie = label.movie()
        if movie is not None:
            movie.setSpeed(INDICATOR_PERCENT)

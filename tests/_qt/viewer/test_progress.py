"""Progress bars in napari's activity dock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QLabel

from napari_sam_lora._qt.viewer.model_loader import ModelLoader
from napari_sam_lora._qt.viewer.progress import INDICATOR_PERCENT, ProgressBars, activity_bar
from napari_sam_lora._qt.viewer.thread_bridge import ThreadBridge
from napari_sam_lora.session import Session


def _movies(viewer: Any) -> list[Any]:
    labels = viewer.window._qt_window.statusBar().findChildren(QLabel)
    return [label.movie() for label in labels if label.movie() is not None]


def test_the_indicator_turns_slowly_while_a_bar_is_open(make_napari_viewer: Callable[[], Any], qtbot: Any) -> None:
    viewer = make_napari_viewer()
    (movie,) = _movies(viewer)
    assert movie.speed() == 100
    bar = activity_bar(3, "Learning")
    assert movie.state() == movie.MovieState.Running
    assert movie.speed() == INDICATOR_PERCENT
    bar.update(1)
    bar.close()
    qtbot.waitUntil(lambda: movie.state() == movie.MovieState.NotRunning, timeout=5000)  # Qt deletes the bar later


def test_a_bar_of_no_steps_does_not_move(make_napari_viewer: Callable[[], Any]) -> None:
    make_napari_viewer()
    bar = activity_bar(0, "Learning")
    assert bar.total == 1
    bar.close()


def test_bars_of_the_sessions_work_use_it(make_napari_viewer: Callable[[], Any], qtbot: Any) -> None:
    viewer = make_napari_viewer()
    (movie,) = _movies(viewer)
    session = Session()
    events = ThreadBridge(session)
    bars = ProgressBars(events, ModelLoader(session, events, events))
    events.progressed.emit(("everything", 0), 1, 4)
    assert movie.speed() == INDICATOR_PERCENT
    events.busy_changed.emit(False)
    assert not bars._bars
    qtbot.waitUntil(lambda: movie.state() == movie.MovieState.NotRunning, timeout=5000)  # Qt deletes the bar later

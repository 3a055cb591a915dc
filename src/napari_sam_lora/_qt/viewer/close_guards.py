"""Ends a session with the window it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QApplication, QMainWindow, QMessageBox, QWidget

from napari_sam_lora.session import Session


def main_window_of(panel: QWidget) -> QMainWindow | None:
    """The main window that a panel is docked in, also while its dock floats."""
    widget: QWidget | None = panel
    while widget is not None and not isinstance(widget, QMainWindow):
        widget = widget.parentWidget()
    return widget


class WindowWatch(QObject):
    """Watches one main window.

    Parameters
    ----------
    may_close : callable
        Asks the user if there is something to ask; False keeps the window open.
    closed : callable
        Called once, when the window has closed.
    """

    def __init__(self, parent: QObject, may_close: Callable[[QWidget], bool], closed: Callable[[], None]) -> None:
        super().__init__(parent)
        self._may_close, self._closed = may_close, closed
        self._window: QMainWindow | None = None
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._end)

    def watch(self, window: QMainWindow | None) -> None:
        """Watch this window from now on; a second call with the same one does nothing."""
        if window is not None and window is not self._window:
            self._window = window
            window.installEventFilter(self)
            window.destroyed.connect(self._end)

    def let_go(self) -> None:
        """Watch no window any more."""
        window, self._window = self._window, None
        with suppress(RuntimeError):  # Qt has deleted it
            if window is not None:
                window.removeEventFilter(self)
                window.destroyed.disconnect(self._end)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 - Qt's name
        """Ask before the window closes, and look afterwards whether it has."""
        if watched is self._window and event is not None and event.type() == QEvent.Type.Close:
            if self._window is not None and not self._may_close(self._window):
                event.ignore()
                return True
            QTimer.singleShot(0, self._check)
        return False

    def _check(self) -> None:
        try:
            still_open = self._window is not None and self._window.isVisible()
        except RuntimeError:  # Qt has deleted it
            still_open = False
        if not still_open:
            self._end()

    def _end(self) -> None:
        self._window = None
        self._closed()


def ask_to_discard_training(window: QWidget) -> bool:
    """Ask whether a training that is going on may be thrown away."""
    return _sure(
        window,
        "Fine-tuning is going on",
        "Fine-tuning has not finished. Close the window and discard what was learned so far?\n\n"
        "To keep it, choose No and press “Stop and keep the best” in the fine-tune panel first.",
    )


def ask_to_forget_propagation(window: QWidget) -> bool:
    """Ask whether what a propagation has found, and nobody accepted yet, may be forgotten."""
    return _sure(
        window,
        "Propagation was not accepted",
        "Objects were propagated through a stack and not accepted yet. Close the window and forget them?\n\n"
        "To keep them, choose No and press “Accept” in the prompt panel first.",
    )


def _sure(window: QWidget, title: str, words: str) -> bool:
    return bool(QMessageBox.question(window, title, words) == QMessageBox.StandardButton.Yes)


# A dock that is closed has been taken out of its window by then.
AFTER_MS = 300


class ClosedPanelGuard(QTimer):
    """Asks once a panel is gone from its window while a run is going on; a panel behind another tab is not gone.

    Parameters
    ----------
    parent : QObject
    is_running : callable
        Whether a run is going on.
    session : Session
    """

    def __init__(self, parent: QObject, is_running: Callable[[], bool], session: Session) -> None:
        super().__init__(parent)
        self._is_running, self._session = is_running, session
        self._panel: QWidget | None = None
        self._window: QWidget | None = None
        self.setSingleShot(True)
        self.setInterval(AFTER_MS)
        self.timeout.connect(self._look)

    def look_after(self, panel: QWidget) -> None:
        """Look shortly whether this panel, which was hidden, is still in a window."""
        if self._is_running():
            self._panel, self._window = panel, main_window_of(panel)
            self.start()

    def forget(self) -> None:
        """Ask nothing any more."""
        self.stop()
        self._panel = self._window = None

    def _look(self) -> None:
        panel, window = self._panel, self._window
        self._panel = self._window = None
        gone = panel is None or not isalive(panel) or main_window_of(panel) is None
        if gone and self._is_running():
            choice = ask_what_becomes_of_training(window if window is not None and isalive(window) else None)
            if choice == "stop":
                self._session.stop()
            elif choice == "discard":
                self._session.discard()


def ask_what_becomes_of_training(window: QWidget | None) -> str:
    """Ask; returns "go on", "stop" or "discard"."""
    box = QMessageBox(window)
    box.setWindowTitle("Fine-tuning is going on")
    box.setText("The fine-tune widget was closed, but fine-tuning has not finished.")
    box.setInformativeText("It can go on in the background; open the widget again to see how it does.")
    go_on = box.addButton("Go on", QMessageBox.ButtonRole.AcceptRole)
    stop = box.addButton("Stop, keep the best", QMessageBox.ButtonRole.ActionRole)
    discard = box.addButton("Discard", QMessageBox.ButtonRole.DestructiveRole)
    box.setDefaultButton(go_on)
    box.setEscapeButton(go_on)
    box.exec()
    return {stop: "stop", discard: "discard"}.get(box.clickedButton(), "go on")  # type: ignore[arg-type]

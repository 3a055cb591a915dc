"""Ask before work is lost when a window or the fine-tune panel is closed; end the session with its window."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QApplication, QMainWindow, QMessageBox, QWidget

from napari_sam_lora.session import Session

# Text of the buttons that end a run and keep what it has learned.
KEEP_BEST = "Stop, keep best"
# After this time a dock that was closed has been removed from its window.
AFTER_MS = 300


def main_window_of(panel: QWidget) -> QMainWindow | None:
    """Return the main window that a panel is docked in, also while its dock floats; None if it is in no window."""
    widget: QWidget | None = panel
    while widget is not None and not isinstance(widget, QMainWindow):
        widget = widget.parentWidget()
    return widget


class WindowCloseGuard(QObject):
    """Guard of one main window: asks before it closes, and reports that it has closed.

    Parameters
    ----------
    parent : QObject
    may_close : callable
        Called with the window before it closes; may ask the user. False keeps the window open.
    closed : callable
        Called when the window has closed, or when the application quits.
    """

    def __init__(self, parent: QObject, may_close: Callable[[QWidget], bool], closed: Callable[[], None]) -> None:
        super().__init__(parent)
        self._may_close, self._closed = may_close, closed
        self._window: QMainWindow | None = None
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._end)

    def watch(self, window: QMainWindow | None) -> None:
        """Guard this window from now on; a second call with the same window does nothing."""
        if window is not None and window is not self._window:
            self._window = window
            window.installEventFilter(self)
            window.destroyed.connect(self._end)

    def release(self) -> None:
        """Stop guarding the window."""
        window, self._window = self._window, None
        with suppress(RuntimeError):  # Qt has deleted it
            if window is not None:
                window.removeEventFilter(self)
                window.destroyed.disconnect(self._end)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 - Qt's name
        """Ask before the window closes, and check afterwards whether it has."""
        if watched is self._window and event is not None and event.type() == QEvent.Type.Close:
            if self._window is not None and not self._may_close(self._window):
                event.ignore()
                return True
            QTimer.singleShot(0, self._end_if_closed)
        return False

    def _end_if_closed(self) -> None:
        try:
            is_open = self._window is not None and self._window.isVisible()
        except RuntimeError:  # Qt has deleted it
            is_open = False
        if not is_open:
            self._end()

    def _end(self) -> None:
        self._window = None
        self._closed()


class ClosedPanelGuard(QTimer):
    """Guard of a run whose panel is closed: asks whether the run goes on. A panel behind another tab is not closed.

    Parameters
    ----------
    parent : QObject
    is_running : callable
        Returns whether a run is going on.
    session : Session
        The session whose training is stopped or discarded.
    """

    def __init__(self, parent: QObject, is_running: Callable[[], bool], session: Session) -> None:
        super().__init__(parent)
        self._is_running, self._session = is_running, session
        self._panel: QWidget | None = None
        self._window: QWidget | None = None
        self.setSingleShot(True)
        self.setInterval(AFTER_MS)
        self.timeout.connect(self._ask_if_closed)

    def check_soon(self, panel: QWidget) -> None:
        """Check shortly whether this panel, which was hidden, is still in a window."""
        if self._is_running():
            self._panel, self._window = panel, main_window_of(panel)
            self.start()

    def forget(self) -> None:
        """Cancel a pending check."""
        self.stop()
        self._panel = self._window = None

    def _ask_if_closed(self) -> None:
        panel, window = self._panel, self._window
        self._panel = self._window = None
        is_closed = panel is None or not isalive(panel) or main_window_of(panel) is None
        if is_closed and self._is_running():
            answer = ask_about_training(window if window is not None and isalive(window) else None)
            if answer == "stop":
                self._session.training.stop()
            elif answer == "discard":
                self._session.training.discard()


def ask_about_training(window: QWidget | None) -> str:
    """Ask whether a training whose panel was closed goes on; return "go on", "stop" or "discard"."""
    box = QMessageBox(window)
    box.setWindowTitle("Fine-tuning is still running")
    box.setText("The fine-tune panel was closed, but fine-tuning has not finished.")
    box.setInformativeText("It can go on in the background. Open the panel again to see its progress.")
    go_on = box.addButton("Go on", QMessageBox.ButtonRole.AcceptRole)
    stop = box.addButton(KEEP_BEST, QMessageBox.ButtonRole.ActionRole)
    discard = box.addButton("Discard", QMessageBox.ButtonRole.DestructiveRole)
    box.setDefaultButton(go_on)
    box.setEscapeButton(go_on)
    box.exec()
    return {stop: "stop", discard: "discard"}.get(box.clickedButton(), "go on")  # type: ignore[arg-type]


def ask_to_discard_training(window: QWidget) -> bool:
    """Ask whether a window may close and discard the training that is running."""
    return _confirm(
        window,
        "Fine-tuning is still running",
        "Fine-tuning has not finished. Close the window and discard what was learned so far?\n\n"
        f"To keep it, choose No and press “{KEEP_BEST}” in the fine-tune panel first.",
    )


def ask_to_discard_propagation(window: QWidget) -> bool:
    """Ask whether a window may close and discard propagated objects that were not accepted."""
    return _confirm(
        window,
        "Propagated objects were not accepted",
        "Objects were propagated through a stack and not accepted yet. Close the window and discard them?\n\n"
        "To keep them, choose No and press “Accept” in the prompt panel first.",
    )


def _confirm(window: QWidget, title: str, question: str) -> bool:
    return bool(QMessageBox.question(window, title, question) == QMessageBox.StandardButton.Yes)

"""What becomes of a run whose panel was closed."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QMessageBox, QWidget

from napari_sam_lora._qt.closing import main_window_of
from napari_sam_lora.session import Session

# A dock that is closed has been taken out of its window by then.
AFTER_MS = 300


class Leaving(QTimer):
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

"""From worker threads to the GUI thread, and progress in napari's activity dock."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import nullcontext
from threading import Lock, current_thread
from typing import Any, TypeVar

from psygnal import SignalInstance
from qtpy.QtCore import QObject, Signal

from napari_sam_lora._qt.viewer.progress import activity_bar

T = TypeVar("T")


class ThreadBridge(QObject):
    """Runs calls on the thread that it lives in, whichever thread they come from."""

    _posted = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._is_open = True
        self._home, self._closing = current_thread(), Lock()
        self._followed: list[tuple[SignalInstance, Callable[..., None]]] = []
        self._posted.connect(self._run)

    def post(self, call: Callable[[], None]) -> None:
        """Run a call on the relay's thread: at once if this is it, queued if not. Nothing happens after `close`."""
        # Another thread must not be in the middle of this while the relay is closed and deleted.
        with nullcontext() if current_thread() is self._home else self._closing:
            if self._is_open:
                try:
                    self._posted.emit(call)
                except RuntimeError:  # Qt has deleted the relay in the meantime
                    self._is_open = False

    def follow(self, event: SignalInstance, call: Callable[..., None]) -> None:
        """Run ``call`` with what an event of the session brings."""

        def pass_on(*args: Any) -> None:
            self.post(lambda: call(*args))

        event.connect(pass_on)
        self._followed.append((event, pass_on))

    def when_done(
        self,
        future: Future[T],
        done: Callable[[T], None],
        failed: Callable[[BaseException], None] | None = None,
    ) -> None:
        """Call back with the result of a future, or with its error; not at all if it was cancelled."""
        future.add_done_callback(lambda finished: self.post(lambda: _deliver(finished, done, failed)))

    def close(self) -> None:
        """Drop what is under way and follow nothing any more."""
        with self._closing:
            self._is_open = False
        for event, call in self._followed:
            event.disconnect(call, missing_ok=True)
        self._followed.clear()

    def _run(self, call: Callable[[], None]) -> None:
        if self._is_open:
            call()


class ProgressBars:
    """Shows the progress of long work in napari's activity dock. Use it on the GUI thread."""

    WORDS = {  # noqa: RUF012 - read only
        "model": "Downloading the model (MB)",
        "everything": "Finding all objects",
        "resegment": "Segmenting again",
        "propagate": "Propagating objects",
    }

    def __init__(self) -> None:
        self._bars: dict[str, Any] = {}

    def update(self, key: Any, done: int, total: int) -> None:
        """Show where the work with this key is; see `Session.progressed`."""
        kind = key[0] if isinstance(key, tuple) and key else ""
        if kind not in self.WORDS or total <= 0:
            return
        if kind == "model":
            done, total = done >> 20, max(1, total >> 20)
        bar = self._bars.get(kind)
        if bar is None:
            bar = self._bars[kind] = activity_bar(total, self.WORDS[kind])
        if bar.total != total:
            bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            self._close(kind)

    def _close(self, kind: str) -> None:
        bar = self._bars.pop(kind, None)  # napari processes events meanwhile, and one of them may have closed it
        if bar is not None:
            bar.close()

    def clear(self, *, loading: bool) -> None:
        """Remove the bar of the model that is being loaded, or all others: that work has ended, or was cancelled."""
        for kind in [one for one in self._bars if (one == "model") == loading]:
            self._close(kind)


def _deliver(finished: Future[T], done: Callable[[T], None], failed: Callable[[BaseException], None] | None) -> None:
    if finished.cancelled():
        return
    error = finished.exception()
    if error is None:
        done(finished.result())
    elif failed is not None and not isinstance(error, CancelledError):
        failed(error)

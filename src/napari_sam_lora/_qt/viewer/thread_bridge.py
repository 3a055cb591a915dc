"""Run calls from worker threads on the GUI thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import nullcontext
from threading import Lock, current_thread
from typing import Any, TypeVar

from psygnal import SignalInstance
from qtpy.QtCore import QObject, Signal

T = TypeVar("T")


class ThreadBridge(QObject):
    """Runs calls on the thread that it was made in, whichever thread they come from."""

    _posted = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._is_open = True
        self._home, self._closing = current_thread(), Lock()
        self._followed: list[tuple[SignalInstance, Callable[..., None]]] = []
        self._posted.connect(self._run)

    def post(self, call: Callable[[], None]) -> None:
        """Run a call: at once if this is the bridge's thread, otherwise queued. Does nothing after `close`."""
        # The lock keeps the bridge from being closed and deleted while another thread emits.
        with nullcontext() if current_thread() is self._home else self._closing:
            if self._is_open:
                try:
                    self._posted.emit(call)
                except RuntimeError:  # Qt has deleted the bridge in the meantime
                    self._is_open = False

    def follow(self, event: SignalInstance, call: Callable[..., None]) -> None:
        """Run ``call`` with the arguments of an event of the session, each time it is emitted."""

        def forward(*args: Any) -> None:
            self.post(lambda: call(*args))

        event.connect(forward)
        self._followed.append((event, forward))

    def when_done(
        self,
        future: Future[T],
        done: Callable[[T], None],
        failed: Callable[[BaseException], None] | None = None,
    ) -> None:
        """Call back with the result of a future, or with its error; not at all if it was cancelled."""
        future.add_done_callback(lambda finished: self.post(lambda: _deliver(finished, done, failed)))

    def close(self) -> None:
        """Drop queued calls and disconnect from all events."""
        with self._closing:
            self._is_open = False
        for event, call in self._followed:
            event.disconnect(call, missing_ok=True)
        self._followed.clear()

    def _run(self, call: Callable[[], None]) -> None:
        if self._is_open:
            call()


def _deliver(finished: Future[T], done: Callable[[T], None], failed: Callable[[BaseException], None] | None) -> None:
    if finished.cancelled():
        return
    error = finished.exception()
    if error is None:
        done(finished.result())
    elif failed is not None and not isinstance(error, CancelledError):
        failed(error)

"""Bring the events and results of a session's threads to the GUI thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import nullcontext
from threading import Lock, current_thread
from typing import Any, TypeVar

from psygnal import SignalInstance
from qtpy.QtCore import QObject, Signal

from napari_sam_lora.session import Session

T = TypeVar("T")


class ThreadBridge(QObject):
    """Events of the components of a session as Qt signals, emitted on the thread that the bridge was made in.

    Signals
    -------
    model_changed : ()
    active_changed, failed : (str)
    busy_changed : (bool)
    progressed : (object, int, int)
        See `Models`.
    adapters_changed : ()
        See `AdapterLibrary.changed`.
    training_changed : (TrainingEvent)
        See `Training`.
    propagated : (Proposal)
        See `Propagation`.
    found : (EverythingRun, FoundPlane)
        See `Everything`.

    Parameters
    ----------
    session : Session
    parent : QObject, optional
    """

    model_changed = Signal()
    active_changed = Signal(str)
    failed = Signal(str)
    busy_changed = Signal(bool)
    progressed = Signal(object, int, int)
    adapters_changed = Signal()
    training_changed = Signal(object)
    propagated = Signal(object)
    found = Signal(object, object)
    _posted = Signal(object)

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._is_open = True
        self._home, self._closing = current_thread(), Lock()
        self._followed: list[tuple[SignalInstance, Callable[..., None]]] = []
        self._posted.connect(self._run)
        models = session.models
        self._follow(models.model_changed, self.model_changed.emit)
        self._follow(models.active_changed, self.active_changed.emit)
        self._follow(models.failed, self.failed.emit)
        self._follow(models.busy_changed, self.busy_changed.emit)
        self._follow(models.progressed, self.progressed.emit)
        self._follow(models.adapters.changed, self.adapters_changed.emit)
        self._follow(session.training.training_changed, self.training_changed.emit)
        self._follow(session.propagation.propagated, self.propagated.emit)
        self._follow(session.everything.found, self.found.emit)

    def when_done(
        self,
        future: Future[T],
        done: Callable[[T], None],
        failed: Callable[[BaseException], None] | None = None,
    ) -> None:
        """Call back with the result of a future, or with its error; not at all if it was cancelled.

        Errors of the session's own jobs have been reported through `failed` then.
        """
        self.when_ended(future, lambda ended: _deliver(ended, done, failed))

    def when_ended(self, future: Future[T], call: Callable[[Future[T]], None]) -> None:
        """Call back with a future that has ended in whatever way."""
        future.add_done_callback(lambda ended: self._post(lambda: call(ended)))

    def close(self) -> None:
        """Drop queued calls and disconnect from all events."""
        with self._closing:
            self._is_open = False
        for event, call in self._followed:
            event.disconnect(call, missing_ok=True)
        self._followed.clear()

    def _follow(self, event: SignalInstance, emit: Callable[..., None]) -> None:
        """Emit a signal with the arguments of an event of the session, each time it is emitted."""

        def forward(*args: Any) -> None:
            self._post(lambda: emit(*args))

        event.connect(forward)
        self._followed.append((event, forward))

    def _post(self, call: Callable[[], None]) -> None:
        """Run a call: at once if this is the bridge's thread, otherwise queued. Does nothing after `close`."""
        # The lock keeps the bridge from being closed and deleted while another thread emits.
        with nullcontext() if current_thread() is self._home else self._closing:
            if self._is_open:
                try:
                    self._posted.emit(call)
                except RuntimeError:  # Qt has deleted the bridge in the meantime
                    self._is_open = False

    def _run(self, call: Callable[[], None]) -> None:
        if self._is_open:
            call()


def _deliver(ended: Future[T], done: Callable[[T], None], failed: Callable[[BaseException], None] | None) -> None:
    if ended.cancelled():
        return
    error = ended.exception()
    if error is None:
        done(ended.result())
    elif failed is not None and not isinstance(error, CancelledError):
        failed(error)

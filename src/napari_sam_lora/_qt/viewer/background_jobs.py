"""Background jobs beside the session's own work: reading files, measuring, making pictures."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from napari.utils.notifications import show_error
from qtpy.compat import isalive
from qtpy.QtCore import QObject, Signal

from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.session import CancelToken, TorchThread
from napari_sam_lora.session.jobs.user_messages import user_message

T = TypeVar("T")


class BackgroundJobs(QObject):
    """Worker thread beside that of the session; results are delivered on the GUI thread.

    Signals
    -------
    progressed : (object, int, int)
        Key of the job (see `in_background`), number of steps done, and their total.

    Parameters
    ----------
    controller : Controller
    """

    progressed = Signal(object, int, int)

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._controller = controller
        self._thread = TorchThread("napari-sam-lora background")
        self._thread.progressed.connect(self._emit_progress)

    def in_background(
        self,
        key: str,
        function: Callable[[CancelToken], T],
        done: Callable[[T], None],
        owner: QObject,
        failed: Callable[[], None] | None = None,
    ) -> Future[T]:
        """Run a function in the background and show its errors. A later job with the same key replaces it.

        Parameters
        ----------
        key : str
        function : callable
            The job; called in the worker thread.
        done : callable
            Called with the result on the GUI thread.
        owner : QObject
            Neither ``done`` nor ``failed`` is called once Qt has deleted this object.
        failed : callable, optional
            Called on the GUI thread after an error was shown.
        """

        def report(error: BaseException) -> None:
            show_error(user_message(error))
            if failed is not None and isalive(owner):
                failed()

        future = self._thread.submit(key, function)
        self._controller.events.when_done(future, lambda result: done(result) if isalive(owner) else None, report)
        return future

    def cancel(self, key: str) -> None:
        """Cancel the job with this key; nothing is called back."""
        self._thread.cancel(key)

    def end_background(self) -> None:
        """Cancel all jobs; one that is running ends by itself soon."""
        self._thread.progressed.disconnect(self._emit_progress, missing_ok=True)
        self._thread.close(0)

    def _emit_progress(self, key: object, done: int, total: int) -> None:
        """Pass progress on; called in the worker thread."""
        if isalive(self):
            self.progressed.emit(key, done, total)

"""Work beside that of the session: files, pictures, measurements."""

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


class Background(QObject):
    """A worker thread of its own, whose results come on the GUI thread.

    Signals
    -------
    progressed : (object, int, int)
        Key of `in_background`, what is done and what there is to do.

    Parameters
    ----------
    controller : Controller
    """

    progressed = Signal(object, int, int)

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._controller = controller
        self._thread = TorchThread("napari-sam-lora background")
        self._thread.progressed.connect(self._pass_on)

    def in_background(
        self,
        key: str,
        function: Callable[[CancelToken], T],
        done: Callable[[T], None],
        owner: QObject,
        failed: Callable[[], None] | None = None,
    ) -> Future[T]:
        """Run something apart from the session's own work; errors are shown. A newer one with the same key replaces it.

        ``done`` is called on the GUI thread, after an error ``failed`` is; neither if Qt has deleted the owner.
        """

        def tell(error: BaseException) -> None:
            show_error(user_message(error))
            if failed is not None and isalive(owner):
                failed()

        future = self._thread.submit(key, function)
        self._controller.when_done(future, lambda result: done(result) if isalive(owner) else None, tell)
        return future

    def cancel(self, key: str) -> None:
        """End what runs in the background under this key; nothing is called back."""
        self._thread.cancel(key)

    def end_background(self) -> None:
        """Cancel everything; what runs ends by itself soon."""
        self._thread.progressed.disconnect(self._pass_on, missing_ok=True)
        self._thread.close(0)

    def _pass_on(self, key: object, done: int, total: int) -> None:
        """In the worker thread."""
        if isalive(self):
            self.progressed.emit(key, done, total)

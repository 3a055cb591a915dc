"""Load models in the background, and run what waits for a model."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import QObject, Signal

from napari_sam_lora._qt.viewer.preferences import embeddings_folder, preferences
from napari_sam_lora._qt.viewer.thread_bridge import ThreadBridge
from napari_sam_lora.session import Session
from napari_sam_lora.session.jobs.user_messages import user_message


@dataclass(frozen=True, eq=False)
class _WaitingJob:
    """Job that runs once a model is loaded, or whose ``failed`` is called with the reason if that fails."""

    run: Callable[[], None]
    failed: Callable[[str], None] | None
    owner: QObject


class ModelLoader(QObject):
    """Loads models for a session.

    Signals
    -------
    loading_changed : (str)
        Name of the model that is being loaded; empty when loading has ended.

    Attributes
    ----------
    loading : str
        Name or path of the model that is being loaded; empty if none is.
    failure : str
        Why the last load failed; empty if it did not, or was cancelled.
    """

    loading_changed = Signal(str)

    def __init__(self, session: Session, events: ThreadBridge, parent: QObject) -> None:
        super().__init__(parent)
        self._models, self._events = session.models, events
        self.loading = self.failure = ""
        self._future: Future[Any] | None = None
        self._waiting: list[_WaitingJob] = []

    def ensure_model(self) -> None:
        """Load the preferred model if none is loaded or being loaded."""
        if self._models.model is None and not self.loading:
            chosen = preferences()
            self.load_model(chosen.model, chosen.device)

    def load_model(self, name: str | Path, device: str = "auto", input_size: int | None = None) -> Future[Any]:
        """Load a model in the background, and return its future."""
        future = self._future = self._models.load(name, device, input_size, embeddings_folder())
        self.loading, self.failure = str(name), ""
        self.loading_changed.emit(self.loading)
        self._events.when_ended(future, self._on_loaded)
        return future

    def when_loaded(
        self, job: Callable[[], None], owner: QObject, failed: Callable[[str], None] | None = None
    ) -> Callable[[], None]:
        """Run a job: at once if there is a model, otherwise once the preferred one is loaded.

        Parameters
        ----------
        job : callable
        owner : QObject
            Neither ``job`` nor ``failed`` is called once Qt has deleted this object.
        failed : callable, optional
            Called instead of the job if no model could be loaded, with the message that the user has seen; with an
            empty message if the user has cancelled the loading.

        Returns
        -------
        callable
            Drops the job if it still waits.
        """
        if self._models.model is not None:
            job()
            return lambda: None
        waiting = _WaitingJob(job, failed, owner)
        self._waiting.append(waiting)
        self.ensure_model()
        return lambda: self._drop(waiting)

    def close(self) -> None:
        """Drop all jobs that wait."""
        self._waiting.clear()

    def _drop(self, waiting: _WaitingJob) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def _on_loaded(self, future: Future[Any]) -> None:
        if future is not self._future:  # a later model replaced it
            return
        self.loading, self.failure = "", _failure(future)
        self.loading_changed.emit("")
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not isalive(one.owner):
                continue
            if self._models.model is not None:
                one.run()
            elif one.failed is not None:
                one.failed(self.failure)


def _failure(future: Future[Any]) -> str:
    """Return why a model was not loaded; empty if that was cancelled."""
    error = CancelledError() if future.cancelled() else future.exception()
    return "" if error is None or isinstance(error, CancelledError) else user_message(error)

"""Load models in the background and bring the session's events to the GUI thread."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, Signal

from napari_sam_lora._qt.viewer.preferences import embeddings_folder, preferences
from napari_sam_lora._qt.viewer.progress import ProgressBars
from napari_sam_lora._qt.viewer.thread_bridge import ThreadBridge
from napari_sam_lora.session import Session


class ModelLoader(QObject):
    """Loads models for a session, and emits the events of the session's threads on the GUI thread.

    Signals
    -------
    model_changed, adapters_changed : ()
    active_changed, failed : (str)
    busy_changed : (bool)
    progressed : (object, int, int)
    training_changed : (TrainingEvent)
    propagated : (Proposal)
        As in `Session`.
    loading_changed : (str)
        Name of the model that is being loaded; empty when loading has ended.

    Attributes
    ----------
    loading : str
        Name or path of the model that is being loaded; empty if none is.
    """

    model_changed = Signal()
    adapters_changed = Signal()
    active_changed = Signal(str)
    failed = Signal(str)
    busy_changed = Signal(bool)
    progressed = Signal(object, int, int)
    training_changed = Signal(object)
    propagated = Signal(object)
    loading_changed = Signal(str)

    def __init__(self, session: Session, bridge: ThreadBridge, parent: QObject) -> None:
        super().__init__(parent)
        self._session, self._bridge, self._bars = session, bridge, ProgressBars()
        self.loading = ""
        bridge.follow(session.model_changed, self.model_changed.emit)
        bridge.follow(session.adapters.changed, self.adapters_changed.emit)
        bridge.follow(session.active_changed, self.active_changed.emit)
        bridge.follow(session.training_changed, self.training_changed.emit)
        bridge.follow(session.propagated, self.propagated.emit)
        bridge.follow(session.busy_changed, self._on_busy)
        bridge.follow(session.progressed, self._on_progress)
        bridge.follow(session.failed, self._on_failure)

    def ensure_model(self) -> None:
        """Load the preferred model if none is loaded or being loaded."""
        if self._session.model is None and not self.loading:
            chosen = preferences()
            self.load_model(chosen.model, chosen.device)

    def load_model(self, name: str | Path, device: str = "auto", input_size: int | None = None) -> None:
        """Load a model in the background."""
        future = self._session.load_model(name, device, input_size, embeddings_folder())
        self.loading = str(name)
        self._loading = future
        future.add_done_callback(lambda done: self._bridge.post(lambda: self._on_loaded(done)))
        self.loading_changed.emit(self.loading)

    def close(self) -> None:
        """Remove all progress bars."""
        for loading in (True, False):
            self._bars.clear(loading=loading)

    def _on_loaded(self, future: Future[Any]) -> None:
        if future is self._loading:  # otherwise a later model replaced it
            self.loading = ""
            self._bars.clear(loading=True)
            self.loading_changed.emit("")

    def _on_busy(self, busy: bool) -> None:
        if not busy:
            self._bars.clear(loading=False)
        self.busy_changed.emit(busy)

    def _on_progress(self, key: object, done: int, total: int) -> None:
        if key == ("model",) and not self.loading:  # from a download that was cancelled meanwhile
            return
        self._bars.update(key, done, total)
        self.progressed.emit(key, done, total)

    def _on_failure(self, message: str) -> None:
        show_error(message)
        self.failed.emit(message)

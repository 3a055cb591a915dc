"""Model of a session, its adapters, and the worker thread that computes with them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from psygnal import Signal

from napari_sam_lora.errors import AdapterError, InputError
from napari_sam_lora.model.registry import MODELS
from napari_sam_lora.session.adapter_library import AdapterLibrary
from napari_sam_lora.session.jobs.model_download import KEY, ModelDownloader
from napari_sam_lora.session.jobs.user_messages import user_message
from napari_sam_lora.session.jobs.worker import CancelToken, Priority, TorchThread, emit_safely
from napari_sam_lora.session.prompting.engine import Engine, PlaneCache, PredictorCache

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.lora.adapter import Adapter
    from napari_sam_lora.parameters.instances import InstanceConfig

P = ParamSpec("P")
T = TypeVar("T")


class Models:
    """The model in use, the adapters, and the one that is active; a job takes an `engine` of them when it is queued.

    Events that may come from a worker thread
    -----------------------------------------
    Connect a GUI through a queue, such as a Qt signal.

    model_changed : ()
        Another model was loaded.
    active_changed : (str)
        Name of the active adapter; empty for the base model.
    busy_changed : (bool)
        Whether the worker has jobs.
    progressed : (key, done, total)
        Progress of the running job; key[0] is "model", "preview", "everything", "cut", "resegment", "embed"
        or "propagate".
    failed : (str)
        A job failed; the message for the user. The Future has the exception.

    Parameters
    ----------
    model : Model, optional
        Model to use; by default none until `load` is called.
    adapters_folder : Path, optional
        Where adapters are kept; in memory by default.
    threads : int, optional
        Threads that torch may use for one operation.

    Attributes
    ----------
    adapters : AdapterLibrary
    """

    model_changed = Signal()
    active_changed = Signal(str)
    busy_changed = Signal(bool)
    progressed = Signal(object, int, int)
    failed = Signal(str)

    def __init__(
        self, model: Model | None = None, *, adapters_folder: Path | None = None, threads: int | None = None
    ) -> None:
        self.adapters = AdapterLibrary(adapters_folder)
        self._model = model
        self._active: tuple[str, Adapter] | None = None
        self._last_active = ""
        self._lock = Lock()  # for the model and the active adapter, which must belong together
        self._predictors, self._planes = PredictorCache(), PlaneCache()
        self._worker, self._downloader = TorchThread(threads=threads), ModelDownloader()
        self._worker.busy_changed.connect(lambda busy: emit_safely(self.busy_changed, busy))
        for thread in (self._worker, self._downloader):
            thread.progressed.connect(lambda key, done, total: emit_safely(self.progressed, key, done, total))

    # The model

    @property
    def model(self) -> Model | None:
        """Model in use. The session ignores the model's own active adapter, see `active`."""
        return self._model

    def load(
        self,
        name: str | Path,
        device: str = "auto",
        input_size: int | None = None,
        embeddings_folder: Path | None = None,
    ) -> Future[Model]:
        """Load a model in the worker, after downloading it if necessary; prompts and labels stay.

        The download has a thread of its own, so the present model can be used meanwhile. If loading fails or is
        cancelled, the present model stays. A newer call replaces an older one. An active adapter of another base model
        is deactivated. With an embeddings folder, embeddings are also kept there for later sessions.
        """
        options = (name, device, input_size, embeddings_folder)
        self.cancel("model")
        info = MODELS.get(str(name))
        if info is None or info.asset is not None:
            return self.submit(Priority.PROMPT, KEY, self._load, _never_cancelled, *options)
        loading = self._downloader.fetch(
            info, lambda check: self._worker.submit_with(Priority.PROMPT, KEY, self._load, check, *options)
        )
        loading.add_done_callback(self._report_failure)
        return loading

    def need(self) -> Model:
        """Return the model, or raise an InputError."""
        if self._model is None:
            raise InputError("No model is loaded yet: choose one first.", code="no-model")
        return self._model

    def engine(self) -> Engine:
        """Bind the present model and adapter for one job, whatever is loaded or activated meanwhile.

        Raises
        ------
        InputError
            If no model is loaded.
        """
        with self._lock:
            model, active = self.need(), self._active
        name, adapter = active or ("", None)
        return Engine(model, adapter, name, self._predictors, self._planes)

    @property
    def head_instances(self) -> InstanceConfig | None:
        """Parameters that suit the dense head of the model, or of the active adapter; None if there is no head."""
        model, active = self._model, self._active
        if active is not None and active[1].dense is not None:
            return active[1].dense.instances
        return None if model is None or model.loaded.dense is None else model.loaded.dense.instances

    # The active adapter

    @property
    def active(self) -> str:
        """Name of the active adapter; empty for the base model."""
        active = self._active
        return "" if active is None else active[0]

    def activate(self, name: str) -> None:
        """Segment with this adapter from the next preview on.

        Raises
        ------
        AdapterError
            If there is no such adapter, or it belongs to another base model; the present one stays active.
        """
        adapter = self.adapters.get(name)
        with self._lock:
            loaded = self.need().loaded
            if adapter.info.base_hash != loaded.weights_hash:
                raise AdapterError(
                    f"The adapter {name!r} was trained on {adapter.info.base_name}, with other weights than the loaded "
                    f"{loaded.name}. Load {adapter.info.base_name} to use it.",
                    code="other-base-model",
                )
            self._active, self._last_active = (name, adapter), name
        emit_safely(self.active_changed, name)

    def deactivate(self) -> None:
        """Segment with the base model from the next preview on."""
        self._active = None
        emit_safely(self.active_changed, "")

    def toggle(self) -> str:
        """Switch between the base model and the adapter that was active last; return the name of the active one."""
        if self._active is not None:
            self.deactivate()
        elif self._last_active:
            self.activate(self._last_active)
        else:
            raise AdapterError(
                "No adapter was active yet: activate one from the list, or train one.", code="no-last-adapter"
            )
        return self.active

    def rename_adapter(self, name: str, new_name: str) -> None:
        """Rename an adapter; an active one stays active."""
        self.adapters.rename(name, new_name)
        if self._last_active == name:
            self._last_active = new_name
        with self._lock:
            is_active = self._active is not None and self._active[0] == name
            if self._active is not None and is_active:
                self._active = new_name, self._active[1]
        if is_active:
            emit_safely(self.active_changed, new_name)

    def remove_adapter(self, name: str) -> None:
        """Delete an adapter; if it is active, switch to the base model."""
        self.adapters.remove(name)
        if self.active == name:
            self.deactivate()
        if self._last_active == name:
            self._last_active = ""

    # Jobs

    @property
    def is_busy(self) -> bool:
        """Return whether the worker has jobs."""
        return self._worker.is_busy

    def submit(
        self,
        priority: Priority,
        key: Hashable,
        function: Callable[Concatenate[CancelToken, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Future[T]:
        """Queue a job in the worker, and report it through `failed` if it fails; see `JobThread.submit_with`."""
        future = self._worker.submit_with(priority, key, function, *args, **kwargs)
        future.add_done_callback(self._report_failure)
        return future

    def cancel(self, kind: str) -> None:
        """Cancel the waiting or running work of a kind: the first element of a key, see `progressed`."""
        if kind == "model":
            self._downloader.stop()
        self._worker.cancel_if(lambda key: isinstance(key, tuple) and key[0] == kind)

    def close(self, timeout: float | None = None) -> bool:
        """Cancel all work and end the threads; return whether each has ended within the timeout (seconds)."""
        self._downloader.stop()
        has_ended = self._downloader.close(timeout)
        return self._worker.close(timeout) and has_ended

    def _load(
        self,
        token: CancelToken,
        check: Callable[[], None],
        name: str | Path,
        device: str,
        input_size: int | None,
        embeddings_folder: Path | None,
    ) -> Model:
        """Load a model and make it the present one; called in the worker thread."""
        from napari_sam_lora.api import load_model  # noqa: PLC0415

        check()
        token.check()
        model = load_model(name, device, input_size=input_size, embeddings_folder=embeddings_folder)
        token.check()
        with self._lock:
            self._model = model
            is_foreign = self._active is not None and self._active[1].info.base_hash != model.loaded.weights_hash
            if is_foreign:
                self._active = None
        if is_foreign:
            emit_safely(self.active_changed, "")
        emit_safely(self.model_changed)
        return model

    def _report_failure(self, future: Future[T]) -> None:
        """Emit `failed` if a job ended with an error other than its cancellation."""
        error = None if future.cancelled() else future.exception()
        if error is not None and not isinstance(error, CancelledError):
            emit_safely(self.failed, user_message(error))


def _never_cancelled() -> None:
    """Never cancel: the check of models that need no download."""

"""Model of a session, its adapters, and its worker threads."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future
from pathlib import Path
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

P = ParamSpec("P")
T = TypeVar("T")


class ModelSession:
    """Session with a model, adapters and worker threads; a base of `Session`, where the events are described."""

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
        self._predictors, self._planes = PredictorCache(), PlaneCache()
        self._worker, self._downloader = TorchThread(threads=threads), ModelDownloader()
        self._trainer = TorchThread("napari-sam-lora training", threads)
        self._worker.busy_changed.connect(lambda busy: emit_safely(self.busy_changed, busy))
        for thread in (self._worker, self._downloader):
            thread.progressed.connect(lambda key, done, total: emit_safely(self.progressed, key, done, total))

    def load_model(
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
            return self._submit(Priority.PROMPT, KEY, self._load, _never_cancelled, *options)
        loading = self._downloader.fetch(
            info, lambda check: self._worker.submit_with(Priority.PROMPT, KEY, self._load, check, *options)
        )
        loading.add_done_callback(self._report_failure)
        return loading

    @property
    def model(self) -> Model | None:
        """Model in use. The session ignores the model's own active adapter, see `active`."""
        return self._model

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
        adapter, loaded = self.adapters.get(name), self._need_model().loaded
        if adapter.info.base_hash != loaded.weights_hash:
            raise AdapterError(
                f"The adapter {name!r} was trained on {adapter.info.base_name}, with other weights than the loaded "
                f"{loaded.name}. Load {adapter.info.base_name} to use it.",
                code="adapter-of-another-base",
            )
        self._set_active((name, adapter))

    def deactivate(self) -> None:
        """Segment with the base model from the next preview on."""
        self._set_active(None)

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
        if self._active is not None and self._active[0] == name:
            self._set_active((new_name, self._active[1]))

    def remove_adapter(self, name: str) -> None:
        """Delete an adapter; if it is active, switch to the base model."""
        self.adapters.remove(name)
        if self.active == name:
            self.deactivate()
        if self._last_active == name:
            self._last_active = ""

    def cancel(self, kind: str) -> None:
        """Cancel the waiting or running work of a kind: "model", "everything", "resegment" or "embed"."""
        if kind == "model":
            self._downloader.stop()
        self._worker.cancel_if(lambda key: isinstance(key, tuple) and key[0] == kind)

    @property
    def is_busy(self) -> bool:
        """Whether the worker has jobs."""
        return self._worker.is_busy

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
        self._model = model
        active = self._active
        if active is not None and active[1].info.base_hash != model.loaded.weights_hash:
            self._set_active(None)
        emit_safely(self.model_changed)
        return model

    def _end_threads(self, timeout: float | None) -> bool:
        """Cancel all work; return whether each thread has ended within the timeout."""
        self._downloader.stop()
        download_ended = self._downloader.close(timeout)
        training_ended = self._trainer.close(timeout)
        return self._worker.close(timeout) and download_ended and training_ended

    def _set_active(self, active: tuple[str, Adapter] | None) -> None:
        """Use an adapter by name, or the base model, and tell listeners."""
        self._active = active
        if active is not None:
            self._last_active = active[0]
        emit_safely(self.active_changed, self.active)

    def _need_model(self) -> Model:
        """Return the model, or raise an InputError."""
        if self._model is None:
            raise InputError("No model is loaded yet: choose one first.", code="no-model")
        return self._model

    def _engine(self) -> Engine:
        """Freeze the present model and adapter for one job."""
        model, active = self._need_model(), self._active
        name, adapter = active or ("", None)
        return Engine(model, adapter, name, self._predictors, self._planes)

    def _submit(
        self,
        priority: Priority,
        key: Hashable,
        function: Callable[Concatenate[CancelToken, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Future[T]:
        """Queue a job in the worker, and report it through `failed` if it fails."""
        future = self._worker.submit_with(priority, key, function, *args, **kwargs)
        future.add_done_callback(self._report_failure)
        return future

    def _report_failure(self, future: Future[T]) -> None:
        """Emit `failed` if a job ended with an error other than its cancellation."""
        error = None if future.cancelled() else future.exception()
        if error is not None and not isinstance(error, CancelledError):
            emit_safely(self.failed, user_message(error))


def _never_cancelled() -> None:
    """Never cancel: the check of models that need no download."""

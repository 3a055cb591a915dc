"""The model of a session, its adapters, and the thread that works for it."""

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
    """Model, active adapter and worker; the base of `Session`, where its events are described."""

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
        self._worker, self._fetcher = TorchThread(threads=threads), ModelDownloader()
        self._trainer = TorchThread("napari-sam-lora training", threads)
        self._worker.busy_changed.connect(lambda busy: emit_safely(self.busy_changed, busy))
        for thread in (self._worker, self._fetcher):
            thread.progressed.connect(lambda key, done, total: emit_safely(self.progressed, key, done, total))

    def load_model(
        self,
        name: str | Path,
        device: str = "auto",
        input_size: int | None = None,
        embeddings_folder: Path | None = None,
    ) -> Future[Model]:
        """Load a model in the worker, fetching it first if need be; prompts and labels stay.

        A file is fetched in a thread of its own, and the present model works meanwhile. If anything fails, or is
        cancelled, the present model stays. A newer call replaces an older one. An active adapter is deactivated if it
        belongs to another base. Given a folder, embeddings are kept there as well, for later sessions.
        """
        given = (name, device, input_size, embeddings_folder)
        self.cancel("model")
        info = MODELS.get(str(name))
        if info is None or info.asset is not None:
            return self._submit(Priority.PROMPT, KEY, self._load, _nothing, *given)
        loading = self._fetcher.fetch(
            info, lambda check: self._worker.submit_with(Priority.PROMPT, KEY, self._load, check, *given)
        )
        loading.add_done_callback(self._report_failure)
        return loading

    @property
    def model(self) -> Model | None:
        """The model in use; its own active adapter is not looked at, see `active`."""
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
            If there is no such adapter, or it was trained on another base model; the present one stays active.
        """
        adapter, loaded = self.adapters.get(name), self._need_model().loaded
        if adapter.info.base_hash != loaded.weights_hash:
            raise AdapterError(
                f"The adapter {name!r} was trained on {adapter.info.base_name}, with other weights than the loaded "
                f"{loaded.name}. Load {adapter.info.base_name} to use it."
            )
        self._set_active((name, adapter))

    def deactivate(self) -> None:
        """Segment with the base model from the next preview on."""
        self._set_active(None)

    def toggle(self) -> str:
        """Switch between the base model and the adapter that was active last; returns what is active now."""
        if self._active is not None:
            self.deactivate()
        elif self._last_active:
            self.activate(self._last_active)
        else:
            raise AdapterError("No adapter was active yet: activate one from the list, or train one.")
        return self.active

    def rename_adapter(self, name: str, new_name: str) -> None:
        """Rename an adapter; if it is active it stays so."""
        self.adapters.rename(name, new_name)
        if self._last_active == name:
            self._last_active = new_name
        if self._active is not None and self._active[0] == name:
            self._set_active((new_name, self._active[1]))

    def remove_adapter(self, name: str) -> None:
        """Delete an adapter; if it is active, the base model is used from then on."""
        self.adapters.remove(name)
        if self.active == name:
            self.deactivate()
        if self._last_active == name:
            self._last_active = ""

    def cancel(self, kind: str) -> None:
        """Cancel the waiting or running work of a kind: "model", "everything", "resegment" or "embed"."""
        if kind == "model":
            self._fetcher.stop()
        self._worker.cancel_if(lambda key: isinstance(key, tuple) and key[0] == kind)

    @property
    def is_busy(self) -> bool:
        """Whether the worker has something to do."""
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
        """Cancel all work; whether the threads have ended, each within the timeout."""
        self._fetcher.stop()
        fetched = self._fetcher.close(timeout)
        trained = self._trainer.close(timeout)
        return self._worker.close(timeout) and fetched and trained

    def _set_active(self, active: tuple[str, Adapter] | None) -> None:
        self._active = active
        if active is not None:
            self._last_active = active[0]
        emit_safely(self.active_changed, self.active)

    def _need_model(self) -> Model:
        if self._model is None:
            raise InputError("No model is loaded yet: choose one first.")
        return self._model

    def _engine(self) -> Engine:
        """What a job needs of the model, as it is now."""
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
        future = self._worker.submit_with(priority, key, function, *args, **kwargs)
        future.add_done_callback(self._report_failure)
        return future

    def _report_failure(self, future: Future[T]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None and not isinstance(error, CancelledError):
            emit_safely(self.failed, user_message(error))


def _nothing() -> None:
    """What there is to check of a model that need not be fetched."""

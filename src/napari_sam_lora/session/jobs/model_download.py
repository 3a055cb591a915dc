"""Fetching the files of named models beside all other work."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from napari_sam_lora.errors import CheckpointError
from napari_sam_lora.model.registry import ModelInfo
from napari_sam_lora.session.jobs.worker import CancelToken, JobCancelledError, JobThread

T = TypeVar("T")
KEY = ("model",)


class ModelDownloader(JobThread):
    """Fetches files in a thread of its own, so that prompts need not wait for a download.

    It reports progress under the key `KEY`, in bytes.
    """

    def __init__(self) -> None:
        super().__init__("napari-sam-lora download")
        self._awaited: Future[object] = Future()

    def fetch(self, info: ModelInfo, then: Callable[[Callable[[], None]], Future[T]]) -> Future[T]:
        """Fetch the file of a model, or verify the one that is there, and then do something with it.

        A newer call replaces an older one, whose future is cancelled at once.

        Parameters
        ----------
        then : callable
            Called in the fetching thread when the file is there. It begins what is to be done and returns the future
            of that, whose result becomes the result of this one. What it begins must call the function that it gets
            first, which raises `JobCancelledError` if nobody waits any more.
        """
        self.stop()
        result: Future[T] = Future()
        self._awaited = result  # type: ignore[assignment] # only cancelled through this name

        def check() -> None:
            if result.cancelled():
                raise JobCancelledError("Nobody waits for this model any more.")

        def go_on(fetched: Future[Path]) -> None:
            error = None if fetched.cancelled() else fetched.exception()
            if error is not None or fetched.cancelled() or result.cancelled():
                _settle(result, fetched)
                return
            try:
                then(check).add_done_callback(lambda done: _settle(result, done))
            except RuntimeError:  # the session was closed
                result.cancel()

        self.submit(KEY, _fetch, info).add_done_callback(go_on)
        return result

    def stop(self) -> None:
        """Fetch nothing more. A connection that gives no answer may take a while to end, but nobody waits for it."""
        self._awaited.cancel()
        self.cancel(KEY)


def _fetch(token: CancelToken, info: ModelInfo) -> Path:
    from napari_sam_lora.model.download import model_path  # noqa: PLC0415

    path = model_path(info, token.progress)
    if info.decoder is not None:
        with suppress(CheckpointError):  # the model works without, and loading it says so
            model_path(info.decoder, token.progress)
    return path


def _settle(result: Future[T], done: Future[T] | Future[Path]) -> None:
    """Give a future the outcome of another one, unless it was cancelled before."""
    error = CancelledError() if done.cancelled() else done.exception()
    if isinstance(error, CancelledError):
        result.cancel()
        return
    with suppress(InvalidStateError):
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(done.result())  # type: ignore[arg-type] # only a file that was not fetched has another

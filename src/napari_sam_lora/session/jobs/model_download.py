"""Download of model files in a thread of its own."""

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
    """Downloads model files in a thread of its own, so that prompts need not wait for a download.

    Progress is reported under the key `KEY`, in bytes.
    """

    def __init__(self) -> None:
        super().__init__("napari-sam-lora download")
        self._result: Future[object] = Future()

    def fetch(self, info: ModelInfo, then: Callable[[Callable[[], None]], Future[T]]) -> Future[T]:
        """Download the file of a model, or verify the one in the cache, and then call a function.

        A newer call replaces an older one, whose future is cancelled at once.

        Parameters
        ----------
        then : callable
            Called in the download thread when the file is there. It queues the next job and returns its future, whose
            result becomes the result of the future returned here. Its argument is a check that the next job must call
            first; it raises `JobCancelledError` if this load was cancelled meanwhile.
        """
        self.stop()
        result: Future[T] = Future()
        self._result = result  # type: ignore[assignment] # only cancelled through this name

        def check() -> None:
            if result.cancelled():
                raise JobCancelledError("Loading this model was cancelled.")

        def on_downloaded(download: Future[Path]) -> None:
            error = None if download.cancelled() else download.exception()
            if error is not None or download.cancelled() or result.cancelled():
                _copy_outcome(download, result)
                return
            try:
                then(check).add_done_callback(lambda done: _copy_outcome(done, result))
            except RuntimeError:  # the session was closed
                result.cancel()

        self.submit(KEY, _download, info).add_done_callback(on_downloaded)
        return result

    def stop(self) -> None:
        """Cancel the download. A connection without an answer may take a while to end, but nothing waits for it."""
        self._result.cancel()
        self.cancel(KEY)


def _download(token: CancelToken, info: ModelInfo) -> Path:
    """Download or verify the file of a model; return its path."""
    from napari_sam_lora.model.download import model_path  # noqa: PLC0415

    path = model_path(info, token.progress)
    if info.decoder is not None:
        with suppress(CheckpointError):  # the model works without, and loading it says so
            model_path(info.decoder, token.progress)
    return path


def _copy_outcome(done: Future[T] | Future[Path], result: Future[T]) -> None:
    """Give ``result`` the outcome of a future that is done, unless it was cancelled before."""
    error = CancelledError() if done.cancelled() else done.exception()
    if isinstance(error, CancelledError):
        result.cancel()
        return
    with suppress(InvalidStateError):
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(done.result())  # type: ignore[arg-type] # a download is copied only when it failed

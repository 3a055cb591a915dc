"""Run over several planes in the worker thread, one job a plane, so that prompts are answered in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace

from napari_sam_lora.errors import InputError
from napari_sam_lora.session.everything.found_plane import FoundPlane
from napari_sam_lora.session.jobs.worker import CancelToken

Step = Callable[[CancelToken], FoundPlane]
STEPS_PER_PLANE = 100  # of the progress


class EverythingRun:
    """Steps of one search, until it ends or is stopped; a stopped one can be continued.

    Attributes
    ----------
    future : Future of None
        Done when the run has ended or was stopped; has the error of a plane that failed.
    done : int
        Number of planes that are done.

    Parameters
    ----------
    submit : callable
        Queues the job of one plane.
    steps : sequence of callable
        Find the objects of a plane each.
    report : callable
        Called in the worker thread with each found plane.
    most_bytes : int
        Maps are kept until they take so many bytes; those of the planes that follow are dropped.
    """

    def __init__(
        self,
        submit: Callable[[Callable[[CancelToken], None]], Future[None]],
        steps: Sequence[Step],
        report: Callable[[FoundPlane], None],
        most_bytes: int,
    ) -> None:
        self.future: Future[None] = Future()
        self.done = 0
        self._submit, self._steps, self._report = submit, tuple(steps), report
        self._bytes_left = most_bytes
        self._until = len(self._steps)
        self._stopping = threading.Event()

    @property
    def total(self) -> int:
        """Number of planes."""
        return len(self._steps)

    @property
    def is_unfinished(self) -> bool:
        """Return whether it was stopped before its end, so that `start` continues it."""
        return self.future.done() and self.done < self.total

    def start(self, most: int | None = None) -> Future[None]:
        """Start the run, or continue it.

        Parameters
        ----------
        most : int, optional
            Stop after so many planes; by default after the last one.

        Raises
        ------
        InputError
            If all planes are done.
        """
        if self.total and self.done >= self.total:
            raise InputError("This search has ended: start another one.", code="search-ended")
        self.future = Future()
        self._until = self.total if most is None else min(self.total, self.done + most)
        self._stopping.clear()
        self._queue_next()
        return self.future

    def stop(self) -> None:
        """Stop before the next plane."""
        self._stopping.set()

    def _queue_next(self) -> None:
        if self.done >= self._until or self._stopping.is_set():
            self.future.set_result(None)
            return
        try:
            self._submit(self._find).add_done_callback(self._on_found)
        except RuntimeError:  # the session was closed
            self.future.set_result(None)

    def _find(self, token: CancelToken) -> None:
        """Find the objects of the next plane."""
        before, all_steps = self.done * STEPS_PER_PLANE, self.total * STEPS_PER_PLANE

        def report(done: int, total: int) -> None:
            token.progress(before + STEPS_PER_PLANE * done // max(1, total), all_steps)

        report(0, 1)
        found = self._steps[self.done](_PartOfToken(token, report))
        size = 0 if found.maps is None else found.maps.nbytes
        if size > self._bytes_left:
            self._bytes_left, found = 0, replace(found, maps=None)
        else:
            self._bytes_left -= size
        self.done += 1
        self._report(found)

    def _on_found(self, one: Future[None]) -> None:
        error = CancelledError() if one.cancelled() else one.exception()
        if error is None:
            self._queue_next()
        elif isinstance(error, CancelledError):
            self.future.set_result(None)
        else:
            self.future.set_exception(error)


class _PartOfToken(CancelToken):
    """Token of a run whose progress is that of one plane."""

    def __init__(self, token: CancelToken, report: Callable[[int, int], None]) -> None:
        super().__init__(report)
        self._token = token

    @property
    def is_cancelled(self) -> bool:
        """Return whether the whole run was cancelled."""
        return self._token.is_cancelled

    def check(self) -> None:
        """Raise `JobCancelledError` if the run should end."""
        self._token.check()

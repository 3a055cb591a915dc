"""Long-lived threads that do a session's work: one for all that needs torch, and others."""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Concatenate, ParamSpec, TypeVar

from psygnal import EmitLoopError, Signal, SignalInstance

from napari_sam_lora.native_libraries import import_triton_with_own_symbols
from napari_sam_lora.session.jobs.openmp import release_pools, start_thread, wait_at_exit

P = ParamSpec("P")
T = TypeVar("T")

# An idle thread ends, or its OpenMP threads do: GNU's library lets all of them sleep between operations while there are
# more than cores. New ones cost less than a millisecond.
IDLE_SECONDS = 0.25


class JobCancelledError(CancelledError):
    """Raised inside a job whose token was cancelled, and by the result of its future."""


class Priority(IntEnum):
    """Which queued job runs first; equal ones run in the order in which they came."""

    PROMPT = 0
    NORMAL = 1
    BACKGROUND = 2


class CancelToken:
    """Lets a job be interrupted and report its progress; the job is called with it first.

    ``token.progress`` has the signature of a progress callback of the core and can be passed on as one.
    """

    def __init__(self, report: Callable[[int, int], None] | None = None) -> None:
        self._event = threading.Event()
        self._report = report

    def cancel(self) -> None:
        """Ask the job to end at its next check. From any thread."""
        self._event.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise `JobCancelledError` if the job should end."""
        if self._event.is_set():
            raise JobCancelledError("The work was cancelled.")

    def progress(self, done: int, total: int) -> None:
        """Report progress, and raise `JobCancelledError` if the job should end."""
        self.check()
        if self._report is not None:
            self._report(done, total)


@dataclass(eq=False)
class _Job:
    key: Hashable
    priority: Priority
    number: int
    future: Future[Any]
    call: Callable[[CancelToken], Any]
    token: CancelToken

    def __lt__(self, other: _Job) -> bool:
        return (self.priority, self.number) < (other.priority, other.number)


class JobThread:
    """Runs jobs one after the other in a thread of its own, which starts with a job and may end when idle.

    Events (emitted from the worker thread)
    ---------------------------------------
    busy_changed : (bool)
        Whether a job is running or waiting.
    progressed : (key, done, total)
        From the running job's ``token.progress``.

    Parameters
    ----------
    name : str
        Of the thread.
    """

    busy_changed = Signal(bool)
    progressed = Signal(object, int, int)

    def __init__(self, name: str = "napari-sam-lora") -> None:
        self._name = name
        self._changed = threading.Condition()
        self._waiting: list[_Job] = []
        self._running: _Job | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._count = 0

    def submit(
        self,
        key: Hashable,
        function: Callable[Concatenate[CancelToken, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Future[T]:
        """`submit_with` at normal priority."""
        return self.submit_with(Priority.NORMAL, key, function, *args, **kwargs)

    def submit_with(
        self,
        priority: Priority,
        key: Hashable,
        function: Callable[Concatenate[CancelToken, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Future[T]:
        """Queue ``function(token, *args, **kwargs)``.

        A waiting job with the same key is cancelled (its future too); a running one has its token cancelled, and its
        future raises `JobCancelledError` if the job looks at the token, or gives its result if it does not.

        Raises
        ------
        RuntimeError
            If the thread was closed.
        """
        future: Future[T] = Future()
        token = CancelToken(lambda done, total: emit_safely(self.progressed, key, done, total))
        dropped = self._take(lambda job: job.key == key)
        with self._changed:
            if self._closed:
                raise RuntimeError("This session was closed; open a new one.")
            self._count += 1
            job = _Job(key, priority, self._count, future, lambda given: function(given, *args, **kwargs), token)
            heapq.heappush(self._waiting, job)
            if self._thread is None:
                self._thread = start_thread(self._run, self._name)
            self._changed.notify_all()
        _cancel_all(dropped)
        return future

    def cancel(self, key: Hashable) -> None:
        """Cancel the waiting job with this key, and ask the running one to end."""
        self.cancel_if(lambda other: other == key)

    def cancel_if(self, wanted: Callable[[Hashable], bool]) -> None:
        """Cancel the waiting jobs whose key is wanted, and ask the running one to end if its key is."""
        _cancel_all(self._take(lambda job: wanted(job.key)))

    @property
    def is_busy(self) -> bool:
        """Whether a job is running or waiting."""
        return self._running is not None or bool(self._waiting)

    @property
    def is_current(self) -> bool:
        """Whether a job of it asks."""
        return self._thread is threading.current_thread()

    def close(self, timeout: float | None = None) -> bool:
        """Cancel all that waits, ask the running job to end, and wait for it.

        Returns
        -------
        bool
            Whether the thread has ended within the timeout (seconds). If not, it ends by itself as soon as the running
            job lets it, and a program that ends before waits for that. Closing twice does no harm.
        """
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        self.cancel_if(lambda _: True)
        if thread is None or self.is_current:
            return True
        thread.join(timeout)
        wait_at_exit(thread)
        return not thread.is_alive()

    def _take(self, wanted: Callable[[_Job], bool]) -> list[_Job]:
        """Take wanted jobs off the queue, and cancel the token of the running one."""
        with self._changed:
            taken = [job for job in self._waiting if wanted(job)]
            self._waiting = [job for job in self._waiting if not wanted(job)]
            heapq.heapify(self._waiting)
            if self._running is not None and wanted(self._running):
                self._running.token.cancel()
        return taken

    def _prepare(self) -> None:
        """In each new thread, before its first job."""

    def _may_stay(self) -> bool:
        """In an idle thread: let go what others need; whether it is to live on."""
        return False

    def _run(self) -> None:
        self._prepare()
        was_busy = False
        while True:
            with self._changed:
                if not self._waiting and was_busy:
                    idle = True
                else:
                    self._changed.wait_for(lambda: self._waiting or self._closed, IDLE_SECONDS)
                    idle = False
                    if not self._waiting and not self._closed and self._may_stay():
                        self._changed.wait_for(lambda: self._waiting or self._closed)
                    if not self._waiting:
                        self._thread = None
                        return
                    job = self._running = heapq.heappop(self._waiting)
            if idle or not was_busy:
                was_busy = not idle
                emit_safely(self.busy_changed, was_busy)
            if not idle:
                self._do(job)

    def _do(self, job: _Job) -> None:
        try:
            if not job.future.set_running_or_notify_cancel():
                return
            try:
                result = job.call(job.token)
            except BaseException as error:  # a job must not end the thread
                outcome: BaseException | None = error
            else:
                outcome = None
            with self._changed:
                self._running = None
            if outcome is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(outcome)
        finally:  # also where the future was cancelled before the job began
            with self._changed:
                self._running = None


class TorchThread(JobThread):
    """A thread for torch work. It lives on where its OpenMP threads can be ended.

    A new one may get another arena of glibc.

    Parameters
    ----------
    name : str
        Of the thread.
    threads : int, optional
        Threads that torch may use for each operation; torch's own choice by default.
    """

    def __init__(self, name: str = "napari-sam-lora", threads: int | None = None) -> None:
        super().__init__(name)
        self._threads = threads

    def _prepare(self) -> None:
        import_triton_with_own_symbols()
        if self._threads is not None:
            import torch  # noqa: PLC0415

            torch.set_num_threads(self._threads)

    def _may_stay(self) -> bool:
        return release_pools()


def emit_safely(signal: SignalInstance, *args: Any) -> None:
    """Emit from a worker thread; an error in a listener is logged and does not end the thread."""
    try:
        signal.emit(*args)
    except EmitLoopError:
        logging.getLogger(__name__).exception("A listener of %s failed.", signal.name)


def _cancel_all(jobs: list[_Job]) -> None:
    for job in jobs:
        job.token.cancel()
        job.future.cancel()

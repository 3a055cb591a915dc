"""Worker threads of a session: queued jobs with priorities, cancellation and progress."""

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
from napari_sam_lora.session.jobs.openmp import release_pools
from napari_sam_lora.session.jobs.threads import start_thread, wait_at_exit

P = ParamSpec("P")
T = TypeVar("T")

# An idle thread ends itself or its OpenMP threads: GNU's library puts threads to sleep between operations as long as
# there are more of them than cores. Starting new ones costs less than a millisecond.
IDLE_SECONDS = 0.25


class JobCancelledError(CancelledError):
    """Raised inside a job whose token was cancelled, and by the result of its future."""


class Priority(IntEnum):
    """Priority of a queued job; equal ones run in the order in which they were submitted."""

    PROMPT = 0
    NORMAL = 1
    BACKGROUND = 2


class CancelToken:
    """Interrupts a job and reports its progress; it is the first argument of the job.

    ``token.progress`` has the signature of the core's progress callbacks and can be passed on as one.

    Parameters
    ----------
    report : callable, optional
        Called with (done, total).
    """

    def __init__(self, report: Callable[[int, int], None] | None = None) -> None:
        self._event = threading.Event()
        self._report = report

    def cancel(self) -> None:
        """Ask the job to end at its next check; may be called from any thread."""
        self._event.set()

    @property
    def is_cancelled(self) -> bool:
        """Return whether `cancel` was called."""
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
    """Queued job; jobs sort by priority, then by number."""

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
        Progress that the running job gave to ``token.progress``.

    Parameters
    ----------
    name : str
        Name of the thread.
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
        """Queue a job at normal priority; see `submit_with`."""
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

        A waiting job with the same key is cancelled, and so is its future. A running job with the same key has its
        token cancelled: its future raises `JobCancelledError` if the job checks the token, and gives the result if not.

        Raises
        ------
        RuntimeError
            If the thread was closed.
        """
        future: Future[T] = Future()
        token = CancelToken(lambda done, total: emit_safely(self.progressed, key, done, total))
        dropped = self._remove(lambda job: job.key == key)
        with self._changed:
            if self._closed:
                raise RuntimeError("This session was closed; open a new one.")
            self._count += 1
            job = _Job(key, priority, self._count, future, lambda token: function(token, *args, **kwargs), token)
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
        """Cancel the waiting jobs with a wanted key, and ask the running one to end if its key is wanted."""
        _cancel_all(self._remove(lambda job: wanted(job.key)))

    @property
    def is_busy(self) -> bool:
        """Return whether a job is running or waiting."""
        return self._running is not None or bool(self._waiting)

    @property
    def is_current(self) -> bool:
        """Return whether the caller runs on this thread."""
        return self._thread is threading.current_thread()

    def close(self, timeout: float | None = None) -> bool:
        """Cancel all waiting jobs, ask the running job to end, and wait for it.

        Returns
        -------
        bool
            Whether the thread has ended within the timeout (seconds). If not, it ends by itself after the running job,
            and the program waits for that when it exits. Closing twice does no harm.
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

    def _remove(self, wanted: Callable[[_Job], bool]) -> list[_Job]:
        """Remove wanted jobs from the queue, and cancel the token of the running one if it is wanted."""
        with self._changed:
            removed = [job for job in self._waiting if wanted(job)]
            self._waiting = [job for job in self._waiting if not wanted(job)]
            heapq.heapify(self._waiting)
            if self._running is not None and wanted(self._running):
                self._running.token.cancel()
        return removed

    def _prepare(self) -> None:
        """Prepare a new thread, before its first job."""

    def _rest(self) -> bool:
        """Release resources of the idle thread; return whether it may live on."""
        return False

    def _run(self) -> None:
        """Run jobs until the thread is closed, or idle and not allowed to live on."""
        self._prepare()
        was_busy = False
        while True:
            with self._changed:
                if not self._waiting and was_busy:
                    idle = True
                else:
                    self._changed.wait_for(lambda: self._waiting or self._closed, IDLE_SECONDS)
                    idle = False
                    if not self._waiting and not self._closed and self._rest():
                        self._changed.wait_for(lambda: self._waiting or self._closed)
                    if not self._waiting:
                        self._thread = None
                        return
                    job = self._running = heapq.heappop(self._waiting)
            if idle or not was_busy:
                was_busy = not idle
                emit_safely(self.busy_changed, was_busy)
            if not idle:
                self._execute(job)

    def _execute(self, job: _Job) -> None:
        """Run a job and give its future the outcome."""
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
    """Thread for torch work. It lives on where its OpenMP threads can be ended.

    Living on saves memory: a new thread may get another memory arena of glibc.

    Parameters
    ----------
    name : str
        Name of the thread.
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

    def _rest(self) -> bool:
        return release_pools()


def emit_safely(signal: SignalInstance, *args: Any) -> None:
    """Emit a signal from a worker thread; log an error of a listener, so that it does not end the thread."""
    try:
        signal.emit(*args)
    except EmitLoopError:
        logging.getLogger(__name__).exception("A listener of %s failed.", signal.name)


def _cancel_all(jobs: list[_Job]) -> None:
    for job in jobs:
        job.token.cancel()
        job.future.cancel()

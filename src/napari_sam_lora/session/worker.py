"""One long-lived thread for all torch work of a session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Concatenate, ParamSpec, TypeVar

from psygnal import Signal

P = ParamSpec("P")
T = TypeVar("T")

# Some platforms give threads 512 KiB; torch wants at least 8 MiB.
STACK_BYTES = 16 * 2**20


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


class TorchThread:
    """Runs jobs one after the other in a thread of its own, which starts with the first job.

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
    threads : int, optional
        Threads that torch may use for each operation; torch's own choice by default.
    """

    busy_changed = Signal(bool)
    progressed = Signal(object, int, int)

    def __init__(self, name: str = "napari-sam-lora", threads: int | None = None) -> None:
        self._name, self._threads = name, threads

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
        raise NotImplementedError

    def cancel(self, key: Hashable) -> None:
        """Cancel the waiting job with this key, and ask the running one to end."""
        raise NotImplementedError

    @property
    def is_busy(self) -> bool:
        """Whether a job is running or waiting."""
        raise NotImplementedError

    def close(self, timeout: float | None = None) -> bool:
        """Cancel all that waits, ask the running job to end, and wait for it.

        Returns
        -------
        bool
            Whether the thread has ended within the timeout (seconds). Closing twice does no harm.
        """
        raise NotImplementedError

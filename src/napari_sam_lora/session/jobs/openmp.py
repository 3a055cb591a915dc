"""Threads that compute: their stacks, their OpenMP threads, and ending with the program."""

from __future__ import annotations

import atexit
import ctypes
import threading
from collections.abc import Callable
from functools import cache

# Some platforms give threads 512 KiB; torch wants at least 8 MiB.
STACK_BYTES = 16 * 2**20
# Of OpenMP 5.0, section 3.2.44: keep what belongs to each thread.
_PAUSE_SOFT = 1
# Native code that still runs when the interpreter goes can take the process down with it.
EXIT_SECONDS = 120.0


def wait_at_exit(thread: threading.Thread | None) -> None:
    """Let the program, when it ends, wait for a thread that was asked to end and needs a while for it."""
    if thread is not None and thread.is_alive():
        atexit.register(thread.join, EXIT_SECONDS)


def start_thread(target: Callable[[], None], name: str) -> threading.Thread:
    """Start a daemon thread with a stack that is large enough for torch.

    A daemon does not keep the interpreter alive when a viewer was closed in the middle of a long operation.
    """
    before = threading.stack_size(STACK_BYTES)
    try:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
    finally:
        threading.stack_size(before)
    return thread


def release_pools() -> bool:
    """End the OpenMP threads that the calling thread has computed with; its next operation makes new ones.

    With GNU's library (libgomp) each thread that computes has a pool of its own, and an idle one slows down the others.

    Returns
    -------
    bool
        Whether they were ended: not where another OpenMP library is used, or none yet.
    """
    ended = [library.omp_pause_resource(_PAUSE_SOFT, library.omp_get_initial_device()) == 0 for library in _libgomps()]
    return bool(ended) and all(ended)


def _libgomps() -> list[ctypes.CDLL]:
    """All copies of libgomp in this process: torch and other packages bring one each."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            paths = {line.rstrip("\n").split(maxsplit=5)[5] for line in maps if "/libgomp" in line}
    except OSError:  # not Linux
        return []
    return [library for library in map(_opened, sorted(paths)) if library is not None]


@cache
def _opened(path: str) -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(path)
        return library if library.omp_pause_resource and library.omp_get_initial_device else None
    except (OSError, AttributeError):  # before OpenMP 5.0
        return None

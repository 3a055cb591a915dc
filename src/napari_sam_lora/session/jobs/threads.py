"""Start threads that are fit for torch, and wait for unfinished ones when the program exits."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable

# Some platforms give threads 512 KiB; torch wants at least 8 MiB.
STACK_BYTES = 16 * 2**20
# Native code that still runs when the interpreter goes can take the process down with it.
EXIT_SECONDS = 120.0


def start_thread(target: Callable[[], None], name: str) -> threading.Thread:
    """Start a daemon thread with a stack that is large enough for torch.

    A daemon does not keep the interpreter alive when a viewer is closed in the middle of a long operation.
    """
    before = threading.stack_size(STACK_BYTES)
    try:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
    finally:
        threading.stack_size(before)
    return thread


def wait_at_exit(thread: threading.Thread | None) -> None:
    """Let the program wait at its exit for a thread that was asked to end but has not ended yet."""
    if thread is not None and thread.is_alive():
        atexit.register(thread.join, EXIT_SECONDS)

"""Ctrl-C during long work: the first one stops it gently."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def stop_at_first_interrupt(stop: Callable[[], None], message: str) -> Iterator[None]:
    """Call ``stop`` at the first Ctrl-C within the block; the next one raises KeyboardInterrupt as usual.

    Has no effect outside the main thread, since signals cannot be handled there.

    Parameters
    ----------
    stop : callable
        Called between two instructions of the main thread: it should set a flag and return.
    message : str
        Printed to standard error.
    """

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop()
        with suppress(RuntimeError):  # the signal came while something else was being printed
            print(f"\nnapari-sam-lora: {message}", file=sys.stderr, flush=True)

    try:
        before = signal.signal(signal.SIGINT, handle)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

"""What Ctrl-C does while something long is going on."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def first_interrupt(act: Callable[[], None], text: str) -> Iterator[None]:
    """Within the block the first Ctrl-C acts and says a text; the next one is a KeyboardInterrupt as usual.

    In other threads than the main one, where signals cannot be handled, nothing is changed.

    Parameters
    ----------
    act : callable
        Called between two instructions of the main thread: it should set a flag and return.
    text : str
        For a person, on standard error.
    """

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        act()
        with suppress(RuntimeError):  # it came while something else was being printed
            print(f"\nnapari-sam-lora: {text}", file=sys.stderr, flush=True)

    try:
        before = signal.signal(signal.SIGINT, handle)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

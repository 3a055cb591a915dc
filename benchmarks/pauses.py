"""Pauses in which a window does not respond."""

from __future__ import annotations

import time
from types import TracebackType

import numpy as np
from qtpy.QtCore import QTimer

TICK_MS = 10


class Pauses:
    """Context manager that records the gaps of a timer of 10 ms; the event loop must run inside it.

    Attributes
    ----------
    milliseconds : list of float
        Time from each tick to the next.
    """

    def __init__(self) -> None:
        self.milliseconds: list[float] = []
        self._timer = QTimer()
        self._timer.timeout.connect(self._record)
        self._last = 0.0

    def __enter__(self) -> Pauses:
        self._last = time.perf_counter()
        self._timer.start(TICK_MS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.stop()

    def rows(self, when: str) -> str:
        """Return two rows of a table."""
        percentile, longest = np.percentile(self.milliseconds, 95), max(self.milliseconds)
        return f"| pauses of the window {when}, 95 % below | {percentile:.0f} ms |\n| the longest | {longest:.0f} ms |"

    def _record(self) -> None:
        now = time.perf_counter()
        self.milliseconds.append((now - self._last) * 1000)
        self._last = now

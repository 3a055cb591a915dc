"""Detect truncated TIFF files, of which tifffile reads the rest and only logs an error."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

# Fragments of tifffile's messages.
_DAMAGE = ("invalid page offset", "invalid offset", "corrupted", "failed to read")


class _MessageCollector(logging.Handler):
    """Collects the errors that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def raise_on_damage() -> Iterator[None]:
    """Raise ValueError at the end of the block if a TIFF that was read in it has missing planes."""
    collector, logger = _MessageCollector(), logging.getLogger("tifffile")
    logger.addHandler(collector)
    try:
        yield
    finally:
        logger.removeHandler(collector)
    if any(fragment in message for message in collector.messages for fragment in _DAMAGE):
        raise ValueError("the file is cut off: planes are missing")

"""tifffile reads what is left of a cut-off file and logs it; here that is an error."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_DAMAGE = ("invalid page offset", "invalid offset", "corrupted", "failed to read")


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextmanager
def damage_raises() -> Iterator[None]:
    """Raise ValueError at the end of the block if planes were missing in a TIFF that was read in it."""
    collector, logger = _Collector(), logging.getLogger("tifffile")
    logger.addHandler(collector)
    try:
        yield
    finally:
        logger.removeHandler(collector)
    if any(words in text for text in collector.said for words in _DAMAGE):
        raise ValueError("the file is cut off: planes are missing")

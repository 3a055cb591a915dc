"""End idle OpenMP threads, which slow down the other threads of the process."""

from __future__ import annotations

import ctypes
from functools import cache

# Of OpenMP 5.0, section 3.2.44: keep what belongs to each thread.
_PAUSE_SOFT = 1


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
    """Find all copies of libgomp in this process: torch and other packages bring one each."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            paths = {line.rstrip("\n").split(maxsplit=5)[5] for line in maps if "/libgomp" in line}
    except OSError:  # not Linux
        return []
    return [library for library in map(_load_library, sorted(paths)) if library is not None]


@cache
def _load_library(path: str) -> ctypes.CDLL | None:
    """Load a copy of libgomp; return None if it cannot end its threads."""
    try:
        library = ctypes.CDLL(path)
        return library if library.omp_pause_resource and library.omp_get_initial_device else None
    except (OSError, AttributeError):  # before OpenMP 5.0
        return None

"""Keep freed memory in the process; by default the C library returns it to the system after every layer."""

from __future__ import annotations

import ctypes
import os
import sys

OPT_OUT = "NAPARI_SAM_LORA_KEEP_ALLOCATOR"
# Option numbers of mallopt(3), from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -2, -3, -4, -8
_SETTINGS = (
    # Arenas of other threads consist of heaps of 64 MB, which are returned regardless of the other settings.
    (_ARENA_MAX, 1),
    (_TRIM_THRESHOLD, -1),
    (_MMAP_THRESHOLD, 1 << 30),
    (_MMAP_MAX, 0),
    (_TOP_PAD, 256 << 20),
)


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next layer.

    A vision transformer frees and allocates buffers of many megabytes at every layer. By default glibc returns
    them to the system, and faulting them in again takes a good third of an encoder run on a CPU.

    Returns
    -------
    bool
        Whether the settings were applied: only on Linux with glibc, and not if the environment variable
        ``NAPARI_SAM_LORA_KEEP_ALLOCATOR`` is set to something other than ``0``.
    """
    if os.environ.get(OPT_OUT, "0") != "0" or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # a C library without mallopt, such as musl
        return False
    return all(mallopt(option, value) == 1 for option, value in _SETTINGS)

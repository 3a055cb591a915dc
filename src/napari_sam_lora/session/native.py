"""Native libraries and threads: loading beside a viewer's graphics driver, and ending with the program."""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable

# Some platforms give threads 512 KiB; torch wants at least 8 MiB.
STACK_BYTES = 16 * 2**20
# Native code that still runs when the interpreter goes can take the process down with it.
EXIT_SECONDS = 120.0


def wait_at_exit(thread: threading.Thread | None) -> None:
    """Let the program, when it ends, wait for a thread that was asked to end and needs a while for it."""
    if thread is not None and thread.is_alive():
        atexit.register(thread.join, EXIT_SECONDS)


def import_triton_apart() -> None:
    """Import triton so that its LLVM does not take symbols of the LLVM that the graphics driver has loaded.

    Mesa's drivers for software and AMD rendering bring an LLVM of their own. torchvision makes torch import triton, and
    if that happens after a window was drawn the process crashes, unless triton is told to prefer its own symbols.
    """
    if "triton" in sys.modules or not hasattr(os, "RTLD_DEEPBIND") or importlib.util.find_spec("triton") is None:
        return
    before = sys.getdlopenflags()
    sys.setdlopenflags(before | os.RTLD_DEEPBIND)
    try:
        importlib.import_module("triton")
    except Exception:  # torch does without it as well
        return
    finally:
        sys.setdlopenflags(before)


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

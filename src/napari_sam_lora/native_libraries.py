"""Load native libraries beside a viewer's graphics driver."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys


def import_triton_with_own_symbols() -> None:
    """Import triton so that its LLVM uses its own symbols, not those of the LLVM of the graphics driver.

    Mesa's drivers for software and AMD rendering bring an LLVM of their own. torchvision makes torch import triton, and
    if that happens after a window was drawn the process crashes, unless triton is told to prefer its own symbols.
    """
    if "triton" in sys.modules or not hasattr(os, "RTLD_DEEPBIND") or importlib.util.find_spec("triton") is None:
        return
    before = sys.getdlopenflags()
    sys.setdlopenflags(before | os.RTLD_DEEPBIND)
    try:
        importlib.import_module("triton")
    except Exception:  # torch works without triton
        return
    finally:
        sys.setdlopenflags(before)

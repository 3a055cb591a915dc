"""Settings of the C library's allocator; each in a process of its own, since they cannot be undone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

GLIBC = sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc"
SCRIPT = "from napari_sam_lora.model.allocator import keep_freed_memory; print(keep_freed_memory())"


def _run(script: str, **variables: str) -> str:
    kept = {key: value for key, value in os.environ.items() if key != "NAPARI_SAM_LORA_KEEP_ALLOCATOR"}
    done = subprocess.run([sys.executable, "-c", script], env=kept | variables, capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.mark.parametrize("value", ["1", "yes"])
def test_a_user_can_opt_out(value: str) -> None:
    assert _run(SCRIPT, NAPARI_SAM_LORA_KEEP_ALLOCATOR=value) == "False"


# mallopt and its settings are glibc's; what happens elsewhere is tested below, on every system.
@pytest.mark.skipif(not GLIBC, reason="glibc alone has malloc arenas to limit; elsewhere nothing is set")
@pytest.mark.parametrize("variables", [{}, {"NAPARI_SAM_LORA_KEEP_ALLOCATOR": "0"}])
def test_glibc_takes_the_settings(variables: dict[str, str]) -> None:
    assert _run(SCRIPT, **variables) == "True"


# Reads /proc and calls glibc's malloc.
@pytest.mark.skipif(not GLIBC, reason="glibc alone has malloc arenas to limit; elsewhere nothing is set")
def test_freed_memory_stays_in_the_process() -> None:
    script = f"""
import ctypes
{SCRIPT}

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
before = resident()
block = libc.malloc(64 << 20)
ctypes.memset(block, 1, 64 << 20)
libc.free(block)
print(resident() - before > 60 << 20)
"""
    assert _run(script).split() == ["True", "True"]
    assert _run(script, NAPARI_SAM_LORA_KEEP_ALLOCATOR="1").split() == ["False", "False"]


@pytest.mark.parametrize(
    "pretence",
    [
        "import sys; sys.platform = 'darwin'",
        "import ctypes; ctypes.CDLL = lambda name: object()",  # a C library without mallopt, such as musl
    ],
)
def test_other_systems_are_left_alone(pretence: str) -> None:
    assert _run(f"{pretence}; {SCRIPT}") == "False"

"""Measure in separate processes, so that memory and allocator settings of one run do not affect the next."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from segment_anything import sam_model_registry


def run_worker(module: str, *arguments: str) -> dict[str, Any]:
    """Run ``python -m module arguments`` and return the JSON object that it prints last."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def seconds(action: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def peak_megabytes() -> float:
    """Return the peak memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def random_checkpoint(folder: Path, family: str = "vit_b") -> Path:
    """Write a checkpoint with random weights under the official keys, including positions, which start at zero."""
    path = folder / f"random_{family}.pth"
    if not path.exists():
        torch.manual_seed(0)
        sam = sam_model_registry[family]()
        for name, value in sam.image_encoder.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                torch.nn.init.normal_(value, std=0.02)
        torch.save(sam.state_dict(), path)
    return path

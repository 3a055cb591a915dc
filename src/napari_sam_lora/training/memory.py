"""What a run does when memory runs out: it goes on with less, step by step."""

from __future__ import annotations

import gc

import torch

from napari_sam_lora.training.cache import PrefixCache
from napari_sam_lora.training.config import TrainConfig

_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or a CPU."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


class Thrift:
    """How much memory a run allows itself; it is only ever lowered.

    Parameters
    ----------
    config : TrainConfig
        Where it begins.

    Attributes
    ----------
    chunk : int
        Objects decoded at once.
    objects : int
        Objects a step.
    recompute : bool
        Whether activations of encoder blocks are computed twice instead of being kept.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.objects = config.objects
        self.chunk = min(config.chunk, config.objects)
        self.recompute = config.recompute

    def lower(self, cache: PrefixCache) -> str | None:
        """Spare more memory; returns in words what is done now, or None if there is nothing left to spare.

        First what changes no result: fewer objects at once, a smaller cache, recomputation. Last fewer objects a step.
        """
        if self.chunk > 1:
            self.chunk = max(1, self.chunk // 4)
            return f"decoding {self.chunk} object{'s' * (self.chunk > 1)} at once"
        if cache.shrink():
            return "keeping no encoded views in memory"
        if not self.recompute:
            self.recompute = True
            return "computing activations of the encoder twice instead of keeping them"
        if self.objects > 1:
            self.objects = max(1, self.objects // 4)
            return f"showing {self.objects} object{'s' * (self.objects > 1)} a step"
        return None


def free_memory(device: torch.device) -> None:
    """Give back what a failed step held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()

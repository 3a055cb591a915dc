"""Recover when memory runs out: go on with smaller chunks and fewer caches, step by step."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from napari_sam_lora.errors import is_out_of_memory
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.text import Caution, pluralize
from napari_sam_lora.training.prefix_cache import PrefixCache

Item = TypeVar("Item")
Output = TypeVar("Output")
MAX_CHUNK = 16


class MemoryFallback:
    """Settings of a run that decide its use of memory; they are only ever lowered.

    Parameters
    ----------
    config : TrainConfig
        Settings at the start.

    Attributes
    ----------
    chunk : int
        Objects decoded at once.
    objects : int
        Objects per step.
    recompute : bool
        Activations of encoder blocks are computed twice instead of being kept.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.objects = config.objects
        self.chunk = min(config.chunk, config.objects)
        self.recompute = config.recompute

    def lower(self, cache: PrefixCache) -> Caution | None:
        """Use less memory, and say how; returns None if nothing is left to lower.

        First come measures that change no result: fewer objects at once, no cache, recomputation. The last one is
        fewer objects per step.
        """
        if self.chunk > 1:
            self.chunk = max(1, self.chunk // 4)
            return Caution(f"decoding {pluralize(self.chunk, 'object')} at once", "smaller-chunks")
        if cache.shrink():
            return Caution("keeping no encoded views in memory", "cache-dropped")
        if not self.recompute:
            self.recompute = True
            return Caution("computing activations of the encoder twice instead of keeping them", "recomputing")
        if self.objects > 1:
            self.objects = max(1, self.objects // 4)
            return Caution(f"training on {pluralize(self.objects, 'object')} per step", "fewer-objects-per-step")
        return None


class AdaptiveChunks:
    """Chunks of held-out objects that are segmented at once; their size is only ever lowered.

    Parameters
    ----------
    caches : sequence of callable
        Each empties a cache and returns whether anything was in it.

    Attributes
    ----------
    size : int
        Objects decoded at once.
    warnings : list of Caution
        Each time that memory ran out, and what was done.
    """

    def __init__(self, caches: Sequence[Callable[[], bool]] = ()) -> None:
        self.size = MAX_CHUNK
        self.warnings: list[Caution] = []
        self._caches = list(caches)

    def map(self, function: Callable[[Sequence[Item]], list[Output]], items: Sequence[Item]) -> list[Output]:
        """Apply a function to all items, one chunk at a time; if memory runs out, go on with smaller chunks.

        Raises
        ------
        RuntimeError, MemoryError
            If memory runs out and nothing is left to lower; see `is_out_of_memory`.
        """
        outputs: list[Output] = []
        start = 0
        while start < len(items):
            chunk = items[start : start + self.size]
            try:
                outputs += function(chunk)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or not self._lower():
                    raise
            else:
                start += len(chunk)
                continue
            free_memory()  # outside of the except clause, because the error keeps the function's tensors alive
        return outputs

    def _lower(self) -> bool:
        if self.size > 1:
            self.size = max(1, self.size // 4)
            change = Caution(pluralize(self.size, "object") + " at once", "smaller-chunks")
        elif self._empty_a_cache():
            change = Caution("fewer encoded planes in memory", "cache-dropped")
        else:
            return False
        message = f"Memory ran out while held-out objects were segmented; the run continues with {change}."
        self.warnings.append(Caution(message, change.code))
        return True

    def _empty_a_cache(self) -> bool:
        """Empty the next cache that holds anything; each is tried only once, so that this ends."""
        while self._caches:
            if self._caches.pop(0)():
                return True
        return False


def free_memory() -> None:
    """Release the memory of a failed step."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

"""What a run does when memory runs out: it goes on with less, step by step."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from napari_sam_lora.training.config import TrainConfig
from napari_sam_lora.training.prefix_cache import PrefixCache

Item = TypeVar("Item")
Found = TypeVar("Found")
MOST_AT_ONCE = 16
_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or a CPU."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


class MemoryFallback:
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


class ChunkSizes:
    """How many objects are looked at or judged at once; it is only ever lowered.

    Parameters
    ----------
    caches : sequence of callable
        Each gives up a cache and returns whether anything was in it.

    Attributes
    ----------
    at_once : int
        Objects decoded at once.
    warnings : list of str
        What was spared, in words.
    """

    def __init__(self, caches: Sequence[Callable[[], bool]] = ()) -> None:
        self.at_once = MOST_AT_ONCE
        self.warnings: list[str] = []
        self._caches = list(caches)

    def collect(self, items: Sequence[Item], work: Callable[[Sequence[Item]], list[Found]]) -> list[Found]:
        """What some work finds for all items, a portion at a time, going on with less where memory runs out.

        Raises
        ------
        RuntimeError, MemoryError
            If memory runs out though nothing is left to spare; see `is_out_of_memory`.
        """
        found: list[Found] = []
        start = 0
        while start < len(items):
            part = items[start : start + self.at_once]
            try:
                found += work(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or not self._lower():
                    raise
            else:
                start += len(part)
                continue
            free_memory()  # after the error is gone, which holds what the work held
        return found

    def _lower(self) -> bool:
        if self.at_once > 1:
            self.at_once = max(1, self.at_once // 4)
            spared = f"{self.at_once} object{'s' * (self.at_once > 1)} at once"
        elif self._give_up_a_cache():
            spared = "fewer encoded planes in memory"
        else:
            return False
        self.warnings.append(f"Memory ran out while held-out objects were looked at; it goes on with {spared}.")
        return True

    def _give_up_a_cache(self) -> bool:
        """Each is asked only once, so that this has an end."""
        while self._caches:
            if self._caches.pop(0)():
                return True
        return False


def free_memory() -> None:
    """Give back what a failed step held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

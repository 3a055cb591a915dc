"""Cache the encoder prefixes of training views, in memory and then on disk."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Hashable
from pathlib import Path

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import Tensor

from napari_sam_lora.images import Prepared
from napari_sam_lora.model.encoder import prefix, preprocess


class PrefixCache:
    """Cache of the output of the encoder's frozen prefix for each view.

    Parameters
    ----------
    sam : Sam
        Its encoder up to ``split`` must not change during the use of the cache.
    split : int
        See `napari_sam_lora.model.encoder.prefix`.
    budget : int
        Bytes of memory.
    half : bool
        Store prefixes in half precision.
    disk_budget : int
        Bytes in a temporary folder for prefixes that do not fit in memory. The folder is removed by `close`, and
        also when the cache is deleted or the program ends. Prefixes that fit nowhere are computed again when needed.
    """

    def __init__(self, sam: Sam, split: int, budget: int, half: bool, disk_budget: int = 0) -> None:
        self.sam, self.split, self.half = sam, split, half
        self.budget, self.disk_budget = budget, disk_budget
        self.size = self.disk_size = 0
        self._in_memory: dict[Hashable, Tensor] = {}
        self._files: dict[Hashable, Path] = {}
        self._folder: Path | None = None
        self._remove: weakref.finalize[..., PrefixCache] | None = None

    @torch.no_grad()
    def get(self, view: Hashable, prepared: Prepared) -> Tensor:
        """Return the prefix of a view or crop, float32 (1, h, w, d), or (1, c, h, w) if it includes the neck."""
        cached = self._in_memory.get(view)
        if cached is not None:
            return cached.float()
        if view in self._files:
            return torch.from_numpy(np.load(self._files[view], allow_pickle=False)).to(self.sam.device).float()
        pixels = torch.from_numpy(np.ascontiguousarray(prepared.pixels))
        encoded = prefix(self.sam.image_encoder, preprocess(self.sam, pixels), self.split)
        stored = encoded.half() if self.half else encoded
        self._store(view, stored)
        return stored.float()

    def shrink(self) -> bool:
        """Keep nothing in memory from now on, and return whether anything was; it moves to disk if there is room."""
        removed, self._in_memory = self._in_memory, {}
        self.budget = self.size = 0
        for view, stored in removed.items():
            self._store(view, stored)
        return bool(removed)

    def close(self) -> None:
        """Empty the cache and remove its folder; it can be used again."""
        self._in_memory, self._files = {}, {}
        self.size = self.disk_size = 0
        if self._remove is not None:
            self._remove()
        self._folder = self._remove = None

    def __len__(self) -> int:
        return len(self._in_memory) + len(self._files)

    def _store(self, view: Hashable, encoded: Tensor) -> None:
        size = encoded.numel() * encoded.element_size()
        if self.size + size <= self.budget:
            self._in_memory[view] = encoded
            self.size += size
        elif self.disk_size + size <= self.disk_budget:
            try:
                self._write(view, encoded)
                self.disk_size += size
            except OSError:  # full or write-protected: go on without the disk
                self.disk_budget = 0

    def _write(self, view: Hashable, encoded: Tensor) -> None:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="napari-sam-lora-"))
            self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._folder / f"{len(self._files)}.npy"
        np.save(path, encoded.cpu().numpy(), allow_pickle=False)
        self._files[view] = path

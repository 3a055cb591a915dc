"""Prefixes of training views, encoded once and kept: in memory, then on disk."""

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
    """What the frozen part of the encoder makes of each view.

    Parameters
    ----------
    sam : Sam
        Its encoder up to ``split`` must not change while the cache is used.
    split : int
        See `napari_sam_lora.model.encoder.prefix`.
    budget : int
        Bytes of memory.
    half : bool
        Keep them in half precision.
    disk_budget : int
        Bytes in a temporary folder for prefixes that do not fit in memory. The folder is removed by `close`, and
        also when the cache is dropped or the program ends. What fits nowhere is computed again when it is needed.
    """

    def __init__(self, sam: Sam, split: int, budget: int, half: bool, disk_budget: int = 0) -> None:
        self.sam, self.split, self.half = sam, split, half
        self.budget, self.disk_budget = budget, disk_budget
        self.size = self.disk_size = 0
        self._held: dict[Hashable, Tensor] = {}
        self._files: dict[Hashable, Path] = {}
        self._folder: Path | None = None
        self._remove: weakref.finalize[..., PrefixCache] | None = None

    @torch.no_grad()
    def get(self, view: Hashable, prepared: Prepared) -> Tensor:
        """The prefix of a view, float32 (1, h, w, d), or (1, c, h, w) if it includes the neck."""
        held = self._held.get(view)
        if held is not None:
            return held.float()
        if view in self._files:
            return torch.from_numpy(np.load(self._files[view], allow_pickle=False)).to(self.sam.device).float()
        pixels = torch.from_numpy(np.ascontiguousarray(prepared.pixels))
        made = prefix(self.sam.image_encoder, preprocess(self.sam, pixels), self.split)
        kept = made.half() if self.half else made
        self._keep(view, kept)
        return kept.float()

    def shrink(self) -> bool:
        """Hold nothing in memory from now on; returns whether anything was held."""
        held, self._held = self._held, {}
        self.budget = self.size = 0
        for view, kept in held.items():
            self._keep(view, kept)
        return bool(held)

    def close(self) -> None:
        """Forget everything and remove the folder; the cache can be used again."""
        self._held, self._files = {}, {}
        self.size = self.disk_size = 0
        if self._remove is not None:
            self._remove()
        self._folder = self._remove = None

    def __len__(self) -> int:
        return len(self._held) + len(self._files)

    def _keep(self, view: Hashable, kept: Tensor) -> None:
        size = kept.numel() * kept.element_size()
        if self.size + size <= self.budget:
            self._held[view] = kept
            self.size += size
        elif self.disk_size + size <= self.disk_budget:
            try:
                self._write(view, kept)
                self.disk_size += size
            except OSError:  # the disk is full or may not be written: go on without it
                self.disk_budget = 0

    def _write(self, view: Hashable, kept: Tensor) -> None:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="napari-sam-lora-"))
            self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._folder / f"{len(self._files)}.npy"
        np.save(path, kept.cpu().numpy(), allow_pickle=False)
        self._files[view] = path

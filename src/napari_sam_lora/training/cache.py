"""Prefixes of training views, encoded once and kept."""

from __future__ import annotations

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import Tensor

from napari_sam_lora.images import Prepared
from napari_sam_lora.model.encoder import prefix, preprocess
from napari_sam_lora.training.views import View


class PrefixCache:
    """What the frozen part of the encoder makes of each view.

    Parameters
    ----------
    sam : Sam
        Its encoder up to ``split`` must not change while the cache is used.
    split : int
        See `napari_sam_lora.model.encoder.prefix`.
    budget : int
        Bytes; prefixes that do not fit are computed again when they are needed.
    half : bool
        Keep them in half precision.
    """

    def __init__(self, sam: Sam, split: int, budget: int, half: bool) -> None:
        self.sam, self.split, self.budget, self.half = sam, split, budget, half
        self.size = 0
        self._held: dict[View, Tensor] = {}

    @torch.no_grad()
    def get(self, view: View, prepared: Prepared) -> Tensor:
        """The prefix of a view, float32 (1, h, w, d), or (1, c, h, w) if it includes the neck."""
        held = self._held.get(view)
        if held is not None:
            return held.float()
        pixels = torch.from_numpy(np.ascontiguousarray(prepared.pixels))
        made = prefix(self.sam.image_encoder, preprocess(self.sam, pixels), self.split)
        kept = made.half() if self.half else made
        size = kept.numel() * kept.element_size()
        if self.size + size <= self.budget:
            self._held[view] = kept
            self.size += size
        return kept.float()

    def __len__(self) -> int:
        return len(self._held)

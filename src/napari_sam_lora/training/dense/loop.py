"""The dense head's part of a training step: its parameters, its loss on shared views, and its own crops."""

from __future__ import annotations

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn

from napari_sam_lora.images import Prepared
from napari_sam_lora.model.dense.head import OUTPUTS, DenseHead, new_dense_head, with_classes
from napari_sam_lora.model.encoder import prefix, preprocess, suffix
from napari_sam_lora.model.families.nano_refine import RefiningMaskDecoder
from napari_sam_lora.model.input_size import at_input_size, stride
from napari_sam_lora.training.config import TrainConfig
from napari_sam_lora.training.data.augmentation import View
from napari_sam_lora.training.dense.loss import DenseLoss, class_loss
from napari_sam_lora.training.dense.views import Crop, DenseViews
from napari_sam_lora.training.prefix_cache import PrefixCache

# Crops of each plane that larger models, whose encoding takes seconds, see repeatedly.
_KEPT_CROPS = 8


class DenseTrainer:
    """Train a dense head beside the mask decoder, on the same embeddings and on crops of its own.

    Crops have half the input size of the model, so that they cost a quarter, and vary in scale.

    Parameters
    ----------
    tree : Sam
        With the adapter's layers, which are trained too.
    views : DenseViews
    config : TrainConfig
    start : DenseHead, optional
        The head to start from; it is copied, with a new class layer if it has not as many classes as the views. By
        default one with new weights.
    split : int
        Where the frozen prefix of the encoder ends.
    """

    def __init__(
        self, tree: Sam, views: DenseViews, config: TrainConfig, split: int, start: DenseHead | None = None
    ) -> None:
        self.views, self.config, self.split = views, config, split
        count = len(views.class_numbers)
        start = new_dense_head(tree, config.seed) if start is None else start
        self.head = with_classes(start, count, config.seed).to(tree.device)
        self.head.train().requires_grad_(True)
        self.parameters: dict[str, nn.Parameter] = dict(self.head.named_parameters())
        self.rng = np.random.default_rng([config.seed, 1])
        self._tree = tree
        self._small = at_input_size(tree, views.side)
        self._loss = DenseLoss()
        self._is_cheap = isinstance(tree.mask_decoder, RefiningMaskDecoder)
        budget = 0 if self._is_cheap else config.cache_bytes // 4
        self._cache = PrefixCache(self._small, split, budget, config.half_cache)
        self._kept = [] if self._is_cheap else [views.draw(self.rng) for _ in range(_KEPT_CROPS * len(views.planes))]

    def shared_loss(self, embedding: Tensor, view: View, prepared: Prepared) -> Tensor:
        """Return the weighted loss of a view with the embedding (1, c, h, w)."""
        pixels = preprocess(self._tree, torch.from_numpy(np.ascontiguousarray(prepared.pixels)))
        target = self.views.of_view(view, pixels.shape[-1])
        return self._weighted(embedding, pixels, target)

    def crops_backward(self, recompute: bool = False) -> float:
        """Compute the gradients of some crops in the head and the adapter's layers; return the weighted loss."""
        crops = [self._draw() for _ in range(self.config.dense_crops)]
        if not crops:
            return 0.0
        shown = [self.views.show(crop) for crop in crops]
        targets = torch.cat([target for _, target in shown])
        pixels = torch.cat([preprocess(self._small, torch.from_numpy(prepared.pixels)) for prepared, _ in shown])
        if self._is_cheap:
            with torch.no_grad():
                held = prefix(self._small.image_encoder, pixels, self.split)
        else:
            held = torch.cat(
                [self._cache.get(crop, prepared) for crop, (prepared, _) in zip(crops, shown, strict=True)]
            )
        loss = self._weighted(suffix(self._small.image_encoder, held, self.split, recompute), pixels, targets)
        loss.backward()
        return loss.item()

    def tensors(self) -> dict[str, Tensor]:
        """Copy the head's weights."""
        return {name: value.detach().cpu().clone() for name, value in self.head.state_dict().items()}

    def close(self) -> None:
        """Empty the cache of prefixes."""
        self._cache.close()

    def _weighted(self, embedding: Tensor, pixels: Tensor, targets: Tensor) -> Tensor:
        targets, logits = targets.to(embedding.device), self.head(embedding, pixels)
        loss = self._loss(logits, targets[:, :2], targets[:, 2:3])
        if self.views.class_numbers:
            loss = loss + class_loss(logits[:, len(OUTPUTS) :], targets[:, 3] * targets[:, 2])
        return self.config.dense_weight * loss

    def _draw(self) -> Crop:
        return self._kept[int(self.rng.integers(len(self._kept)))] if self._kept else self.views.draw(self.rng)


def crop_side(sam: Sam) -> int:
    """Return the side of the crops for a model: half its input size."""
    step = stride(sam)
    return max(step, int(sam.image_encoder.img_size) // 2 // step * step)

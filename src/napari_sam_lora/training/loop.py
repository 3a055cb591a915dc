"""The optimisation: adapter parameters of one module tree, over cached prefixes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from segment_anything.modeling import Sam
from torch import Tensor

from napari_sam_lora.errors import TrainingError
from napari_sam_lora.images import Prepared
from napari_sam_lora.lora.inject import LoRAConfig, adapter_parameters, attach, encoder_split, tuned_blocks
from napari_sam_lora.lora.layers import LowRank
from napari_sam_lora.model.encoder import suffix
from napari_sam_lora.model.input_size import mask_stride
from napari_sam_lora.model.predictor import decode_prompts
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.training.cache import PrefixCache
from napari_sam_lora.training.config import TrainConfig
from napari_sam_lora.training.losses import MaskLoss
from napari_sam_lora.training.samples import ObjectRef, Plane
from napari_sam_lora.training.views import (
    View,
    choose_views,
    corrective_clicks,
    first_prompts,
    show,
    with_click,
)


@dataclass(frozen=True)
class StepResult:
    """Outcome of one optimisation step.

    Attributes
    ----------
    loss : float
        Mean over the objects and prompting rounds of the step.
    learning_rate : float
    objects : int
        Objects seen.
    """

    loss: float
    learning_rate: float
    objects: int


def lora_config(sam: Sam, config: TrainConfig) -> LoRAConfig:
    """The layers that a run changes."""
    return LoRAConfig(
        blocks=tuned_blocks(sam, config.mode, config.late_blocks) if config.blocks is None else config.blocks,
        rank=config.rank,
        alpha=float(config.rank if config.alpha is None else config.alpha),
        targets=config.targets,
        tune_decoder=config.tune_decoder,
        dropout=config.dropout,
    )


class Trainer:
    """Train an adapter on some objects, one step at a time; the base model is never changed.

    Parameters
    ----------
    sam : Sam
        The base model; its frozen tensors are shared.
    planes : sequence of Plane
    objects : sequence of ObjectRef
        What to learn from.
    config : TrainConfig
    cache : PrefixCache, optional
        Of the same base model and settings; shared by runs over the same planes.
    """

    def __init__(
        self,
        sam: Sam,
        planes: Sequence[Plane],
        objects: Sequence[ObjectRef],
        config: TrainConfig,
        cache: PrefixCache | None = None,
    ) -> None:
        self.planes, self.config = planes, config
        self.rng = np.random.default_rng(config.seed)
        lora = lora_config(sam, config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.tree = attach(sam, lora)
        for module in self.tree.modules():
            if isinstance(module, LowRank):
                module.train()
        self.stride = mask_stride(sam)
        self.split = encoder_split(sam, lora)
        self.cache = cache or PrefixCache(sam, self.split, config.cache_bytes, config.half_cache)
        self.parameters = adapter_parameters(self.tree)
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.loss = MaskLoss()
        self.done = 0
        self._labels: dict[int, NDArray[np.int32]] = {}
        for ref in objects:
            known = self._labels.get(ref.plane, np.empty(0, np.int32))
            self._labels[ref.plane] = np.append(known, np.int32(ref.label))
        self._views = [view for plane in self._labels for view in choose_views(plane, config.views, self.rng)]

    def step(self) -> StepResult:
        """One step on some objects of one view.

        Raises
        ------
        TrainingError
            If the loss is not finite; the parameters are left as they were.
        """
        rate = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        view = self._draw_view()
        prepared, labels = show(view, self.planes)
        masks = self._draw_masks(view.plane, labels)
        with self._seeded_dropout():
            loss = self.backward(view, prepared, masks)
        if not math.isfinite(loss):
            raise TrainingError("The loss is no longer a number. Try a lower learning rate.")
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        self.done += 1
        return StepResult(loss, rate, len(masks))

    def backward(self, view: View, prepared: Prepared, masks: NDArray[np.bool_]) -> float:
        """Compute the gradients of one view; returns the mean loss of its objects.

        Objects are decoded in chunks that back-propagate into a detached embedding; one pass through the encoder's
        suffix follows.
        """
        self.optimizer.zero_grad(set_to_none=True)
        embedding = suffix(self.tree.image_encoder, self.cache.get(view, prepared), self.split)
        leaf = embedding.detach().requires_grad_(embedding.requires_grad)
        total = 0.0
        for start in range(0, len(masks), self.config.chunk):
            part = masks[start : start + self.config.chunk]
            loss, rounds = self._chunk_loss(leaf, prepared, part)
            loss = loss / (rounds * len(masks))
            loss.backward()
            total += loss.item()
        if leaf.grad is not None:
            embedding.backward(leaf.grad)
        return total

    def tensors(self) -> dict[str, Tensor]:
        """A copy of the adapter's tensors as they are now."""
        return {name: value.detach().cpu().clone() for name, value in self.parameters.items()}

    def _chunk_loss(self, embedding: Tensor, prepared: Prepared, masks: NDArray[np.bool_]) -> tuple[Tensor, int]:
        """Summed loss of all prompting rounds of some objects, and the number of rounds."""
        by_box, by_click, is_box = first_prompts(masks, self.config.box_share, self.rng)
        corrections = int(self.rng.integers(self.config.corrections + 1))
        total = embedding.new_zeros(())
        for prompts, chosen in ((by_box, masks[is_box]), (by_click, masks[~is_box])):
            if prompts is not None:
                total = total + self._rounds_loss(embedding, prepared, prompts, chosen, corrections)
        return total, 1 + corrections

    def _rounds_loss(
        self, embedding: Tensor, prepared: Prepared, prompts: Prompts, masks: NDArray[np.bool_], corrections: int
    ) -> Tensor:
        target = self._targets(masks, prepared.input_size).to(embedding.device)
        total = embedding.new_zeros(())
        for number in range(1 + corrections):
            logits, scores = decode_prompts(self.tree, embedding, prepared, prompts)
            ambiguous = prompts.is_lone_point(0)
            total = total + self.loss(logits, scores, target, ambiguous)
            if number < corrections:
                best = 1 + scores[:, 1:].argmax(1) if ambiguous else torch.zeros_like(scores[:, 0], dtype=torch.long)
                shown = logits.detach()[torch.arange(len(best), device=best.device), best]
                found = self.tree.postprocess_masks(shown[:, None], prepared.resized_shape, prepared.shape)
                clicks = corrective_clicks((found[:, 0] > 0).cpu().numpy(), masks, self.rng)
                prompts = with_click(prompts, clicks, shown.cpu().numpy())
        return total

    def _targets(self, masks: NDArray[np.bool_], size: int) -> Tensor:
        """Masks (n, h, w) at the resolution of the decoder's output, float (n, 1, m, m) of 0 and 1."""
        drawn = torch.from_numpy(np.ascontiguousarray(masks)).float()[:, None]
        padded = functional.pad(drawn, (0, size - masks.shape[2], 0, size - masks.shape[1]))
        return (functional.avg_pool2d(padded, self.stride) >= 0.5).float()

    @contextmanager
    def _seeded_dropout(self) -> Iterator[None]:
        """The same dropout in every run with the same seed; torch's own generator is left as it was."""
        if self.config.dropout == 0:
            yield
            return
        device = self.tree.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.config.seed + self.done)
            yield

    def _draw_view(self) -> View:
        return self._views[self.rng.integers(len(self._views))]

    def _draw_masks(self, plane: int, labels: NDArray[np.int32]) -> NDArray[np.bool_]:
        known = self._labels[plane]
        drawn = self.rng.choice(known, min(self.config.objects, len(known)), replace=False)
        return labels[None] == drawn[:, None, None]

    def _rate(self) -> float:
        warmup = max(1, round(self.config.warmup * self.config.steps))
        if self.done < warmup:
            return self.config.learning_rate * (self.done + 1) / warmup
        passed = (self.done - warmup) / max(1, self.config.steps - warmup)
        return self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * passed))

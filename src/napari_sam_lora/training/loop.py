"""Optimise the adapter parameters of one module tree, over cached encoder prefixes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam
from torch import Tensor, nn

from napari_sam_lora.errors import TrainingError, is_out_of_memory
from napari_sam_lora.images import Prepared
from napari_sam_lora.lora.inject import LoRAConfig, adapter_parameters, attach, encoder_split, set_adapter, tuned_blocks
from napari_sam_lora.lora.layers import LowRank
from napari_sam_lora.model.dense.head import DenseHead
from napari_sam_lora.model.encoder import suffix
from napari_sam_lora.model.input_size import mask_stride
from napari_sam_lora.model.predictor import decode_prompts
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.text import Caution
from napari_sam_lora.training.data.augmentation import View, choose_views, show, show_prompts
from napari_sam_lora.training.data.background_clicks import BackgroundClicks
from napari_sam_lora.training.data.samples import ObjectRef, Plane
from napari_sam_lora.training.data.simulated_user import corrective_clicks, first_prompts, with_click
from napari_sam_lora.training.data.size_thirds import balanced_shares
from napari_sam_lora.training.dense.loop import DenseTrainer, crop_side
from napari_sam_lora.training.dense.views import DenseViews
from napari_sam_lora.training.losses import MaskLoss, background_loss, mask_targets
from napari_sam_lora.training.memory import MemoryFallback, free_memory
from napari_sam_lora.training.prefix_cache import PrefixCache

# A run may go back to its last good state this often, each time with the learning rate times this factor.
MOST_SETBACKS = 3
SETBACK_FACTOR = 0.3
# The dense head sees the view of the mask decoder at every so many steps, besides its own crops at every step.
SHARED_EVERY = 2


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


@dataclass(frozen=True, eq=False)
class State:
    """Tensors of the adapter, and of its dense head if one is trained, after a step."""

    step: int
    tensors: dict[str, Tensor]
    dense: dict[str, Tensor] | None = None


def lora_config(sam: Sam, config: TrainConfig) -> LoRAConfig:
    """Return the layers that a run changes."""
    return LoRAConfig(
        blocks=tuned_blocks(sam, config.mode, config.late_blocks) if config.blocks is None else config.blocks,
        rank=config.rank,
        alpha=float(config.rank if config.alpha is None else config.alpha),
        targets=config.targets,
        tune_decoder=config.tune_decoder,
        dropout=config.dropout,
    )


def prefix_cache(sam: Sam, config: TrainConfig) -> PrefixCache:
    """Make an empty cache for the frozen part of the encoder in a run."""
    split = encoder_split(sam, lora_config(sam, config))
    return PrefixCache(sam, split, config.cache_bytes, config.half_cache, config.cache_disk_bytes)


class Trainer:
    """Training of an adapter on objects, one step at a time; the base model is never changed.

    Parameters
    ----------
    sam : Sam
        The base model; its frozen tensors are shared.
    planes : sequence of Plane
    objects : sequence of ObjectRef
        Training objects.
    config : TrainConfig
    cache : PrefixCache, optional
        For the same base model and settings; shared by runs over the same planes.
    fallback : MemoryFallback, optional
        Settings that decide the use of memory; shared by runs over the same planes.
    head : DenseHead, optional
        The dense head to start from; it is copied.
    classes : sequence of int
        Classes that the dense head learns, in the order of its channels.

    Attributes
    ----------
    dense : DenseTrainer, optional
        The dense head's part; None where it is not trained, because no background is known.
    warnings : list of Caution
        Memory that ran out, and a loss that was not finite.
    """

    def __init__(
        self,
        sam: Sam,
        planes: Sequence[Plane],
        objects: Sequence[ObjectRef],
        config: TrainConfig,
        cache: PrefixCache | None = None,
        fallback: MemoryFallback | None = None,
        head: DenseHead | None = None,
        classes: Sequence[int] = (),
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
        self.cache = prefix_cache(sam, config) if cache is None else cache  # an empty one is false
        self.fallback = fallback or MemoryFallback(config)
        self.warnings: list[Caution] = []
        self._labels: dict[int, NDArray[np.int64]] = {}
        for ref in objects:
            labels = self._labels.get(ref.plane, np.empty(0, np.int64))
            self._labels[ref.plane] = np.append(labels, ref.label)
        self._shares = balanced_shares(planes, objects)
        self._background = BackgroundClicks(planes)
        self.dense = self._new_dense(head, classes)
        self.parameters = adapter_parameters(self.tree)
        self.optimizer = self._new_optimizer()
        self.loss = MaskLoss()
        self.done = 0
        self._good = self._copies()
        self._setbacks = 0
        self._views = [view for plane in self._labels for view in choose_views(plane, config.views, self.rng)]

    def step(self) -> StepResult:
        """Do one step on some objects of one view.

        If the loss is not finite, the run goes back to the parameters of the last good loss and continues with a
        lower learning rate; if memory runs out, it continues with less. `warnings` then says so.

        Raises
        ------
        TrainingError
            If neither helps; the parameters are those of the last good loss.
        """
        while True:
            drawn = self.rng.bit_generator.state
            try:
                result = self._try_step()
            except (RuntimeError, MemoryError, OSError) as error:
                if not is_out_of_memory(error):
                    raise
                spared = self.fallback.lower(self.cache)
                if spared is None:
                    raise TrainingError(
                        "There is not enough memory for a single object. Train at a smaller input size, with fewer "
                        "late_blocks, or in decoder mode.",
                        code="not-enough-memory",
                    ) from error
                self.warnings.append(Caution(f"Memory ran out; training goes on {spared}.", spared.code))
                self.rng.bit_generator.state = drawn  # the same view and objects again
                result = None
            if result is not None:
                return result
            self.optimizer.zero_grad(set_to_none=True)
            free_memory()

    def _try_step(self) -> StepResult | None:
        """Do a step, and return None if its loss was not finite."""
        rate = self._rate() * SETBACK_FACTOR**self._setbacks
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        view = self._views[self.rng.integers(len(self._views))]
        prepared, shown = show(view, self.planes)
        labels = self._draw_labels(view.plane)
        given = [show_prompts(view, self.planes, int(label)) for label in labels]
        with self._seeded_dropout():
            loss = self.backward(view, prepared, shown[None] == labels[:, None, None], given)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0))
        if self.dense is not None:
            norm += float(torch.nn.utils.clip_grad_norm_(self.dense.parameters.values(), 1.0))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._set_back()
            return None
        self._good = self._copies()
        self.optimizer.step()
        self.done += 1
        return StepResult(loss, rate, len(labels))

    def _set_back(self) -> None:
        """Return to the last good parameters, with a lower learning rate."""
        with torch.no_grad():
            for name, value in self._every_parameter().items():
                value.copy_(self._good[name])
        self.optimizer = self._new_optimizer()
        if self._setbacks == MOST_SETBACKS:
            raise TrainingError(
                f"The loss was not a number {MOST_SETBACKS + 1} times, even with lower learning rates. Train again "
                f"with a much lower learning rate than {self.config.learning_rate:g}, and check the images for damage.",
                code="loss-not-finite",
            )
        self._setbacks += 1
        factor = SETBACK_FACTOR**self._setbacks
        message = (
            f"The loss was not a number after step {self.done}; training goes on from the last good state with "
            f"{factor:.2g} of the learning rate."
        )
        self.warnings.append(Caution(message, "loss-not-finite"))

    def _new_optimizer(self) -> torch.optim.Optimizer:
        rate = self.config.learning_rate
        groups = [{"params": list(self.parameters.values()), "lr": rate, "factor": 1.0}]
        if self.dense is not None:
            factor = self.config.dense_learning_rate / rate
            groups.append({"params": list(self.dense.parameters.values()), "lr": rate * factor, "factor": factor})
        return torch.optim.AdamW(groups, weight_decay=self.config.weight_decay)

    def _new_dense(self, head: DenseHead | None, classes: Sequence[int]) -> DenseTrainer | None:
        """Make the dense head's part of the run, if it is wanted and there is something to learn."""
        if not self.config.dense:
            return None
        learned = {plane: ids.tolist() for plane, ids in self._labels.items()}
        views = DenseViews(self.planes, learned, crop_side(self.tree), classes)
        if views.has_background:
            return DenseTrainer(self.tree, views, self.config, self.split, head)
        if classes:
            message = (
                "Classes are not learned, because no background is known: mark planes that are labelled completely."
            )
            self.warnings.append(Caution(message, "classes-not-learned"))
        return None

    def _every_parameter(self) -> dict[str, nn.Parameter]:
        """Return the adapter's parameters and those of the dense head."""
        if self.dense is None:
            return self.parameters
        return self.parameters | {f"dense_head.{name}": value for name, value in self.dense.parameters.items()}

    def _copies(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self._every_parameter().items()}

    def begin_at(self, tensors: dict[str, Tensor]) -> None:
        """Start from the tensors of an adapter with the same layers; call it before the first step."""
        set_adapter(self.tree, tensors)
        self._good = self._copies()

    def backward(
        self, view: View, prepared: Prepared, masks: NDArray[np.bool_], given: Sequence[Prompts | None] = ()
    ) -> float:
        """Compute the gradients of one view, and return the mean loss of its objects.

        Objects are decoded in chunks that back-propagate into a detached embedding; one backward pass through the
        encoder's suffix follows.
        """
        self.optimizer.zero_grad(set_to_none=True)
        held = self.cache.get(view, prepared)
        embedding = suffix(self.tree.image_encoder, held, self.split, self.fallback.recompute)
        leaf = embedding.detach().requires_grad_(embedding.requires_grad)
        total = 0.0
        for start in range(0, len(masks), self.fallback.chunk):
            part = slice(start, start + self.fallback.chunk)
            loss, rounds = self._chunk_loss(leaf, prepared, masks[part], given[part])
            loss = loss / (rounds * len(masks))
            loss.backward()
            total += loss.item()
        total += self._background_backward(leaf, view, prepared, 1 / len(masks))
        if self.dense is not None and self.done % SHARED_EVERY == 0:
            shared = self.dense.shared_loss(leaf, view, prepared)
            shared.backward()
            total += shared.item()
        if leaf.grad is not None:
            embedding.backward(leaf.grad)
        if self.dense is not None:
            total += self.dense.crops_backward(self.fallback.recompute)
        return total

    def _background_backward(self, embedding: Tensor, view: View, prepared: Prepared, weight: float) -> float:
        """Compute the gradients of a few clicks on known background, if there is any; return their weighted loss."""
        clicks = self._background.draw(view, self.rng)
        if clicks is None:
            return 0.0
        _, scores = decode_prompts(self.tree, embedding, prepared, clicks)
        loss = weight * background_loss(scores)
        loss.backward()
        return loss.item()

    def tensors(self) -> dict[str, Tensor]:
        """Copy the adapter's tensors, or the last good ones if a parameter is not finite any more."""
        values = self._last_good()
        return {name: values[name].detach().cpu().clone() for name in self.parameters}

    def dense_tensors(self) -> dict[str, Tensor] | None:
        """Copy the dense head's tensors likewise; None where it is not trained."""
        if self.dense is None:
            return None
        values = self._last_good()
        return {name: values[f"dense_head.{name}"].detach().cpu().clone() for name in self.dense.parameters}

    def state(self) -> State:
        """Copy the adapter as it is now."""
        return State(self.done, self.tensors(), self.dense_tensors())

    def _last_good(self) -> Mapping[str, Tensor]:
        """Return all parameters, or the last good ones if they are not finite any more."""
        values = self._every_parameter()
        return self._good if any(not torch.isfinite(value).all() for value in values.values()) else values

    def _chunk_loss(
        self, embedding: Tensor, prepared: Prepared, masks: NDArray[np.bool_], given: Sequence[Prompts | None] = ()
    ) -> tuple[Tensor, int]:
        """Return the summed loss of all prompting rounds of some objects, and the number of rounds."""
        groups = first_prompts(masks, self.config.box_share, self.rng, self.config.mask_share, given)
        corrections = int(self.rng.integers(self.config.corrections + 1))
        total = embedding.new_zeros(())
        for prompts, rows in groups:
            total = total + self._rounds_loss(embedding, prepared, prompts, masks[rows], corrections)
        return total, 1 + corrections

    def _rounds_loss(
        self, embedding: Tensor, prepared: Prepared, prompts: Prompts, masks: NDArray[np.bool_], corrections: int
    ) -> Tensor:
        target = mask_targets(masks, prepared.input_size, self.stride).to(embedding.device)
        total = embedding.new_zeros(())
        for number in range(1 + corrections):
            logits, scores = decode_prompts(self.tree, embedding, prepared, prompts)
            ambiguous = prompts.is_lone_point(0)
            total = total + self.loss(logits, scores, target, ambiguous)
            if number < corrections:
                best = 1 + scores[:, 1:].argmax(1) if ambiguous else torch.zeros_like(scores[:, 0], dtype=torch.long)
                shown = logits.detach()[torch.arange(len(best), device=best.device), best]
                if not torch.isfinite(shown).all():  # no mask to correct; the step will be undone
                    return total * math.nan
                found = self.tree.postprocess_masks(shown[:, None], prepared.resized_shape, prepared.shape)
                clicks = corrective_clicks((found[:, 0] > 0).cpu().numpy(), masks, self.rng)
                prompts = with_click(prompts, clicks, shown.cpu().numpy())
        return total

    @contextmanager
    def _seeded_dropout(self) -> Iterator[None]:
        """Use the same dropout in every run with the same seed, without changing torch's own generator."""
        if self.config.dropout == 0:
            yield
            return
        device = self.tree.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self.config.seed + self.done)
            yield

    def _draw_labels(self, plane: int) -> NDArray[np.int64]:
        labels = self._labels[plane]
        count = min(self.fallback.objects, len(labels))
        return self.rng.choice(labels, count, replace=False, p=self._shares[plane])

    def _rate(self) -> float:
        warmup = max(1, round(self.config.warmup * self.config.steps))
        if self.done < warmup:
            return self.config.learning_rate * (self.done + 1) / warmup
        passed = (self.done - warmup) / max(1, self.config.steps - warmup)
        return self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * passed))

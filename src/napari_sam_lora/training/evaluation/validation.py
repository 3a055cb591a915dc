"""Validate on some held-out objects during a run, cheaply enough for a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import Sam
from torch import Tensor

from napari_sam_lora.images import Prepared
from napari_sam_lora.labels import click_at_centre
from napari_sam_lora.lora.layers import LowRank
from napari_sam_lora.model.encoder import suffix
from napari_sam_lora.model.input_size import mask_stride
from napari_sam_lora.model.predictor import decode_prompts
from napari_sam_lora.overlap import mask_iou
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.training.data.augmentation import View, show
from napari_sam_lora.training.data.leakage import drop_leaking_objects
from napari_sam_lora.training.data.samples import ObjectRef, Plane
from napari_sam_lora.training.data.split import FEWEST_HELD_OUT
from napari_sam_lora.training.losses import mask_targets
from napari_sam_lora.training.memory import AdaptiveChunks
from napari_sam_lora.training.prefix_cache import PrefixCache

MAX_VALIDATION_OBJECTS = 16
MAX_VALIDATION_PLANES = 3


def split_held_out(
    objects: Sequence[ObjectRef], planes: Sequence[Plane] = ()
) -> tuple[tuple[ObjectRef, ...], tuple[ObjectRef, ...], bool]:
    """Divide held-out objects into those for validation during the run and those for the verdict at its end.

    If validation chooses the best state, the verdict needs other objects, which do not overlap them on other planes of
    the same stack. Where there are too few for that, the same objects serve for both, and no state may be chosen.

    Parameters
    ----------
    objects : sequence of ObjectRef
    planes : sequence of Plane
        Planes of the objects; needed where they are planes of a stack.

    Returns
    -------
    validation, verdict : tuple of ObjectRef
    separate : bool
        They are different objects, so that validation may choose the best state.
    """
    if len(objects) < 2 * FEWEST_HELD_OUT:
        return tuple(objects), tuple(objects), False
    first = list(dict.fromkeys(ref.plane for ref in objects))[:MAX_VALIDATION_PLANES]
    on_first = [ref for ref in objects if ref.plane in first]
    count = min(MAX_VALIDATION_OBJECTS, len(objects) // 3, len(on_first))
    chosen = {on_first[index] for index in np.linspace(0, len(on_first) - 1, count).round().astype(int)}
    validation = tuple(ref for ref in objects if ref in chosen)
    verdict = drop_leaking_objects([ref for ref in objects if ref not in chosen], validation, planes)
    if len(verdict) < FEWEST_HELD_OUT:
        return tuple(objects), tuple(objects), False
    return validation, verdict, True


class Validator:
    """Measurement of the mean IoU of some held-out objects, prompted by their box and by a click at their centre.

    Cheaper and coarser than `score_objects`: it uses cached prefixes and the resolution of the decoder.

    Parameters
    ----------
    planes : sequence of Plane
    objects : sequence of ObjectRef
        At most `MAX_VALIDATION_OBJECTS` on `MAX_VALIDATION_PLANES` planes are used.
    cache : PrefixCache
    chunks : AdaptiveChunks, optional
        Objects that are decoded at once; fewer if memory runs out.
    """

    def __init__(
        self,
        planes: Sequence[Plane],
        objects: Sequence[ObjectRef],
        cache: PrefixCache,
        chunks: AdaptiveChunks | None = None,
    ) -> None:
        self._planes, self._cache = planes, cache
        self._chunks = chunks or AdaptiveChunks((cache.shrink,))
        self._labels: dict[int, list[int]] = {}
        for ref in objects[:MAX_VALIDATION_OBJECTS]:
            if ref.plane in self._labels or len(self._labels) < MAX_VALIDATION_PLANES:
                self._labels.setdefault(ref.plane, []).append(ref.label)

    @torch.no_grad()
    def measure(self, tree: Sam) -> float:
        """Return the mean IoU over objects, and over box and click.

        Raises
        ------
        RuntimeError, MemoryError
            If there is not enough memory for a single object; see `is_out_of_memory`.
        """
        ious: list[float] = []
        with _without_dropout(tree):
            for index, labels in self._labels.items():
                ious += self._chunks.map(partial(self._measure_in_plane, tree, index), labels)
        return float(np.mean(ious))

    def _measure_in_plane(self, tree: Sam, index: int, labels: Sequence[int]) -> list[float]:
        """Return the IoU of objects of a plane, by box and by click."""
        view = View(index)
        prepared, shown = show(view, self._planes)
        masks = shown[None] == np.array(labels)[:, None, None]
        embedding = suffix(tree.image_encoder, self._cache.get(view, prepared), self._cache.split)
        return torch.cat(_iou_by_box_and_click(tree, embedding, prepared, masks)).tolist()


def _iou_by_box_and_click(tree: Sam, embedding: Tensor, prepared: Prepared, masks: NDArray[np.bool_]) -> list[Tensor]:
    """Return the IoU (n,) of the masks by box and by click."""
    target = mask_targets(masks, prepared.input_size, mask_stride(tree)).to(embedding.device)
    boxes = [(*np.argwhere(mask).min(0), *(np.argwhere(mask).max(0) + 1)) for mask in masks]
    by_box, _ = decode_prompts(tree, embedding, prepared, Prompts(boxes=boxes))
    clicks = Prompts(points=[[click_at_centre(mask)] for mask in masks])
    by_click, scores = decode_prompts(tree, embedding, prepared, clicks)
    best = 1 + scores[:, 1:].argmax(1)
    rows = torch.arange(len(best), device=best.device)
    return [mask_iou(masks > 0, target > 0.5)[:, 0] for masks in (by_box[:, :1], by_click[rows, best][:, None])]


@contextmanager
def _without_dropout(tree: Sam) -> Iterator[None]:
    training = [module for module in tree.modules() if isinstance(module, LowRank) and module.training]
    for module in training:
        module.eval()
    try:
        yield
    finally:
        for module in training:
            module.train()

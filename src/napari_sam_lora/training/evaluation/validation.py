"""A look at some held-out objects while a run goes on, cheap enough for a CPU."""

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
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.training.data.augmentation import View, show
from napari_sam_lora.training.data.leakage import drop_leaking_objects
from napari_sam_lora.training.data.samples import ObjectRef, Plane
from napari_sam_lora.training.data.split import FEWEST_HELD_OUT
from napari_sam_lora.training.losses import mask_iou, mask_targets
from napari_sam_lora.training.memory import ChunkSizes
from napari_sam_lora.training.prefix_cache import PrefixCache

MOST_WATCHED = 16
MOST_PLANES = 3


def divide(
    objects: Sequence[ObjectRef], planes: Sequence[Plane] = ()
) -> tuple[tuple[ObjectRef, ...], tuple[ObjectRef, ...], bool]:
    """Choose the held-out objects that are watched and those by which the adapter is judged.

    A state that was chosen because it does well on some objects must be judged by others, which do not lie beside them
    on other planes of the same stack. Where there are too few for that, the same objects are watched and judged, and no
    state may be chosen by them.

    Parameters
    ----------
    objects : sequence of ObjectRef
    planes : sequence of Plane
        Of the objects; needed where they are planes of a stack.

    Returns
    -------
    watched, judged : tuple of ObjectRef
    apart : bool
        Whether they are different objects.
    """
    if len(objects) < 2 * FEWEST_HELD_OUT:
        return tuple(objects), tuple(objects), False
    first = list(dict.fromkeys(ref.plane for ref in objects))[:MOST_PLANES]
    near = [ref for ref in objects if ref.plane in first]
    count = min(MOST_WATCHED, len(objects) // 3, len(near))
    chosen = {near[place] for place in np.linspace(0, len(near) - 1, count).round().astype(int)}
    watched = tuple(ref for ref in objects if ref in chosen)
    judged = drop_leaking_objects([ref for ref in objects if ref not in chosen], watched, planes)
    if len(judged) < FEWEST_HELD_OUT:
        return tuple(objects), tuple(objects), False
    return watched, judged, True


class Validator:
    """Mean IoU of some held-out objects, prompted once by their box and once by a click at their centre.

    Cheaper and coarser than `score_objects`: it runs over cached prefixes, at the resolution of the decoder.

    Parameters
    ----------
    planes : sequence of Plane
    objects : sequence of ObjectRef
        Those on more than `MOST_PLANES` planes or beyond `MOST_WATCHED` are left out.
    cache : PrefixCache
    portions : ChunkSizes, optional
        How many objects are decoded at once; where memory runs out, fewer are.
    """

    def __init__(
        self,
        planes: Sequence[Plane],
        objects: Sequence[ObjectRef],
        cache: PrefixCache,
        chunk_sizes: ChunkSizes | None = None,
    ) -> None:
        self._planes, self._cache = planes, cache
        self._chunk_sizes = chunk_sizes or ChunkSizes((cache.shrink,))
        self._labels: dict[int, list[int]] = {}
        for ref in objects[:MOST_WATCHED]:
            if ref.plane in self._labels or len(self._labels) < MOST_PLANES:
                self._labels.setdefault(ref.plane, []).append(ref.label)

    @torch.no_grad()
    def measure(self, tree: Sam) -> float:
        """Mean over objects, and over box and click.

        Raises
        ------
        RuntimeError, MemoryError
            If there is not enough memory for a single object; see `is_out_of_memory`.
        """
        found: list[float] = []
        with _without_dropout(tree):
            for index, labels in self._labels.items():
                found += self._chunk_sizes.collect(labels, partial(self._look, tree, index))
        return float(np.mean(found))

    def _look(self, tree: Sam, index: int, labels: Sequence[int]) -> list[float]:
        """IoU of some objects of a plane, by box and by click."""
        view = View(index)
        prepared, shown = show(view, self._planes)
        masks = shown[None] == np.array(labels)[:, None, None]
        embedding = suffix(tree.image_encoder, self._cache.get(view, prepared), self._cache.split)
        return torch.cat(_both(tree, embedding, prepared, masks)).tolist()


def _both(tree: Sam, embedding: Tensor, prepared: Prepared, masks: NDArray[np.bool_]) -> list[Tensor]:
    """IoU (n,) by box and by click."""
    target = mask_targets(masks, prepared.input_size, mask_stride(tree)).to(embedding.device)
    boxes = [(*np.argwhere(mask).min(0), *(np.argwhere(mask).max(0) + 1)) for mask in masks]
    by_box, _ = decode_prompts(tree, embedding, prepared, Prompts(boxes=boxes))
    clicks = Prompts(points=[[click_at_centre(mask)] for mask in masks])
    by_click, scores = decode_prompts(tree, embedding, prepared, clicks)
    best = 1 + scores[:, 1:].argmax(1)
    rows = torch.arange(len(best), device=best.device)
    return [mask_iou(by_box[:, :1], target)[:, 0], mask_iou(by_click[rows, best][:, None], target)[:, 0]]


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

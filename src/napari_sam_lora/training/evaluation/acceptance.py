"""Decide whether an adapter is accepted: it must be better than the base model on objects that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import is_out_of_memory
from napari_sam_lora.images import Preprocessing
from napari_sam_lora.lora.adapted import predictor_for
from napari_sam_lora.lora.adapter import Adapter
from napari_sam_lora.model.checkpoints import LoadedModel
from napari_sam_lora.model.embeddings import EmbeddingCache
from napari_sam_lora.text import pluralize
from napari_sam_lora.training.data.samples import ObjectRef, Plane
from napari_sam_lora.training.data.split import FEWEST_OBJECTS
from napari_sam_lora.training.evaluation.found import FoundPair, compare_found
from napari_sam_lora.training.evaluation.metrics import ObjectScore, score_objects
from napari_sam_lora.training.memory import AdaptiveChunks

# A smaller mean gain counts as none: it cannot be seen in masks, and other held-out objects could turn its sign.
LEAST_GAIN = 0.002
# Objects found without prompts are a gain if its interval of so many standard errors (95 %) excludes 0.
CERTAIN = 1.96
MOST_JUDGED = 60  # on as few planes as hold them, because each plane is encoded twice

Verdict = Literal["better", "not better", "too few"]
Pairs = tuple[list[ObjectScore], list[ObjectScore]]


@dataclass(frozen=True)
class Decision:
    """A verdict with its reason.

    Attributes
    ----------
    verdict : str
        "better", "not better" or "too few".
    reason : str
        In plain words, with the figures.
    code : str
        The reason in a few words with hyphens, for programs and tests: "gain", "boxes-worse", "clicks-worse",
        "found-worse", "no-gain", "gain-too-small", "too-few-objects" or "not-enough-memory".
    """

    verdict: Verdict
    reason: str
    code: str


class Judge:
    """Comparison of adapters of one run with the base model.

    If memory runs out, fewer objects are decoded at once and embeddings are not kept. If that is not enough, the
    adapter is kept without a verdict.

    Parameters
    ----------
    loaded : LoadedModel
    planes : sequence of Plane
    preprocessing : Preprocessing
    chunks : AdaptiveChunks
    embeddings : EmbeddingCache

    Attributes
    ----------
    failed : bool
        Memory was not enough for a comparison.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        planes: Sequence[Plane],
        preprocessing: Preprocessing,
        chunks: AdaptiveChunks,
        embeddings: EmbeddingCache,
    ) -> None:
        self._loaded, self._planes, self._preprocessing = loaded, planes, preprocessing
        self._chunks, self._embeddings = chunks, embeddings
        self.failed = False

    def compare(self, adapter: Adapter, held_out: Sequence[ObjectRef]) -> Pairs:
        """Score the base model and an adapter on held-out objects; empty lists if memory is not enough."""
        objects = spread_objects(held_out)
        if not objects:
            return [], []
        base = predictor_for(self._loaded, cache=self._embeddings, preprocessing=self._preprocessing)
        adapted = predictor_for(self._loaded, adapter, cache=self._embeddings)
        try:
            before = score_objects(base, self._planes, objects, chunks=self._chunks)
            return before, score_objects(adapted, self._planes, objects, chunks=self._chunks)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        self.failed = True
        return [], []

    def compare_found(self, adapter: Adapter, held_out: Sequence[ObjectRef]) -> FoundPair | None:
        """Compare what base model and adapter find without prompts.

        Returns None if the adapter has no dense head, or if memory is not enough.
        """
        if adapter.dense is None or not held_out:
            return None
        base, adapted = None, predictor_for(self._loaded, adapter, cache=self._embeddings)
        if self._loaded.dense is not None:
            base = predictor_for(self._loaded, cache=self._embeddings, preprocessing=self._preprocessing)
        try:
            return compare_found(base, adapted, self._planes, held_out)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        return None

    def decide(
        self, base: Sequence[ObjectScore], adapted: Sequence[ObjectScore], found: FoundPair | None = None
    ) -> Decision:
        """Decide on the results of `compare` and `compare_found`; see `decide`."""
        if self.failed and not base:
            return Decision(
                "too few",
                "There was not enough memory to compare the adapter with the base model on held-out objects. Look at "
                "its results yourself before you use it, or train at a smaller input size.",
                "not-enough-memory",
            )
        return decide(base, adapted, found)


def decide(base: Sequence[ObjectScore], adapted: Sequence[ObjectScore], found: FoundPair | None = None) -> Decision:
    """Compare base and adapted model object by object.

    "better" needs a mean gain of `LEAST_GAIN` over boxes and clicks together, or a gain in objects found without
    prompts whose 95 % interval over the objects excludes none. None of the three may lose more than the standard
    error of its difference.

    Parameters
    ----------
    base, adapted : sequence of ObjectScore
        The same held-out objects in the same order.
    found : FoundPair, optional
        What both models find of them without prompts, where the adapter has a dense head.
    """
    if len(base) < FEWEST_OBJECTS:
        return Decision(
            "too few",
            f"Only {pluralize(len(base), 'labelled object')} could be held out to check the adapter. "
            f"Label at least {FEWEST_OBJECTS}, better 20, to know whether it helps.",
            "too-few-objects",
        )
    box_gain, click_gain = (_differences(base, adapted, name) for name in ("box_iou", "click_iou"))
    figures = f"{box_gain.mean():+.3f} IoU with boxes, {click_gain.mean():+.3f} IoU with first clicks"
    found_gain, found_error = (np.nan, np.nan) if found is None else (found.gain, found.standard_error)
    if np.isfinite(found_gain):
        figures += f", {found_gain:+.3f} ± {CERTAIN * found_error:.3f} average precision without prompts"
    objects = f"On {len(base)} held-out objects"
    losses = (
        (_is_loss(box_gain), "masks from boxes got worse", "boxes-worse"),
        (_is_loss(click_gain), "masks from first clicks got worse", "clicks-worse"),
        (found_gain < -found_error, "fewer are found without prompts", "found-worse"),
    )
    for is_loss, loss, code in losses:
        if is_loss:
            return Decision("not better", f"{objects}, {loss}: {figures}.", code)
    mean = np.mean([box_gain, click_gain])
    if found_gain > CERTAIN * found_error or mean >= LEAST_GAIN:
        return Decision("better", f"{objects}: {figures}.", "gain")
    if mean <= 0:
        return Decision("not better", f"{objects}, nothing was gained: {figures}.", "no-gain")
    return Decision("not better", f"{objects}, the gain is too small to matter: {figures}.", "gain-too-small")


def spread_objects(objects: Sequence[ObjectRef], most: int = MOST_JUDGED) -> tuple[ObjectRef, ...]:
    """Choose at most this many objects, spread over few planes that are far apart and over each of them."""
    planes = list(dict.fromkeys(ref.plane for ref in objects))
    chosen = set(planes[:: max(1, min(len(objects) // most, len(planes)))])
    on_chosen = [ref for ref in objects if ref.plane in chosen]
    indices = np.linspace(0, len(on_chosen) - 1, min(most, len(on_chosen))).round().astype(int)
    return tuple(on_chosen[index] for index in indices)


def _differences(base: Sequence[ObjectScore], adapted: Sequence[ObjectScore], name: str) -> NDArray[np.float64]:
    """Return the gain of each object."""
    return np.array([getattr(b, name) - getattr(a, name) for a, b in zip(base, adapted, strict=True)])


def _is_loss(gain: NDArray[np.float64]) -> bool:
    """Return whether the mean loss is larger than its standard error."""
    return bool(gain.mean() < -gain.std(ddof=1) / np.sqrt(len(gain)))

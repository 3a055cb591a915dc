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
from napari_sam_lora.training.data.size_thirds import THIRDS, size_thirds
from napari_sam_lora.training.data.split import FEWEST_OBJECTS
from napari_sam_lora.training.evaluation.evidence import CHANCE, Gain
from napari_sam_lora.training.evaluation.found import FoundPair, compare_found
from napari_sam_lora.training.evaluation.metrics import ObjectScore, score_objects
from napari_sam_lora.training.memory import AdaptiveChunks

# A smaller mean gain or loss in IoU counts as none: in an object of 200 pixels it is one pixel.
LEAST_CHANGE = 0.005
# Larger losses count even if they may be chance: in IoU with prompts, and in average precision without.
LARGE_LOSS, LARGE_LOSS_OF_FOUND = 0.05, 0.1
FEWEST_IN_THIRD = 5
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
        "found-worse", "boxes-worse-large-objects" and the like, "no-gain", "gain-uncertain", "gain-too-small",
        "too-few-objects" or "not-enough-memory".
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

    "better" needs a gain that is not chance (see `Gain`): of at least `LEAST_CHANGE` in IoU over boxes and first clicks
    together, or in objects found without prompts. And none of the three may have a loss that is not chance, or that
    is large; nor may boxes or first clicks on small, middle or large objects.

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
    box_gains, click_gains = (_differences(base, adapted, name) for name in ("box_iou", "click_iou"))
    boxes, clicks, both = Gain.of(box_gains), Gain.of(click_gains), Gain.of((box_gains + click_gains) / 2)
    parts = [
        _Part("masks from boxes", "boxes-worse", boxes, LEAST_CHANGE, LARGE_LOSS),
        _Part("masks from first clicks", "clicks-worse", clicks, LEAST_CHANGE, LARGE_LOSS),
    ]
    figures = f"{boxes} IoU with boxes, {clicks} IoU with first clicks"
    without_prompts = Gain(np.nan, np.nan, len(base))
    if found is not None and np.isfinite(found.gain):
        without_prompts = Gain(found.gain, found.standard_error, len(found.adapted_objects))
        parts.append(_Part("objects found without prompts", "found-worse", without_prompts, 0.0, LARGE_LOSS_OF_FOUND))
        figures += f", {without_prompts} average precision without prompts"
    objects = f"On {len(base)} held-out objects"
    loss = next((part for part in parts if part.is_loss), None) or _loss_in_third(base, box_gains, click_gains)
    if loss is not None:
        return Decision("not better", f"{objects}, {loss.name} got worse: {figures}.", loss.code)
    if without_prompts.is_certain or (both.is_certain and both.mean >= LEAST_CHANGE):
        return Decision("better", f"{objects}: {figures}.{_uncertain_losses(parts)}", "gain")
    if both.mean >= LEAST_CHANGE or without_prompts.mean > 0:
        maybe = "the gain may be chance, and more labels can tell"
        return Decision("not better", f"{objects}, {maybe}: {figures}.", "gain-uncertain")
    if both.mean <= 0:
        return Decision("not better", f"{objects}, nothing was gained: {figures}.", "no-gain")
    return Decision("not better", f"{objects}, the gain is too small to matter: {figures}.", "gain-too-small")


@dataclass(frozen=True)
class _Part:
    """A part of what a model is used for, and its gain.

    Attributes
    ----------
    name : str
        For the user.
    code : str
        Of a verdict against the adapter because of this part.
    gain : Gain
    least, large : float
        Losses below ``least`` do not count, those above ``large`` count even if they may be chance.
    """

    name: str
    code: str
    gain: Gain
    least: float
    large: float

    @property
    def is_loss(self) -> bool:
        """Return whether the loss speaks against the adapter."""
        return self.gain.is_certain_loss(self.least) or self.gain.is_large_loss(self.large)


def _loss_in_third(
    scores: Sequence[ObjectScore], box_gains: NDArray[np.float64], click_gains: NDArray[np.float64]
) -> _Part | None:
    """Return boxes or clicks on small, middle or large objects if they got worse for sure, which a mean may hide.

    Chance has as much room in the three thirds together as in one mean.
    """
    areas = [score.area for score in scores if score.area is not None]
    if len(areas) < len(scores):
        return None
    thirds = size_thirds(areas)
    if np.bincount(thirds, minlength=len(THIRDS)).min() < FEWEST_IN_THIRD:
        return None
    for name, code, gains in (("masks from boxes", "boxes", box_gains), ("first clicks", "clicks", click_gains)):
        for number, size in enumerate(THIRDS):
            gain = Gain.of(gains[thirds == number])
            if gain.is_certain_loss(LEAST_CHANGE, CHANCE / len(THIRDS)):
                said = f"{name} on {size} objects ({gain.mean:+.3f})"
                return _Part(said, f"{code}-worse-{size}-objects", gain, LEAST_CHANGE, LARGE_LOSS)
    return None


def _uncertain_losses(parts: Sequence[_Part]) -> str:
    """Say which parts have a loss that is too uncertain to count, in a sentence of its own; empty if there are none."""
    names = [part.name for part in parts if part.gain.mean <= -max(part.least, 0.001)]
    if not names:
        return ""
    said = " and ".join(names)
    return f" {said[0].upper()}{said[1:]} seem worse, but this may be chance."


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

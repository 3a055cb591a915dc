"""Do no harm: is the adapted model better than the base on objects that it has not seen?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.images import Preprocessing
from napari_sam_lora.lora.adapted import predictor_for
from napari_sam_lora.lora.adapter import Adapter
from napari_sam_lora.model.checkpoints import LoadedModel
from napari_sam_lora.model.embeddings import EmbeddingCache
from napari_sam_lora.training.data.samples import ObjectRef, Plane
from napari_sam_lora.training.data.split import FEWEST_OBJECTS
from napari_sam_lora.training.evaluation.found import FoundPair, compare_found
from napari_sam_lora.training.evaluation.metrics import ObjectScore, score_objects
from napari_sam_lora.training.memory import ChunkSizes, is_out_of_memory

# A smaller mean gain is none: it cannot be seen in masks, and another choice of held-out objects could turn its sign.
LEAST_GAIN = 0.002
Verdict = Literal["better", "not better", "too few"]


@dataclass(frozen=True)
class Decision:
    """A verdict and its reason in plain words."""

    verdict: Verdict
    reason: str


def decide(base: Sequence[ObjectScore], adapted: Sequence[ObjectScore], found: FoundPair | None = None) -> Decision:
    """Compare base and adapted model object by object.

    "better" needs a mean gain of `LEAST_GAIN` over boxes and clicks together, or a gain in objects found without
    prompts of more than its standard error. None of the three may lose by more than the standard error of its
    difference.

    Parameters
    ----------
    base, adapted : sequence of ObjectScore
        The same held-out objects in the same order.
    found : FoundPair, optional
        What both find of them without prompts, where both have a dense head.
    """
    if len(base) < FEWEST_OBJECTS:
        return Decision(
            "too few",
            f"Only {len(base)} labelled object{'s' * (len(base) != 1)} could be held out to check the adapter; "
            f"label at least {FEWEST_OBJECTS}, better 20, to know whether it helps.",
        )
    gains = {
        "boxes": _difference(base, adapted, "box_iou"),
        "first clicks": _difference(base, adapted, "click_iou"),
    }
    shown = ", ".join(f"{gain.mean():+.3f} IoU with {name}" for name, gain in gains.items())
    difference, error = (found.gain, found.standard_error) if found is not None else (np.nan, np.nan)
    if np.isfinite(difference):
        shown += f", {difference:+.3f} average precision without prompts"
    for name, gain in gains.items():
        if gain.mean() < -_standard_error(gain):
            return Decision("not better", f"On {len(base)} held-out objects {name} got worse: {shown}.")
    if difference < -error:
        return Decision("not better", f"On {len(base)} held-out objects fewer are found without prompts: {shown}.")
    mean = np.mean(list(gains.values()))
    if mean < LEAST_GAIN and not difference > error:
        gained = "nothing was gained" if mean <= 0 else "the gain is too small to matter"
        return Decision("not better", f"On {len(base)} held-out objects {gained}: {shown}.")
    return Decision("better", f"On {len(base)} held-out objects: {shown}.")


def _difference(base: Sequence[ObjectScore], adapted: Sequence[ObjectScore], name: str) -> NDArray[np.float64]:
    return np.array([getattr(b, name) - getattr(a, name) for a, b in zip(base, adapted, strict=True)])


def _standard_error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


MOST_JUDGED = 60  # on as few planes as hold them, because each is encoded twice
Pairs = tuple[list[ObjectScore], list[ObjectScore]]


class Judge:
    """Scores of the base model and of adapters of one run.

    Where memory runs out, fewer objects are decoded at once and embeddings are not kept. If that is not enough, the
    adapter is not judged, but not lost either.

    Parameters
    ----------
    loaded : LoadedModel
    planes : sequence of Plane
    preprocessing : Preprocessing
    portions : ChunkSizes
    embeddings : EmbeddingCache
    """

    def __init__(
        self,
        loaded: LoadedModel,
        planes: Sequence[Plane],
        preprocessing: Preprocessing,
        chunk_sizes: ChunkSizes,
        embeddings: EmbeddingCache,
    ) -> None:
        self._loaded, self._planes, self._preprocessing = loaded, planes, preprocessing
        self._chunk_sizes, self._embeddings = chunk_sizes, embeddings
        self.failed = False

    def compare(self, adapter: Adapter, held_out: Sequence[ObjectRef]) -> Pairs:
        """Scores of the base model and of an adapter; none if there is not enough memory."""
        objects = pick(held_out)
        if not objects:
            return [], []
        base = predictor_for(self._loaded, cache=self._embeddings, preprocessing=self._preprocessing)
        adapted = predictor_for(self._loaded, adapter, cache=self._embeddings)
        try:
            before = score_objects(base, self._planes, objects, chunk_sizes=self._chunk_sizes)
            return before, score_objects(adapted, self._planes, objects, chunk_sizes=self._chunk_sizes)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        self.failed = True
        return [], []

    def compare_found(self, adapter: Adapter, held_out: Sequence[ObjectRef]) -> FoundPair | None:
        """What base model and adapter find without prompts; None without a dense head, or if memory runs out."""
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
        """The verdict on what `compare` found; there is none if memory ran out."""
        if self.failed and not base:
            return Decision(
                "too few",
                "There was not enough memory to compare the adapter with the base model on held-out objects: look at "
                "its results yourself before you use it, or train at a smaller input size.",
            )
        return decide(base, adapted, found)


def pick(objects: Sequence[ObjectRef], most: int = MOST_JUDGED) -> tuple[ObjectRef, ...]:
    """At most so many objects, from planes far apart and from all over them."""
    planes = list(dict.fromkeys(ref.plane for ref in objects))
    chosen = set(planes[:: max(1, min(len(objects) // most, len(planes)))])
    kept = [ref for ref in objects if ref.plane in chosen]
    places = np.linspace(0, len(kept) - 1, min(most, len(kept))).round().astype(int)
    return tuple(kept[place] for place in places)

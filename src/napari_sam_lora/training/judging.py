"""Base model and adapter on held-out objects, within the memory that there is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_sam_lora.images import Preprocessing
from napari_sam_lora.lora.adapted import predictor_for
from napari_sam_lora.lora.adapter import Adapter
from napari_sam_lora.model.checkpoints import LoadedModel
from napari_sam_lora.model.embeddings import EmbeddingCache
from napari_sam_lora.training.gate import Decision, decide
from napari_sam_lora.training.memory import Portions, is_out_of_memory
from napari_sam_lora.training.metrics import ObjectScore, score_objects
from napari_sam_lora.training.samples import ObjectRef, Plane

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
    portions : Portions
    embeddings : EmbeddingCache
    """

    def __init__(
        self,
        loaded: LoadedModel,
        planes: Sequence[Plane],
        preprocessing: Preprocessing,
        portions: Portions,
        embeddings: EmbeddingCache,
    ) -> None:
        self._loaded, self._planes, self._preprocessing = loaded, planes, preprocessing
        self._portions, self._embeddings = portions, embeddings
        self.failed = False

    def compare(self, adapter: Adapter, held_out: Sequence[ObjectRef]) -> Pairs:
        """Scores of the base model and of an adapter; none if there is not enough memory."""
        objects = pick(held_out)
        if not objects:
            return [], []
        base = predictor_for(self._loaded, cache=self._embeddings, preprocessing=self._preprocessing)
        adapted = predictor_for(self._loaded, adapter, cache=self._embeddings)
        try:
            before = score_objects(base, self._planes, objects, portions=self._portions)
            return before, score_objects(adapted, self._planes, objects, portions=self._portions)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        self.failed = True
        return [], []

    def decide(self, base: Sequence[ObjectScore], adapted: Sequence[ObjectScore]) -> Decision:
        """The verdict on what `compare` found; there is none if memory ran out."""
        if self.failed and not base:
            return Decision(
                "too few",
                "There was not enough memory to compare the adapter with the base model on held-out objects: look at "
                "its results yourself before you use it, or train at a smaller input size.",
            )
        return decide(base, adapted)


def pick(objects: Sequence[ObjectRef], most: int = MOST_JUDGED) -> tuple[ObjectRef, ...]:
    """At most so many objects, from planes far apart and from all over them."""
    planes = list(dict.fromkeys(ref.plane for ref in objects))
    chosen = set(planes[:: max(1, min(len(objects) // most, len(planes)))])
    kept = [ref for ref in objects if ref.plane in chosen]
    places = np.linspace(0, len(kept) - 1, min(most, len(kept))).round().astype(int)
    return tuple(kept[place] for place in places)

"""Make predictors of a loaded model, with or without an adapter."""

from __future__ import annotations

from napari_sam_lora.images import Preprocessing
from napari_sam_lora.lora.adapter import Adapter
from napari_sam_lora.model.checkpoints import LoadedModel
from napari_sam_lora.model.embeddings import EmbeddingCache
from napari_sam_lora.model.predictor import Predictor


def predictor_for(
    loaded: LoadedModel,
    adapter: Adapter | None = None,
    *,
    cache: EmbeddingCache | None = None,
    preprocessing: Preprocessing | None = None,
) -> Predictor:
    """Make a predictor of the base model, with an adapter if one is passed.

    Parameters
    ----------
    loaded : LoadedModel
        Not changed; its frozen tensors are shared.
    adapter : Adapter, optional
    cache : EmbeddingCache, optional
        Shared with other predictors.
    preprocessing : Preprocessing, optional
        For the base model; an adapter has its own, the one that it was trained with.

    Raises
    ------
    AdapterError
        If the adapter belongs to another base model.
    """
    cache = EmbeddingCache() if cache is None else cache  # an empty one is false
    if adapter is None:
        return Predictor(loaded.sam, loaded.weights_hash, preprocessing or Preprocessing(), cache, loaded.dense)
    tree = adapter.apply(loaded.sam, loaded.name, loaded.weights_hash)
    key = f"{loaded.weights_hash}+{adapter.encoder_key}" if adapter.encoder_key else loaded.weights_hash
    if adapter.dense is not None:
        adapter.dense.head.to(tree.device)
        return Predictor(tree, key, adapter.info.preprocessing, cache, adapter.dense)
    base = None
    if adapter.encoder_key and loaded.dense is not None:  # the base's head reads the base's embeddings only
        base = predictor_for(loaded, cache=cache, preprocessing=adapter.info.preprocessing)
    return Predictor(tree, key, adapter.info.preprocessing, cache, loaded.dense, base)

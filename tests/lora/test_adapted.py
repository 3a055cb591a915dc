"""Predictors of one base model share what they can: tensors and embeddings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora import Adapter, Model, Preprocessing, Prompts
from napari_sam_lora.errors import AdapterError
from napari_sam_lora.lora.adapted import predictor_for
from napari_sam_lora.lora.adapter import AdapterInfo
from napari_sam_lora.lora.inject import LoRAConfig, adapter_parameters, attach
from napari_sam_lora.model.embeddings import EmbeddingCache

BOX = Prompts(boxes=[[40, 60, 70, 95]])


def _adapter(model: Model, blocks: tuple[int, ...], preprocessing: Preprocessing | None = None) -> Adapter:
    config = LoRAConfig(blocks, rank=2)
    parameters = adapter_parameters(attach(model.loaded.sam, config))
    tensors = {name: torch.randn_like(value) * 0.1 for name, value in parameters.items()}
    info = AdapterInfo(model.name, model.loaded.weights_hash, config, "late", 256, preprocessing or Preprocessing())
    return Adapter(tensors, info)


@pytest.fixture
def encoder_runs(nano: Model) -> Iterator[list[int]]:
    """One entry for each time that the first block of the encoder runs, in the base or in an adapted tree."""
    runs: list[int] = []
    block = nano.loaded.sam.image_encoder.blocks[0]
    handle = block.register_forward_hook(lambda *_: runs.append(1))
    yield runs  # trees made meanwhile copy the hook
    handle.remove()


def test_a_decoder_adapter_reuses_embeddings(
    nano: Model, nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]], encoder_runs: list[int]
) -> None:
    cache = EmbeddingCache()
    base = predictor_for(nano.loaded, cache=cache)
    adapted = predictor_for(nano.loaded, _adapter(nano, ()), cache=cache)
    embedding = base.encode(nuclei[0])
    assert len(encoder_runs) == 1
    assert adapted.encode(nuclei[0]) is embedding
    before, after = base.segment(embedding, BOX), adapted.segment(embedding, BOX)
    assert len(encoder_runs) == 1
    assert len(cache) == 1
    assert not np.array_equal(before.logits, after.logits)


def test_a_late_adapter_encodes_once_and_switching_back_costs_nothing(
    nano: Model, nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]], encoder_runs: list[int]
) -> None:
    cache = EmbeddingCache()
    base = predictor_for(nano.loaded, cache=cache)
    adapted = predictor_for(nano.loaded, _adapter(nano, (4, 5)), cache=cache)
    embedding = base.encode(nuclei[0])
    first = base.segment(embedding, BOX)
    # the embedding of the base is not used for the adapted encoder
    changed = adapted.segment(embedding, BOX)
    assert len(encoder_runs) == 2
    assert np.array_equal(changed.logits, adapted.segment(adapted.encode(nuclei[0]), BOX).logits)
    assert np.array_equal(first.logits, base.segment(base.encode(nuclei[0]), BOX).logits)
    assert len(encoder_runs) == 2
    assert len(cache) == 2
    assert not np.array_equal(first.logits, changed.logits)


def test_two_late_adapters_do_not_share_embeddings(
    nano: Model, nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    cache = EmbeddingCache()
    first, second = (predictor_for(nano.loaded, _adapter(nano, (5,)), cache=cache) for _ in range(2))
    assert not torch.equal(first.encode(nuclei[0]).tensor, second.encode(nuclei[0]).tensor)


def test_an_adapter_brings_its_own_preprocessing(nano: Model) -> None:
    window = Preprocessing(window=(0.0, 100.0))
    other = Preprocessing(percentiles=(1.0, 99.0))
    assert predictor_for(nano.loaded, preprocessing=other).preprocessing == other
    assert predictor_for(nano.loaded, _adapter(nano, (), window), preprocessing=other).preprocessing == window


def test_an_adapter_of_another_base_gets_no_predictor(nano: Model) -> None:
    adapter = _adapter(nano, ())
    foreign = Adapter(adapter.tensors, AdapterInfo("vit_b", "0" * 32, adapter.info.lora, "decoder", 256))
    with raises(AdapterError, "other-base-model", match="vit_b"):
        predictor_for(nano.loaded, foreign)

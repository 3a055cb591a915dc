"""Embeddings in memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_sam_lora import Model
from napari_sam_lora.images import Prepared, prepare
from napari_sam_lora.model.embeddings import DEFAULT_BUDGET, EmbeddingCache

BYTES = 4 * 100  # of one embedding below


def _plane(value: int) -> Prepared:
    return prepare(np.full((4, 6, 3), value, np.uint8), 16)


class _Encoder:
    """Makes embeddings of `BYTES` bytes and counts them."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self) -> Tensor:
        self.runs += 1
        return torch.full((1, 1, 10, 10), float(self.runs))


@pytest.fixture
def encoder() -> _Encoder:
    return _Encoder()


def test_the_same_pixels_and_weights_are_encoded_once(encoder: _Encoder) -> None:
    cache = EmbeddingCache()
    first = cache.get(_plane(1), "weights", encoder)
    again = cache.get(_plane(1), "weights", encoder)  # equal pixels in another array
    assert again is first
    assert encoder.runs == len(cache) == 1
    assert first.shape == (4, 6)
    assert first.weights_key == "weights"
    assert float(first.tensor.mean()) == 1


@pytest.mark.parametrize(
    ("other", "weights"),
    [
        (_plane(2), "weights"),
        (_plane(1), "other weights"),
        (Prepared(_plane(1).pixels, (8, 12), 16), "weights"),
        (Prepared(_plane(1).pixels, (4, 6), 32), "weights"),
    ],
    ids=["pixels", "weights", "shape", "input size"],
)
def test_anything_else_is_encoded_on_its_own(encoder: _Encoder, other: Prepared, weights: str) -> None:
    cache = EmbeddingCache()
    first = cache.get(_plane(1), "weights", encoder)
    second = cache.get(other, weights, encoder)
    assert second is not first
    assert (second.prepared, second.weights_key) == (other, weights)
    assert encoder.runs == len(cache) == 2
    assert cache.get(_plane(1), "weights", encoder) is first  # going back finds it
    assert encoder.runs == 2


def test_the_least_recently_used_embedding_is_dropped_first(encoder: _Encoder) -> None:
    cache = EmbeddingCache(budget=3 * BYTES)
    for value in (1, 2, 3):
        cache.get(_plane(value), "w", encoder)
    cache.get(_plane(1), "w", encoder)  # now 2 is the oldest
    cache.get(_plane(4), "w", encoder)
    assert len(cache) == 3
    assert encoder.runs == 4
    for value in (1, 3, 4):
        cache.get(_plane(value), "w", encoder)
    assert encoder.runs == 4
    cache.get(_plane(2), "w", encoder)
    assert encoder.runs == 5


@pytest.mark.parametrize(("budget", "held"), [(0, 1), (BYTES - 1, 1), (2 * BYTES - 1, 1), (2 * BYTES, 2)])
def test_the_budget_holds_but_the_newest_embedding_is_always_kept(encoder: _Encoder, budget: int, held: int) -> None:
    cache = EmbeddingCache(budget)
    for value in range(4):
        newest = cache.get(_plane(value), "w", encoder)
    assert len(cache) == held
    assert cache.get(_plane(3), "w", encoder) is newest
    assert encoder.runs == 4


def test_embeddings_of_vit_at_full_size_fit_a_hundred_times() -> None:
    assert EmbeddingCache().budget == DEFAULT_BUDGET >= 100 * 4 * 256 * 64 * 64


def test_clearing_forgets_everything(encoder: _Encoder) -> None:
    cache = EmbeddingCache()
    before = cache.get(_plane(1), "w", encoder)
    cache.clear()
    assert len(cache) == 0
    assert cache.get(_plane(1), "w", encoder) is not before
    assert encoder.runs == 2


def test_an_encoder_that_fails_leaves_nothing_behind(encoder: _Encoder) -> None:
    cache = EmbeddingCache()

    def broken() -> Tensor:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        cache.get(_plane(1), "w", broken)
    assert len(cache) == 0
    assert float(cache.get(_plane(1), "w", encoder).tensor.mean()) == 1


def test_threads_share_a_cache() -> None:
    cache, planes = EmbeddingCache(budget=3 * BYTES), [_plane(value) for value in range(6)]
    start = Barrier(8)

    def encode_as(value: int) -> Callable[[], Tensor]:
        return lambda: torch.full((1, 1, 10, 10), float(value))

    def work(seed: int) -> bool:
        start.wait(timeout=60)
        right = True
        for value in np.random.default_rng(seed).integers(0, 6, 300).tolist():
            right &= float(cache.get(planes[value], "w", encode_as(value)).tensor[0, 0, 0, 0]) == value
        return right

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert 1 <= len(cache) <= 3


def test_a_models_plane_is_encoded_once(nano: Model) -> None:
    plane = np.random.default_rng(3).integers(0, 255, (30, 40), np.uint8)
    first = nano.encode(plane)
    assert nano.encode(plane.copy()) is first
    plane[0, 0] ^= 255
    assert nano.encode(plane) is not first

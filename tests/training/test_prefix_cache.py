"""Prefixes are kept in memory, then on disk, and nothing is left behind."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_sam_lora import Model, Preprocessing, TrainConfig, load_model
from napari_sam_lora.training.data.augmentation import View, show
from napari_sam_lora.training.data.samples import Plane, snapshot
from napari_sam_lora.training.data.split import list_objects
from napari_sam_lora.training.loop import Trainer
from napari_sam_lora.training.prefix_cache import PrefixCache

HALF_PREFIX = 2 * 256 * 16 * 16  # bytes of one prefix of the small model in half precision


@pytest.fixture(scope="module")
def small() -> Model:
    return load_model("sam_nano", device="cpu", input_size=128)


@pytest.fixture
def planes(nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> tuple[Plane, ...]:
    image, labels = nuclei
    return snapshot([(image[:128, :128], labels[:128, :128])], 128, 2, Preprocessing())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which temporary folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def _trainer(model: Model, planes: tuple[Plane, ...], cache: PrefixCache, **settings: Any) -> Trainer:
    config = TrainConfig(**{"steps": 20, "half_cache": False} | settings)
    return Trainer(model.loaded.sam, planes, list_objects(planes), config, cache)


@pytest.mark.parametrize(("half", "bytes_a_number"), [(True, 2), (False, 4)])
@pytest.mark.parametrize("split", [4, 7])
def test_a_cache_without_memory_gives_the_same_prefixes(
    small: Model, planes: tuple[Plane, ...], half: bool, bytes_a_number: int, split: int
) -> None:
    view = View(0, 3)
    prepared, _ = show(view, planes)
    roomy, none = (PrefixCache(small.loaded.sam, split, budget, half) for budget in (1 << 30, 0))
    made = [cache.get(view, prepared) for cache in (roomy, roomy, none, none)]
    assert made[0].shape == ((1, 16, 16, 256) if split == 4 else (1, 256, 16, 16))
    assert made[0].dtype == torch.float32
    assert all(torch.equal(made[0], other) for other in made[1:])
    assert (len(roomy), len(none)) == (1, 0)
    assert roomy.size == 256 * 16 * 16 * bytes_a_number
    assert none.size == 0


def test_half_precision_prefixes_are_close(small: Model, planes: tuple[Plane, ...]) -> None:
    prepared, _ = show(View(0), planes)
    half, full = (PrefixCache(small.loaded.sam, 4, 1 << 30, flag).get(View(0), prepared) for flag in (True, False))
    torch.testing.assert_close(half, full, rtol=1e-3, atol=1e-3)


def test_a_given_cache_is_used(small: Model, planes: tuple[Plane, ...]) -> None:
    cache = PrefixCache(small.loaded.sam, 4, 1 << 30, True)
    _trainer(small, planes, views=1, objects=1, cache=cache).step()
    assert len(cache) == 1
    _trainer(small, planes, views=1, objects=1, cache=cache).step()
    assert len(cache) == 1


def test_what_does_not_fit_in_memory_goes_to_disk_and_what_fits_nowhere_is_made_again(
    small: Model, planes: tuple[Plane, ...], folder: Path
) -> None:
    views = [View(0, turn) for turn in range(5)]
    cache = PrefixCache(small.loaded.sam, 4, 2 * HALF_PREFIX, True, disk_budget=2 * HALF_PREFIX)
    roomy = PrefixCache(small.loaded.sam, 4, 1 << 30, True)
    made = [cache.get(view, show(view, planes)[0]) for view in views]
    assert len(cache) == 4
    assert (cache.size, cache.disk_size) == (2 * HALF_PREFIX, 2 * HALF_PREFIX)
    assert len(list(folder.rglob("*.npy"))) == 2
    for view, first in zip(views, made, strict=True):
        prepared = show(view, planes)[0]
        assert torch.equal(first, cache.get(view, prepared))
        assert torch.equal(first, roomy.get(view, prepared))


def test_the_folder_is_removed_by_closing_and_by_dropping(
    small: Model, planes: tuple[Plane, ...], folder: Path
) -> None:
    prepared = show(View(0), planes)[0]
    cache = PrefixCache(small.loaded.sam, 4, 0, True, disk_budget=1 << 30)
    first = cache.get(View(0), prepared)
    assert list(folder.iterdir())
    cache.close()
    assert not list(folder.iterdir())
    assert len(cache) == 0
    assert torch.equal(cache.get(View(0), prepared), first)  # it can be used again
    assert list(folder.iterdir())
    del cache
    gc.collect()
    assert not list(folder.iterdir())


def test_a_disk_that_cannot_be_written_is_done_without(
    small: Model, planes: tuple[Plane, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    cache = PrefixCache(small.loaded.sam, 4, 0, True, disk_budget=1 << 30)
    prepared = show(View(0), planes)[0]
    assert torch.equal(cache.get(View(0), prepared), cache.get(View(0), prepared))
    assert len(cache) == 0


def test_a_shrunk_cache_moves_to_disk(small: Model, planes: tuple[Plane, ...], folder: Path) -> None:
    cache = PrefixCache(small.loaded.sam, 4, 1 << 30, True, disk_budget=1 << 30)
    prepared = show(View(0), planes)[0]
    first = cache.get(View(0), prepared)
    assert cache.shrink()
    assert (cache.size, cache.budget, len(cache)) == (0, 0, 1)
    assert torch.equal(cache.get(View(0), prepared), first)
    assert not cache.shrink()
    assert list(folder.iterdir())

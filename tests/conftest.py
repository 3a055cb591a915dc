"""Fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_sam_lora import Model, load_model
from napari_sam_lora.io.samples import nuclei_pair


@pytest.fixture(scope="session")
def nano() -> Model:
    """The bundled model; do not activate an adapter on it without putting it back."""
    return load_model("sam_nano", device="cpu")


@pytest.fixture(scope="session")
def nuclei() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A real image of nuclei and its labels, uint8 (256, 256) each."""
    return nuclei_pair(5)


@pytest.fixture(autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache and settings."""
    monkeypatch.setenv("NAPARI_SAM_LORA_CONFIG", str(tmp_path_factory.mktemp("config")))
    monkeypatch.setenv("NAPARI_SAM_LORA_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Random weights in tests are the same in every run, and leave torch's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield

"""Fixtures: a small model, an adapter, and a session that is closed after the test."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_sam_lora import Adapter, Model, load_model
from napari_sam_lora.lora.adapter import AdapterInfo
from napari_sam_lora.lora.inject import LoRAConfig, adapter_parameters, attach
from napari_sam_lora.session import ArraySource, ArrayStore, Session

from .helpers import SOON


@pytest.fixture(scope="session")
def small() -> Model:
    """Load the bundled model at a small input size."""
    return load_model("sam_nano", device="cpu", input_size=128)


@pytest.fixture(scope="session")
def adapter(small: Model) -> Adapter:
    """Make an adapter that changes the masks of the model."""
    config = LoRAConfig((4, 5), rank=2)
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(value.shape, generator=generator) * 0.1
        for name, value in adapter_parameters(attach(small.loaded.sam, config)).items()
    }
    training = {"images": 1, "objects_trained_on": 7}
    info = AdapterInfo(small.name, small.loaded.weights_hash, config, "late", 128, training=training)
    return Adapter(tensors, info)


@pytest.fixture
def session(small: Model, nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> Iterator[Session]:
    """Open a session with a real image "nuclei" and empty labels "cells"."""
    made = Session(small)
    made.add_image("nuclei", ArraySource(nuclei[0]))
    made.labels.add("cells", ArrayStore(np.zeros(nuclei[0].shape, np.int32)))
    yield made
    assert made.close(SOON)

"""Going on from an adapter instead of the base model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora import Adapter, Model, TrainConfig, fine_tune, load_model
from napari_sam_lora.errors import AdapterError

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
FAST = TrainConfig(mode="decoder", steps=1, objects=1, views=1, corrections=0, validation_share=0.0, rank=2)


@pytest.fixture(scope="module")
def small() -> Model:
    return load_model("sam_nano", device="cpu", input_size=128)


@pytest.fixture(scope="module")
def first(small: Model, nuclei: Pair) -> Adapter:
    return fine_tune(small, [nuclei], replace(FAST, steps=3, learning_rate=1e-2))[0]


def test_a_run_goes_on_where_the_adapter_was(small: Model, nuclei: Pair, first: Adapter) -> None:
    slow = replace(FAST, learning_rate=1e-12, rank=8, weight_decay=0.0)
    second, _ = fine_tune(small, [nuclei], slow, start=first)
    assert second.info.lora == first.info.lora, "the layers are the adapter's, whatever the settings say"
    for name, value in first.tensors.items():
        assert torch.allclose(second.tensors[name], value, atol=1e-9), name


def test_the_adapter_that_was_begun_with_is_not_changed(small: Model, nuclei: Pair, first: Adapter) -> None:
    before = first.key
    second, _ = fine_tune(small, [nuclei], replace(FAST, learning_rate=1e-2), start=first)
    assert first.key == before != second.key


def test_what_the_adapter_was_judged_by_stays_held_out(small: Model, nuclei: Pair, first: Adapter) -> None:
    config = replace(FAST, validation_share=0.2)
    judged, report = fine_tune(small, [nuclei], config)
    assert report.held_out
    _, again = fine_tune(small, [nuclei], replace(config, validation_share=0.05), start=judged)
    assert set(report.held_out) <= set(again.held_out)


def test_an_adapter_of_another_base_is_refused(small: Model, nuclei: Pair, first: Adapter) -> None:
    foreign = Adapter(first.tensors, replace(first.info, base_hash="0" * 16, base_name="vit_b"))
    with raises(AdapterError, "other-base-model", match="vit_b.*sam_nano.*vit_b"):
        fine_tune(small, [nuclei], FAST, start=foreign)

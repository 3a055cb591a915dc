"""The dense head that comes with sam_nano."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora import Model, evaluate_everything, load_model
from napari_sam_lora.errors import CheckpointError
from napari_sam_lora.io.samples import nuclei_pair
from napari_sam_lora.model.dense.dense_model import read_dense_model
from napari_sam_lora.model.registry import MODELS


def test_sam_nano_finds_nuclei_without_prompts_and_without_training(nano: Model) -> None:
    (found,) = evaluate_everything(nano, [nuclei_pair(number) for number in (5, 6, 7)])
    assert found.average_precision > 0.5


def test_a_plane_takes_no_longer_than_its_encoding_by_much(
    nano: Model, nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    assert nano.loaded.dense is not None
    size = sum(value.numel() for value in nano.loaded.dense.head.parameters())
    assert 2 * size < 2 * 10**6
    assert not any(value.requires_grad for value in nano.loaded.dense.head.parameters())
    assert nano.maps(nuclei[0]).shape == (2, 256, 256)


def test_empty_planes_hold_nothing(nano: Model) -> None:
    for value in (0, 255):
        assert nano.segment_everything(np.full((100, 120), value, np.uint8)).max() == 0


def test_a_head_with_another_hash_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = "xxh128:" + "0" * 32
    place = "napari_sam_lora.model.checkpoints.read_dense_model"
    monkeypatch.setattr(place, lambda path, digest: read_dense_model(path, wrong))
    with raises(CheckpointError, "wrong-hash"):
        load_model("sam_nano", device="cpu")


def test_a_checkpoint_from_a_path_has_no_head(nano: Model, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(nano.loaded.sam.state_dict(), path)
    assert load_model(path, device="cpu").loaded.dense is None
    assert MODELS["vit_b"].head_asset is None

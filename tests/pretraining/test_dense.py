"""The training of the dense head on scenes and images."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from napari_sam_lora import Model
from napari_sam_lora.model.dense.dense_model import read_dense_model
from napari_sam_lora.model.dense.head import new_dense_head
from pretraining import dense
from pretraining.data import draw_scenes
from pretraining.dense import Example, Run, Scenes, make_crop, read_images, validate


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    draw_scenes(folder, 4, 1)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A gray image and a coloured one, which is not square."""
    for name, shape in (("fluo_1.png", (80, 80)), ("stain_1.png", (70, 90, 3))):
        for kind in ("images", "labels"):
            (tmp_path / kind).mkdir(exist_ok=True)
        labels = np.zeros(shape[:2], np.uint16)
        labels[20:40, 20:50] = 5
        pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / name)
        Image.fromarray(labels).save(tmp_path / "labels" / name)
    return tmp_path


def test_crops_show_pixels_and_targets_at_the_same_place(scenes: Path) -> None:
    labels = Scenes(scenes, 0)[0].labels
    pixels = np.repeat(np.where(labels > 0, 255, 0).astype(np.uint8)[..., None], 3, -1)
    targets = np.stack([pixels[..., 0]] * 2)
    rng = np.random.default_rng(0)
    for _ in range(6):
        shown, wanted = make_crop(Example(pixels, targets, labels), 64, rng)
        assert shown.shape == (3, 64, 64)
        assert wanted.shape == (2, 64, 64)
        inside, outside = shown[0][wanted[0] == 1], shown[0][wanted[0] == 0]
        if len(inside) and len(outside):  # noise and contrast change the values, inversion their order
            assert abs(float(inside.mean() - outside.mean())) > 30


def test_images_come_with_their_kind_and_as_rgb(images: Path) -> None:
    gray, coloured = read_images(images)
    assert [gray.kind, coloured.kind] == ["fluo", "stain"]
    assert gray.pixels.shape == (80, 80, 3)
    assert coloured.pixels.shape == (70, 90, 3)
    assert gray.targets[0, 30, 30] == 255
    assert set(np.unique(coloured.labels)) == {0, 5}


def test_a_step_changes_the_head_and_not_the_model(nano: Model, scenes: Path, images: Path) -> None:
    sam, head = nano.loaded.sam, new_dense_head(nano.loaded.sam)
    before = {name: value.clone() for name, value in sam.state_dict().items()}
    first = {name: value.clone() for name, value in head.state_dict().items()}
    run = Run(sam, head, Scenes(scenes, 0), list(read_images(images)), 0.5, 1e-3)
    assert np.isfinite([run.train_step(0.0), run.train_step(0.5)]).all()
    assert all(torch.equal(before[name], value) for name, value in sam.state_dict().items())
    assert not all(torch.equal(first[name], value) for name, value in head.state_dict().items())
    assert 0 <= validate(sam, head, [Scenes(scenes, 0)[0], *read_images(images)]) <= 1


def test_the_command_writes_a_head_that_can_be_gone_on_from(
    scenes: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "HELD_OUT_SCENES", 1)
    monkeypatch.setattr(dense, "VALIDATION", 1)
    for name, more in (("a", []), ("b", ["--start", str(tmp_path / "a.safetensors"), "--images", str(images)])):
        target = tmp_path / f"{name}.safetensors"
        monkeypatch.setattr(sys, "argv", ["dense", str(scenes), str(target), "--minutes", "0.005", *more])
        dense.main()
        assert read_dense_model(target).head.config.tokens == 128

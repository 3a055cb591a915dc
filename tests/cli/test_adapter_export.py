"""Cards and ONNX files of adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from napari_sam_lora import Model
from napari_sam_lora.io.adapter_card import card
from napari_sam_lora.lora.adapter import Adapter, AdapterInfo
from napari_sam_lora.lora.inject import LoRAConfig, adapter_parameters, attach

from .conftest import Run, plane

METRICS = {
    "verdict": "better",
    "reason": "On 12 held-out objects: +0.034 IoU with boxes.",
    "base": {"box_iou": 0.8144, "count": 12},
    "adapted": {"box_iou": 0.8483, "count": 12},
}


@pytest.fixture
def adapter(nano: Model) -> Adapter:
    config = LoRAConfig((4, 5), 2, 2.0)
    tensors = {
        name: value.detach().clone() for name, value in adapter_parameters(attach(nano.loaded.sam, config)).items()
    }
    told = {"images": 3, "objects_trained_on": 55, "steps": 200, "learning_rate": 1e-3, "held_out": ["a" * 32]}
    info = AdapterInfo("sam_nano", nano.loaded.weights_hash, config, "late", 64, training=told, metrics=METRICS)
    return Adapter(tensors, info)


def test_a_card_says_what_a_person_must_know(adapter: Adapter) -> None:
    text = card(adapter, "nuclei", "nuclei.png")
    assert text.startswith("# nuclei\n")
    for words in (
        "![Before and after](nuclei.png)",
        "rank 2, encoder blocks 4 to 5",
        "Small general model",
        "BSD-3-Clause",
        adapter.info.base_hash,
        "input size 64 pixels",
        "percentiles (0.1, 99.9)",
        "55 objects in 3 images",
        "| IoU with a box | 0.8144 | 0.8483 |",
        "Verdict: better. On 12 held-out objects",
        "learning rate: 0.001",
        '--adapter "nuclei.safetensors"',
    ):
        assert words in text, words
    assert "a" * 32 not in text


def test_a_card_and_its_picture_lie_beside_the_adapter(adapter: Adapter, tmp_path: Path, run: Run) -> None:
    path = adapter.save(tmp_path / "nuclei.safetensors")
    pixels, labels = plane(1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(labels).save(tmp_path / "b.png")
    ended = run("adapter", "card", path, "--image", tmp_path / "a.png", "--labels", tmp_path / "b.png")
    assert (ended.code, ended.err) == (0, "")
    assert "(nuclei.png)" in (tmp_path / "nuclei.md").read_text("utf-8")
    with Image.open(tmp_path / "nuclei.png") as picture:
        assert picture.width > picture.height
    again = run("adapter", "card", path)
    assert again.code == 1
    assert "exist" in again.message


def test_a_picture_needs_image_and_labels(adapter: Adapter, tmp_path: Path, run: Run) -> None:
    path = adapter.save(tmp_path / "nuclei.safetensors")
    assert "--labels" in run("adapter", "card", path, "--image", path).message


def test_an_adapted_encoder_is_written_as_onnx(adapter: Adapter, tmp_path: Path, run: Run) -> None:
    pytest.importorskip("onnx", reason="ONNX files are written with the extra onnx")
    path = adapter.save(tmp_path / "nuclei.safetensors")
    ended = run("adapter", "onnx", path, "--output", tmp_path / "out", "--parts", "encoder")
    assert (ended.code, ended.err) == (0, "")
    assert "nuclei_encoder.onnx: encoder" in ended.out
    assert (tmp_path / "out" / "nuclei_encoder.onnx").stat().st_size > 1e5

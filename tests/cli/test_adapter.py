"""The adapter command: describe, import, merge, cards and ONNX files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from napari_sam_lora import Adapter, Model, Prompts, load_model
from napari_sam_lora.io.adapters.card import card
from napari_sam_lora.lora.adapter import AdapterInfo
from napari_sam_lora.lora.inject import LoRAConfig, adapter_parameters, attach

from .conftest import Run, plane

METRICS = {
    "verdict": "better",
    "reason": "On 12 held-out objects: +0.034 IoU with boxes.",
    "base": {"box_iou": 0.8144, "count": 12},
    "adapted": {"box_iou": 0.8483, "count": 12},
}


def _sam_lora_file(path: Path, blocks: int = 6) -> Path:
    tensors = {}
    for number in range(2 * blocks):
        tensors[f"w_a_{number:03d}"] = torch.randn(2, 128)
        tensors[f"w_b_{number:03d}"] = torch.randn(128, 2)
    save_file(tensors, path)
    return path


def test_an_adapter_says_what_it_is(adapter_file: Path, run: Run) -> None:
    result = run("adapter", "info", adapter_file)
    assert result.code == 0
    for line in ("base_name: sam_nano", "  rank: 4", "input_size: 64", "mode: late", "  verdict: too few"):
        assert f"\n{line}\n" in f"\n{result.out}"
    described = json.loads(run("adapter", "info", adapter_file, "--json").out)
    assert described["lora"]["rank"] == 4
    assert described["bytes"] == adapter_file.stat().st_size
    assert described["base_hash"] == Adapter.load(adapter_file).info.base_hash


def test_an_adapter_of_sam_lora_is_imported(tmp_path: Path, run: Run) -> None:
    source = _sam_lora_file(tmp_path / "lora_rank2.safetensors")
    out = tmp_path / "mine.safetensors"
    result = run("adapter", "import", source, "--model", "sam_nano", "--output", out)
    assert result.code == 0
    assert "rank 2 in 6 encoder blocks of sam_nano" in result.out
    assert Adapter.load(out).info.lora.rank == 2

    some = _sam_lora_file(tmp_path / "some.safetensors", blocks=2)
    result = run("adapter", "import", some, "--model", "sam_nano", "--output", tmp_path / "some_mine.safetensors")
    assert (result.code, result.error_code) == (1, "unknown-blocks")
    assert "2 of the 6" in result.message
    command = ("adapter", "import", some, "--model", "sam_nano", "--output", out, "--blocks", "1", "4")
    assert run(*command).error_code == "file-exists"
    assert Adapter.load(out).info.lora.blocks == (0, 1, 2, 3, 4, 5)
    assert run(*command, "--overwrite").code == 0
    assert Adapter.load(out).info.lora.blocks == (1, 4)


@pytest.mark.parametrize("name", ["merged.pth", "merged.safetensors"])
def test_a_merged_checkpoint_segments_as_base_and_adapter_do(name: str, tmp_path: Path, run: Run) -> None:
    source = _sam_lora_file(tmp_path / "theirs.safetensors")
    adapter, merged = tmp_path / "mine.safetensors", tmp_path / name
    assert run("adapter", "import", source, "--model", "sam_nano", "--output", adapter).code == 0
    assert run("adapter", "merge", adapter, "--output", merged).code == 0
    plain, adapted = load_model(merged, "cpu"), load_model("sam_nano", "cpu")
    adapted.activate(Adapter.load(adapter))
    image, prompts = plane(1)[0], Prompts(points=[[[16, 16]]])
    results = [model.segment(model.encode(image), prompts) for model in (plain, adapted)]
    np.testing.assert_allclose(results[0].logits, results[1].logits, rtol=1e-3, atol=1e-3)


def test_an_adapter_of_another_input_size_is_merged_at_the_models_own(
    adapter_file: Path, tmp_path: Path, run: Run
) -> None:
    result = run("adapter", "merge", adapter_file, "--output", tmp_path / "merged.pth")
    assert result.code == 0
    assert "warning: the adapter was trained at an input size of 64" in result.err
    assert load_model(tmp_path / "merged.pth", "cpu").predictor.input_size == 256


@pytest.mark.parametrize(
    ("arguments", "error_code", "name"),
    [
        (["info", "none.safetensors"], "adapter-not-found", "none.safetensors"),
        (["info", "theirs.safetensors"], "not-an-adapter", "theirs.safetensors"),
        (["info", "text.safetensors"], "adapter-file-damaged", "text.safetensors"),
        (
            ["import", "none.safetensors", "--model", "sam_nano", "--output", "a.safetensors"],
            "adapter-not-found",
            "none.safetensors",
        ),
        (["import", "theirs.safetensors", "--model", "vit", "--output", "a.safetensors"], "model-not-found", "'vit'"),
        (
            ["import", "theirs.safetensors", "--model", "sam_nano", "--output", "a.pth"],
            "wrong-file-ending",
            ".safetensors",
        ),
        (
            ["import", "theirs.safetensors", "--model", "sam_nano", "--output", "theirs.safetensors", "--overwrite"],
            "output-is-input",
            "theirs.safetensors",
        ),
        (["merge", "theirs.safetensors", "--output", "a.pth"], "not-an-adapter", "theirs.safetensors"),
        (["merge", "theirs.safetensors", "--output", "a.onnx"], "wrong-file-ending", ".pth or .pt or .safetensors"),
        (
            ["merge", "theirs.safetensors", "--output", "text.safetensors/a.pth"],
            "output-below-file",
            "text.safetensors",
        ),
    ],
)
def test_misuse_is_reported_in_one_line(
    arguments: list[str], error_code: str, name: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _sam_lora_file(Path("theirs.safetensors"))
    Path("text.safetensors").write_text("text")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    result = run("adapter", *arguments)
    assert (result.code, result.error_code) == (1, error_code)
    assert name in result.message
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_adapter_of_a_file_asks_for_the_file(adapter_file: Path, tmp_path: Path, run: Run) -> None:
    adapter = Adapter.load(adapter_file)
    info = adapter.info.__class__(**{**adapter.info.__dict__, "base_name": "lab_model.pth"})
    Adapter(adapter.tensors, info).save(tmp_path / "lab.safetensors")
    result = run("adapter", "merge", tmp_path / "lab.safetensors", "--output", tmp_path / "m.pth")
    assert (result.code, result.error_code) == (1, "base-model-not-named")
    assert "lab_model.pth" in result.message
    assert "--model" in result.message
    assert run(
        "adapter", "merge", tmp_path / "lab.safetensors", "--output", tmp_path / "m.pth", "--model", "sam_nano"
    ).code == 0  # fmt: skip


@pytest.fixture
def adapter(nano: Model) -> Adapter:
    config = LoRAConfig((4, 5), 2, 2.0)
    tensors = {
        name: value.detach().clone() for name, value in adapter_parameters(attach(nano.loaded.sam, config)).items()
    }
    training = {"images": 3, "objects_trained_on": 55, "steps": 200, "learning_rate": 1e-3, "held_out": ["a" * 32]}
    info = AdapterInfo("sam_nano", nano.loaded.weights_hash, config, "late", 64, training=training, metrics=METRICS)
    return Adapter(tensors, info)


def test_a_card_says_what_a_person_must_know(adapter: Adapter) -> None:
    text = card(adapter, "nuclei", "nuclei.png")
    assert text.startswith("# nuclei\n")
    for line in (
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
        assert line in text, line
    assert "a" * 32 not in text


def test_a_card_and_its_picture_lie_beside_the_adapter(adapter: Adapter, tmp_path: Path, run: Run) -> None:
    path = adapter.save(tmp_path / "nuclei.safetensors")
    pixels, labels = plane(1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(labels).save(tmp_path / "b.png")
    result = run("adapter", "card", path, "--image", tmp_path / "a.png", "--labels", tmp_path / "b.png")
    assert (result.code, result.err) == (0, "")
    assert "(nuclei.png)" in (tmp_path / "nuclei.md").read_text("utf-8")
    with Image.open(tmp_path / "nuclei.png") as picture:
        assert picture.width > picture.height
    again = run("adapter", "card", path)
    assert (again.code, again.error_code) == (1, "file-exists")


def test_a_picture_needs_image_and_labels(adapter: Adapter, tmp_path: Path, run: Run) -> None:
    path = adapter.save(tmp_path / "nuclei.safetensors")
    result = run("adapter", "card", path, "--image", path)
    assert result.error_code == "image-without-labels"
    assert "--labels" in result.message


def test_an_adapted_encoder_is_written_as_onnx(adapter: Adapter, tmp_path: Path, run: Run) -> None:
    pytest.importorskip("onnx", reason="ONNX files are written with the extra onnx")
    path = adapter.save(tmp_path / "nuclei.safetensors")
    result = run("adapter", "onnx", path, "--output", tmp_path / "out", "--parts", "encoder")
    assert (result.code, result.err) == (0, "")
    assert "nuclei_encoder.onnx: encoder" in result.out
    assert (tmp_path / "out" / "nuclei_encoder.onnx").stat().st_size > 1e5


def test_a_card_names_the_classes_of_the_adapter(class_adapter_file: Path, tmp_path: Path, run: Run) -> None:
    adapter = Adapter.load(class_adapter_file)
    assert adapter.dense is not None
    named = replace(adapter, dense=replace(adapter.dense, classes={2: "nucleus", 5: ""}))
    path = named.save(tmp_path / "named.safetensors")
    assert run("adapter", "card", path).code == 0
    assert "- classes 2 nucleus, 5\n" in path.with_suffix(".md").read_text(encoding="utf-8")

"""The adapter command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_sam_lora import Adapter, Prompts, load_model

from .conftest import Run, plane


def _sam_lora_file(path: Path, blocks: int = 6) -> Path:
    tensors = {}
    for number in range(2 * blocks):
        tensors[f"w_a_{number:03d}"] = torch.randn(2, 128)
        tensors[f"w_b_{number:03d}"] = torch.randn(128, 2)
    save_file(tensors, path)
    return path


def test_an_adapter_says_what_it_is(adapter_file: Path, run: Run) -> None:
    ended = run("adapter", "info", adapter_file)
    assert ended.code == 0
    for line in ("base_name: sam_nano", "  rank: 4", "input_size: 64", "mode: late", "  verdict: too few"):
        assert f"\n{line}\n" in f"\n{ended.out}"
    described = json.loads(run("adapter", "info", adapter_file, "--json").out)
    assert described["lora"]["rank"] == 4
    assert described["bytes"] == adapter_file.stat().st_size
    assert described["base_hash"] == Adapter.load(adapter_file).info.base_hash


def test_an_adapter_of_sam_lora_is_imported(tmp_path: Path, run: Run) -> None:
    source = _sam_lora_file(tmp_path / "lora_rank2.safetensors")
    out = tmp_path / "mine.safetensors"
    ended = run("adapter", "import", source, "--model", "sam_nano", "--output", out)
    assert ended.code == 0
    assert "rank 2 in 6 encoder blocks of sam_nano" in ended.out
    assert Adapter.load(out).info.lora.rank == 2

    some = _sam_lora_file(tmp_path / "some.safetensors", blocks=2)
    ended = run("adapter", "import", some, "--model", "sam_nano", "--output", tmp_path / "some_mine.safetensors")
    assert ended.code == 1
    assert "adapts 2 of the 6 encoder blocks" in ended.message
    command = ("adapter", "import", some, "--model", "sam_nano", "--output", out, "--blocks", "1", "4")
    assert "exists already" in run(*command).message
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
    ended = run("adapter", "merge", adapter_file, "--output", tmp_path / "merged.pth")
    assert ended.code == 0
    assert "warning: the adapter was trained at an input size of 64" in ended.err
    assert load_model(tmp_path / "merged.pth", "cpu").predictor.input_size == 256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "none.safetensors"], "no adapter file none.safetensors"),
        (["info", "theirs.safetensors"], "theirs.safetensors is not an adapter"),
        (["info", "text.safetensors"], "text.safetensors is damaged"),
        (
            ["import", "none.safetensors", "--model", "sam_nano", "--output", "a.safetensors"],
            "no file none.safetensors",
        ),
        (["import", "theirs.safetensors", "--model", "vit", "--output", "a.safetensors"], "no model named 'vit'"),
        (["import", "theirs.safetensors", "--model", "sam_nano", "--output", "a.pth"], "ends in .safetensors"),
        (
            ["import", "theirs.safetensors", "--model", "sam_nano", "--output", "theirs.safetensors", "--overwrite"],
            "is the input itself",
        ),
        (["merge", "theirs.safetensors", "--output", "a.pth"], "theirs.safetensors is not an adapter"),
        (["merge", "theirs.safetensors", "--output", "a.onnx"], "ends in .pth or .pt or .safetensors"),
        (["merge", "theirs.safetensors", "--output", "text.safetensors/a.pth"], "text.safetensors is a file"),
    ],
)
def test_misuse_is_told_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _sam_lora_file(Path("theirs.safetensors"))
    Path("text.safetensors").write_text("text")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    ended = run("adapter", *arguments)
    assert ended.code == 1
    assert message in ended.message
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_adapter_of_a_file_asks_for_the_file(adapter_file: Path, tmp_path: Path, run: Run) -> None:
    adapter = Adapter.load(adapter_file)
    info = adapter.info.__class__(**{**adapter.info.__dict__, "base_name": "lab_model.pth"})
    Adapter(adapter.tensors, info).save(tmp_path / "lab.safetensors")
    ended = run("adapter", "merge", tmp_path / "lab.safetensors", "--output", tmp_path / "m.pth")
    assert ended.code == 1
    assert "trained on lab_model.pth" in ended.message
    assert "--model" in ended.message
    assert run(
        "adapter", "merge", tmp_path / "lab.safetensors", "--output", tmp_path / "m.pth", "--model", "sam_nano"
    ).code == 0  # fmt: skip

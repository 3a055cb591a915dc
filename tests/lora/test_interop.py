"""Adapters of other projects, against those projects' arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from error_codes import raises
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_sam_lora import Adapter, Model
from napari_sam_lora.errors import AdapterError
from napari_sam_lora.lora.interop import import_adapter

RANK, WIDTH, BLOCKS = 2, 128, 6


class _WrappedQKV(nn.Module):
    """Layer that Sam_LoRA puts in the place of a fused projection: q + B_q A_q x, k, v + B_v A_v x."""

    def __init__(self, qkv: nn.Module, q: tuple[Tensor, Tensor], v: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.qkv, self.q, self.v = qkv, q, v

    def forward(self, x: Tensor) -> Tensor:
        out = self.qkv(x).clone()
        out[..., :WIDTH] += x @ self.q[0].T @ self.q[1].T
        out[..., -WIDTH:] += x @ self.v[0].T @ self.v[1].T
        return out


def _tensors(blocks: int) -> dict[str, Tensor]:
    made = {}
    for number in range(2 * blocks):
        made[f"w_a_{number:03d}"] = torch.randn(RANK, WIDTH) * 0.1
        made[f"w_b_{number:03d}"] = torch.randn(WIDTH, RANK) * 0.1
    return made


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(1, 3, 256, 256)


@pytest.mark.parametrize("blocks", [None, (1, 4)])
@torch.no_grad()
def test_an_imported_adapter_computes_what_its_own_project_computes(
    nano: Model, tmp_path: Path, pixels: Tensor, blocks: tuple[int, ...] | None
) -> None:
    chosen = tuple(range(BLOCKS)) if blocks is None else blocks
    tensors = _tensors(len(chosen))
    save_file(tensors, tmp_path / "lora.safetensors")
    adapter = import_adapter(tmp_path / "lora.safetensors", nano.loaded, blocks)

    with nano.adapted(adapter):
        ours = nano.predictor.sam.image_encoder(pixels)
    encoder: Any = nano.loaded.sam.image_encoder
    originals = {index: encoder.blocks[index].attn.qkv for index in chosen}
    try:
        for place, index in enumerate(chosen):
            q, v = ((tensors[f"w_a_{n:03d}"], tensors[f"w_b_{n:03d}"]) for n in (2 * place, 2 * place + 1))
            encoder.blocks[index].attn.qkv = _WrappedQKV(originals[index], q, v)
        theirs = encoder(pixels)
    finally:
        for index, qkv in originals.items():
            encoder.blocks[index].attn.qkv = qkv
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ours, encoder(pixels), atol=1e-2)


def test_an_imported_adapter_is_saved_and_loaded_as_one_of_ours(nano: Model, tmp_path: Path) -> None:
    save_file(_tensors(BLOCKS), tmp_path / "lora.safetensors")
    adapter = import_adapter(tmp_path / "lora.safetensors", nano.loaded)
    again = Adapter.load(adapter.save(tmp_path / "ours.safetensors"))
    assert again.key == adapter.key
    assert again.info == adapter.info


def _broken(change: str) -> dict[str, Tensor]:
    tensors = _tensors(BLOCKS)
    if change == "another layout":
        return {"lora_A": torch.zeros(2, 2)}
    if change == "odd":
        return {name: value for name, value in tensors.items() if not name.endswith("011")}
    if change == "no partner":
        del tensors["w_b_003"]
    if change == "shape":
        tensors["w_b_003"] = torch.zeros(RANK, WIDTH)
    if change == "rank":
        tensors["w_a_003"] = torch.zeros(RANK + 1, WIDTH)
    if change == "width":
        return {name: torch.zeros(768, RANK) if "_b_" in name else torch.zeros(RANK, 768) for name in _tensors(BLOCKS)}
    if change == "blocks":
        return _tensors(2)
    if change == "NaN":
        tensors["w_a_000"][0, 0] = torch.nan
    return tensors


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("another layout", "unknown-layout"),
        ("odd", "incomplete-pairs"),
        ("no partner", "incomplete-pairs"),
        ("shape", "adapter-shapes-do-not-fit"),
        ("rank", "adapter-shapes-do-not-fit"),
        ("width", "other-encoder-width"),
        ("blocks", "unknown-blocks"),
        ("NaN", "adapter-not-finite"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(nano: Model, tmp_path: Path, change: str, code: str) -> None:
    save_file(_broken(change), tmp_path / "lora.safetensors")
    with raises(AdapterError, code):
        import_adapter(tmp_path / "lora.safetensors", nano.loaded)


@pytest.mark.parametrize(
    ("blocks", "code"),
    [
        ((0,), "blocks-do-not-fit"),
        ((4, 1), "blocks-do-not-fit"),
        ((1, 6), "blocks-out-of-range"),
        ((-1, 2), "blocks-out-of-range"),
        ((3, 3), "blocks-do-not-fit"),
    ],
)
def test_blocks_that_do_not_fit_the_file_are_refused(
    nano: Model, tmp_path: Path, blocks: tuple[int, ...], code: str
) -> None:
    save_file(_tensors(2), tmp_path / "lora.safetensors")
    with raises(AdapterError, code):
        import_adapter(tmp_path / "lora.safetensors", nano.loaded, blocks)


def test_a_missing_or_truncated_file_is_refused(nano: Model, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    with raises(AdapterError, "adapter-not-found", match=r"lora\.safetensors"):
        import_adapter(path, nano.loaded)
    save_file(_tensors(BLOCKS), path)
    path.write_bytes(path.read_bytes()[:-100])
    with raises(AdapterError, "adapter-file-damaged"):
        import_adapter(path, nano.loaded)

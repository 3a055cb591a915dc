"""Adapters in the layouts of other projects, made by those projects' arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from error_codes import raises
from safetensors.torch import save_file
from torch import Tensor

from napari_sam_lora import Model
from napari_sam_lora.errors import AdapterError
from napari_sam_lora.lora.foreign_layouts import UnknownAlphaError
from napari_sam_lora.lora.interop import UnknownBlocksError, import_adapter
from napari_sam_lora.model.encoder import block_count

RANK, WIDTH = 3, 128
State = dict[str, Tensor]
Deltas = dict[tuple[int, str], Tensor]  # what is added to the weight of q, k or v of a block


def _pair(rank: int = RANK, inputs: int = WIDTH, outputs: int = WIDTH) -> tuple[Tensor, Tensor]:
    return torch.randn(rank, inputs) * 0.1, torch.randn(outputs, rank) * 0.1


def _base(model: Model) -> State:
    return {key: value.clone() for key, value in model.loaded.sam.state_dict().items()}


def _numbered(blocks: int) -> tuple[State, Deltas]:
    state: State = {}
    deltas: Deltas = {}
    for number in range(2 * blocks):
        a, b = _pair()
        state |= {f"w_a_{number:03d}": a, f"w_b_{number:03d}": b}
        deltas[number // 2, "qv"[number % 2]] = b @ a
    return state, deltas


def _wrap_qkv(state: State, block: int, name: str) -> None:
    """Name the weights of a qkv layer as those of a layer inside it."""
    for kind in ("weight", "bias"):
        value = state.pop(f"image_encoder.blocks.{block}.attn.qkv.{kind}")
        state[f"image_encoder.blocks.{block}.attn.qkv.{name}.{kind}"] = value


def _finetune_sam(model: Model) -> tuple[State, Deltas]:
    state = _base(model)
    deltas: Deltas = {}
    for block in (1, 4):
        _wrap_qkv(state, block, "qkv")
        for part in "qv":
            a, b = _pair()
            state[f"image_encoder.blocks.{block}.attn.qkv.linear_a_{part}.weight"] = a
            state[f"image_encoder.blocks.{block}.attn.qkv.linear_b_{part}.weight"] = b
            deltas[block, part] = b @ a
    return state, deltas


def _medical(model: Model) -> tuple[State, Deltas]:
    """loralib's MergedLinear: a convolution of two groups, times lora_alpha / r with lora_alpha = 1."""
    state = _base(model)
    deltas: Deltas = {}
    for block in range(block_count(model.loaded.sam.image_encoder)):
        a, b = torch.randn(2 * RANK, WIDTH) * 0.1, torch.randn(2 * WIDTH, RANK) * 0.1
        state |= {
            f"image_encoder.blocks.{block}.attn.qkv.lora_A": a,
            f"image_encoder.blocks.{block}.attn.qkv.lora_B": b,
        }
        both = torch.nn.functional.conv1d(a[None], b[..., None], groups=2)[0] / RANK
        deltas |= {(block, "q"): both[:WIDTH], (block, "v"): both[WIDTH:]}
    return state, deltas


def _micro_sam(model: Model, prefix: str = "") -> tuple[State, Deltas]:
    state = _base(model)
    deltas: Deltas = {}
    for block in (3, 5):
        _wrap_qkv(state, block, "qkv_proj")
        for part in "qkv":
            a, b = _pair()
            state[f"image_encoder.blocks.{block}.attn.qkv.w_a_linear_{part}.weight"] = a
            state[f"image_encoder.blocks.{block}.attn.qkv.w_b_linear_{part}.weight"] = b
            deltas[block, part] = b @ a
    return {prefix + key: value for key, value in state.items()} | {"decoder.x": torch.ones(1)}, deltas


def _assert_adds(model: Model, adapter: Any, deltas: Deltas) -> None:
    """Check that the weights of the fused projections are those of the base and what the file adds."""
    tree = adapter.apply(model.loaded.sam, model.name, model.loaded.weights_hash)
    for number, (base, block) in enumerate(
        zip(model.loaded.sam.image_encoder.blocks, tree.image_encoder.blocks, strict=True)
    ):
        merged = getattr(block.attn.qkv, "merged_weight", lambda one=block: one.attn.qkv.weight)()
        added = (merged - base.attn.qkv.weight).detach().chunk(3)
        for part, found in zip("qkv", added, strict=True):
            torch.testing.assert_close(
                found, deltas.get((number, part), torch.zeros(WIDTH, WIDTH)), atol=1e-5, rtol=1e-4
            )


@pytest.mark.parametrize(
    ("layout", "make", "ending"),
    [
        ("Sam_LoRA", lambda model: _numbered(6), "safetensors"),
        ("Sam_LoRA", lambda model: _numbered(6), "pth"),
        ("finetune-SAM", _finetune_sam, "pth"),
        ("Medical-SAM-Adapter", _medical, "pth"),
        ("micro-sam", _micro_sam, "pt"),
        ("micro-sam", lambda model: _micro_sam(model, "sam."), "pt"),
    ],
)
def test_a_layout_adds_what_its_project_adds(
    nano: Model, tmp_path: Path, layout: str, make: Callable[[Model], tuple[State, Deltas]], ending: str
) -> None:
    state, deltas = make(nano)
    path = tmp_path / f"theirs.{ending}"
    save_file(state, path) if ending == "safetensors" else torch.save({"model_state": state}, path)
    adapter = import_adapter(path, nano.loaded)
    assert adapter.info.training["layout"] == layout
    assert adapter.info.lora.tune_decoder == "none"
    assert adapter.info.lora.blocks == tuple(sorted({block for block, _ in deltas}))
    _assert_adds(nano, adapter, deltas)


def test_lora_vit_needs_alpha_and_divides_it_as_whole_numbers(nano: Model, tmp_path: Path) -> None:
    state, deltas = _numbered(6)
    save_file(state | {"fc_001": torch.ones(2, 2)}, tmp_path / "a.safetensors")
    with raises(UnknownAlphaError, "unknown-alpha"):
        import_adapter(tmp_path / "a.safetensors", nano.loaded)
    with raises(AdapterError, "alpha-adds-nothing", match="alpha 2 and rank 3"):
        import_adapter(tmp_path / "a.safetensors", nano.loaded, alpha=2)
    adapter = import_adapter(tmp_path / "a.safetensors", nano.loaded, alpha=8)  # 8 // 3 = 2
    assert adapter.info.training["layout"] == "LoRA-ViT"
    _assert_adds(nano, adapter, {key: 2 * value for key, value in deltas.items()})


def test_which_blocks_is_asked_where_the_file_cannot_say(nano: Model, tmp_path: Path) -> None:
    state, deltas = _numbered(2)
    save_file(state, tmp_path / "a.safetensors")
    with raises(UnknownBlocksError, "unknown-blocks") as asked:
        import_adapter(tmp_path / "a.safetensors", nano.loaded)
    assert (asked.value.adapted, asked.value.count) == (2, 6)
    adapter = import_adapter(tmp_path / "a.safetensors", nano.loaded, blocks=(2, 5))
    _assert_adds(nano, adapter, {((2, 5)[block], part): value for (block, part), value in deltas.items()})


def test_blocks_that_the_file_says_itself_cannot_be_changed(nano: Model, tmp_path: Path) -> None:
    torch.save(_micro_sam(nano)[0], tmp_path / "a.pt")
    with raises(AdapterError, "blocks-known", match=r"\[3, 5\]"):
        import_adapter(tmp_path / "a.pt", nano.loaded, blocks=(0, 1))


def test_the_tuned_decoder_of_samed_is_taken_over_where_it_is_sams(nano: Model, tmp_path: Path) -> None:
    state, deltas = _numbered(6)
    tuned = {key: value + 0.1 for key, value in _base(nano).items() if key.startswith("mask_decoder.")}
    torch.save(state | tuned, tmp_path / "samed.pth")
    adapter = import_adapter(tmp_path / "samed.pth", nano.loaded)
    assert adapter.info.training["layout"] == "SAMed"
    assert adapter.info.lora.tune_decoder == "all"
    tree = adapter.apply(nano.loaded.sam, nano.name, nano.loaded.weights_hash)
    for key, value in tree.mask_decoder.state_dict().items():
        torch.testing.assert_close(value, tuned[f"mask_decoder.{key}"])
    _assert_adds(nano, adapter, deltas)


def test_a_decoder_for_other_classes_is_left_out_and_told(nano: Model, tmp_path: Path) -> None:
    state, deltas = _numbered(6)
    torch.save(state | {"mask_decoder.mask_tokens.weight": torch.zeros(9, WIDTH)}, tmp_path / "samed.pth")
    with pytest.warns(UserWarning, match="8 classes"):
        adapter = import_adapter(tmp_path / "samed.pth", nano.loaded)
    assert adapter.info.lora.tune_decoder == "none"
    _assert_adds(nano, adapter, deltas)


def test_low_rank_layers_in_the_decoder_of_finetune_sam_are_taken_over(nano: Model, tmp_path: Path) -> None:
    state, deltas = _finetune_sam(nano)
    layer = "mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj"
    outputs, inputs = state[f"{layer}.weight"].shape
    for kind in ("weight", "bias"):
        state[f"{layer}.proj.{kind}"] = state.pop(f"{layer}.{kind}")
    a, b = _pair(2, inputs, outputs)
    torch.save(state | {f"{layer}.w_a.weight": a, f"{layer}.w_b.weight": b}, tmp_path / "a.pth")
    adapter = import_adapter(tmp_path / "a.pth", nano.loaded)
    assert adapter.info.lora.tune_decoder == "lora"
    _assert_adds(nano, adapter, deltas)
    tree = adapter.apply(nano.loaded.sam, nano.name, nano.loaded.weights_hash)
    for name, module in tree.mask_decoder.named_modules():
        if hasattr(module, "merged_weight"):
            wanted = b @ a if f"mask_decoder.{name}" == layer else torch.zeros(())
            added = (module.merged_weight() - module.base_layer.weight).detach()
            torch.testing.assert_close(added, wanted.expand_as(added), atol=1e-6, rtol=1e-4)


def test_a_complete_file_of_another_base_model_is_refused(nano: Model, tmp_path: Path) -> None:
    state, _ = _micro_sam(nano)
    state["image_encoder.neck.0.weight"] += 0.1
    torch.save(state, tmp_path / "a.pt")
    with raises(AdapterError, "other-base-model", match="sam_nano"):
        import_adapter(tmp_path / "a.pt", nano.loaded)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("half", "incomplete-pairs"),
        ("bottleneck", "bottleneck-adapters"),
        ("merged shape", "adapter-shapes-do-not-fit"),
        ("plain checkpoint", "unknown-layout"),
        ("list", "no-named-tensors"),
    ],
)
def test_what_cannot_be_imported_is_refused(nano: Model, tmp_path: Path, change: str, code: str) -> None:
    content: Any = _medical(nano)[0]
    if change == "half":
        content = _micro_sam(nano)[0]
        del content["image_encoder.blocks.3.attn.qkv.w_b_linear_q.weight"]
    elif change == "bottleneck":
        content["image_encoder.blocks.0.MLP_Adapter.D_fc1.weight"] = torch.ones(2, 2)
    elif change == "merged shape":
        content["image_encoder.blocks.0.attn.qkv.lora_A"] = torch.ones(RANK, WIDTH)
    elif change == "plain checkpoint":
        content = _base(nano)
    else:
        content = [torch.ones(2)]
    torch.save(content, tmp_path / "a.pth")
    with raises(AdapterError, code):
        import_adapter(tmp_path / "a.pth", nano.loaded)

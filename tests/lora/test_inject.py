"""Test the places of low-rank layers, and that the base model stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from error_codes import raises
from numpy.typing import NDArray
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam

from napari_sam_lora import Adapter, Model, Preprocessing, Prompts
from napari_sam_lora.errors import InputError
from napari_sam_lora.lora.adapter import AdapterInfo
from napari_sam_lora.lora.inject import (
    LoRAConfig,
    adapter_parameters,
    attach,
    encoder_split,
    set_adapter,
    tuned_blocks,
)
from napari_sam_lora.model.embeddings import EmbeddingCache
from napari_sam_lora.model.encoder import fuse_attention
from napari_sam_lora.model.input_size import set_input_size
from napari_sam_lora.model.predictor import Predictor
from napari_sam_lora.parameters.training import TuneDecoder

ALL_TARGETS = ("q", "k", "v", "proj", "mlp")
PROMPTS = Prompts(boxes=[[40, 60, 70, 95], None], points=[[], [[50, 80]]])


@pytest.fixture(scope="module")
def vit_b() -> Sam:
    torch.manual_seed(0)
    sam = sam_model_registry["vit_b"]()
    fuse_attention(sam.image_encoder)
    set_input_size(sam, 128)
    return sam.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def sams(nano: Model, vit_b: Sam) -> dict[str, Sam]:
    return {"nano": nano.loaded.sam, "vit_b": vit_b}


@pytest.mark.parametrize(
    ("name", "late_blocks", "expected"),
    [
        ("vit_b", None, (8, 9, 10, 11)),
        ("nano", None, (4, 5)),
        ("vit_b", 1, (11,)),
        ("nano", 6, (0, 1, 2, 3, 4, 5)),
    ],
)
def test_late_mode_changes_the_last_blocks(
    sams: dict[str, Sam], name: str, late_blocks: int | None, expected: tuple[int, ...]
) -> None:
    assert tuned_blocks(sams[name], "late", late_blocks) == expected


def test_decoder_mode_changes_no_block_and_full_mode_all(sams: dict[str, Sam]) -> None:
    assert tuned_blocks(sams["nano"], "decoder") == ()
    assert tuned_blocks(sams["nano"], "full") == (0, 1, 2, 3, 4, 5)
    assert tuned_blocks(sams["vit_b"], "full") == tuple(range(12))


@pytest.mark.parametrize("late_blocks", [0, -1, 7])
def test_more_late_blocks_than_there_are_or_none_are_refused(nano: Model, late_blocks: int) -> None:
    with raises(InputError, "late_blocks-out-of-range", match=f" 6 .* {late_blocks}"):
        tuned_blocks(nano.loaded.sam, "late", late_blocks)


@pytest.mark.parametrize(("blocks", "split"), [((), 7), ((4, 5), 4), ((5, 2), 2), ((0,), 0)])
def test_the_frozen_prefix_ends_before_the_first_changed_block(
    nano: Model, blocks: tuple[int, ...], split: int
) -> None:
    assert encoder_split(nano.loaded.sam, LoRAConfig(blocks)) == split


@pytest.mark.parametrize("tune_decoder", ["lora", "none"])
def test_every_frozen_tensor_is_shared_with_the_base(nano: Model, tune_decoder: TuneDecoder) -> None:
    base = nano.loaded.sam.state_dict()
    tree = attach(nano.loaded.sam, LoRAConfig((1, 5), targets=ALL_TARGETS, tune_decoder=tune_decoder))
    frozen = {name.replace(".base_layer.", "."): v for name, v in tree.state_dict().items() if ".lora." not in name}
    assert frozen.keys() == base.keys()
    assert all(frozen[name].data_ptr() == base[name].data_ptr() for name in base)


def test_tuning_all_decoder_weights_copies_those_and_shares_the_rest(nano: Model) -> None:
    base = nano.loaded.sam.state_dict()
    tree = attach(nano.loaded.sam, LoRAConfig((), tune_decoder="all"))
    own = {name for name, value in tree.state_dict().items() if value.data_ptr() != base[name].data_ptr()}
    assert own == {f"mask_decoder.{name}" for name, _ in nano.loaded.sam.mask_decoder.named_parameters()}
    assert own == set(adapter_parameters(tree))


@pytest.mark.parametrize("tune_decoder", ["lora", "all"])
@torch.no_grad()
def test_the_base_keeps_its_modules_and_outputs_when_an_adapter_changes(nano: Model, tune_decoder: TuneDecoder) -> None:
    sam = nano.loaded.sam
    pixels = torch.randn(1, 3, 256, 256)
    modules = {name: type(module) for name, module in sam.named_modules()}
    embedding = sam.image_encoder(pixels)
    state = {name: value.clone() for name, value in sam.state_dict().items()}
    tree = attach(sam, LoRAConfig((4, 5), targets=ALL_TARGETS, tune_decoder=tune_decoder))
    for value in adapter_parameters(tree).values():
        value.add_(torch.randn_like(value))
    assert not torch.equal(tree.image_encoder(pixels), embedding)
    assert {name: type(module) for name, module in sam.named_modules()} == modules
    assert torch.equal(sam.image_encoder(pixels), embedding)
    assert all(torch.equal(state[name], value) for name, value in sam.state_dict().items())
    assert not any(value.requires_grad for value in sam.parameters())


@pytest.mark.parametrize(
    "config",
    [
        LoRAConfig(()),
        LoRAConfig((4, 5)),
        LoRAConfig(tuple(range(6)), targets=ALL_TARGETS),
        LoRAConfig((), tune_decoder="all"),
        LoRAConfig((5,), tune_decoder="all", dropout=0.5),
        LoRAConfig((0, 3), targets=("k", "mlp"), tune_decoder="none"),
    ],
    ids=["decoder", "late", "full, all layers", "whole decoder", "dropout", "encoder alone"],
)
def test_an_untrained_adapter_changes_no_bit_of_any_output(
    nano: Model, nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]], config: LoRAConfig
) -> None:
    results = []
    for sam in (nano.loaded.sam, attach(nano.loaded.sam, config)):
        predictor = Predictor(sam, "", Preprocessing(), EmbeddingCache())
        embedding = predictor.encode(nuclei[0])
        results.append((embedding.tensor, predictor.segment(embedding, PROMPTS)))
    (base_embedding, base), (embedding_, adapted) = results
    assert base.masks.any(axis=(1, 2)).all()
    assert torch.equal(base_embedding, embedding_)
    for name in ("masks", "scores", "logits", "candidates", "candidate_scores"):
        assert np.array_equal(getattr(base, name), getattr(adapted, name)), name


def test_only_the_tensors_of_the_adapter_require_gradients(nano: Model) -> None:
    tree = attach(nano.loaded.sam, LoRAConfig((5,), targets=ALL_TARGETS))
    trained = {name for name, value in tree.named_parameters() if value.requires_grad}
    assert trained == {name for name, _ in tree.named_parameters() if ".lora." in name}
    block = "image_encoder.blocks.5."
    layers = ("attn.qkv.lora.q", "attn.qkv.lora.k", "attn.qkv.lora.v", "attn.proj.lora", "mlp.lin1.lora")
    assert {f"{block}{layer}.{end}" for layer in (*layers, "mlp.lin2.lora") for end in "ab"} == {
        name for name in trained if name.startswith("image_encoder.")
    }
    assert not tree.training


@pytest.mark.parametrize("rank", [1, 4, 7])
def test_query_and_value_layers_of_vit_b_have_36864_parameters_a_rank(vit_b: Sam, rank: int) -> None:
    tree = attach(vit_b, LoRAConfig(tuple(range(12)), rank, tune_decoder="none"))
    assert sum(value.numel() for value in adapter_parameters(tree).values()) == 36864 * rank


@pytest.mark.parametrize("blocks", [(8, 9, 10, 11), tuple(range(12))])
def test_a_vit_b_adapter_of_rank_four_is_smaller_than_a_mebibyte(
    vit_b: Sam, tmp_path: Path, blocks: tuple[int, ...]
) -> None:
    config = LoRAConfig(blocks, rank=4)
    tensors: dict[str, torch.Tensor] = dict(adapter_parameters(attach(vit_b, config)))
    info = AdapterInfo("vit_b", "0" * 32, config, "late", 1024)
    assert Adapter(tensors, info).save(tmp_path / "a.safetensors").stat().st_size < 2**20


def test_setting_an_adapter_copies_its_values(nano: Model) -> None:
    config = LoRAConfig((4, 5))
    wanted = {k: torch.randn_like(v) for k, v in adapter_parameters(attach(nano.loaded.sam, config)).items()}
    tree = attach(nano.loaded.sam, config)
    set_adapter(tree, wanted)
    held = adapter_parameters(tree)
    assert all(torch.equal(held[name], value) for name, value in wanted.items())
    wanted["image_encoder.blocks.4.attn.qkv.lora.q.a"].zero_()
    assert held["image_encoder.blocks.4.attn.qkv.lora.q.a"].any()


def test_tensors_that_do_not_fit_are_refused_by_name(nano: Model) -> None:
    tree = attach(nano.loaded.sam, LoRAConfig((5,), tune_decoder="none"))
    good: dict[str, Any] = {name: value.detach().clone() for name, value in adapter_parameters(tree).items()}
    name = "image_encoder.blocks.5.attn.qkv.lora.q.a"
    with pytest.raises(ValueError, match=r"1 tensors do not fit.*lora\.q\.a"):
        set_adapter(tree, {key: value for key, value in good.items() if key != name})
    with pytest.raises(ValueError, match=r"1 tensors do not fit.*extra"):
        set_adapter(tree, good | {"extra": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"lora\.q\.a is \(3, 128\), not \(4, 128\)"):
        set_adapter(tree, good | {name: torch.zeros(3, 128)})


def test_blocks_that_the_encoder_lacks_are_refused(nano: Model) -> None:
    with raises(InputError, "blocks-out-of-range", match="block 6"):
        attach(nano.loaded.sam, LoRAConfig((5, 6)))


def test_blocks_and_targets_are_put_in_order() -> None:
    config = LoRAConfig((5, 3, 5), targets=("v", "mlp", "q"))
    assert config.blocks == (3, 5)
    assert config.targets == ("q", "v", "mlp")
    assert config == LoRAConfig((3, 5), targets=("q", "v", "mlp"))


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"blocks": (-1, 2)}, "blocks-out-of-range"),
        ({"rank": 0}, "rank-out-of-range"),
        ({"alpha": 0.0}, "alpha-out-of-range"),
        ({"alpha": -1.0}, "alpha-out-of-range"),
        ({"dropout": 1.0}, "dropout-out-of-range"),
        ({"dropout": -0.1}, "dropout-out-of-range"),
        ({"targets": ()}, "unknown-target"),
        ({"targets": ("o",)}, "unknown-target"),
        ({"targets": ("q", "o")}, "unknown-target"),
        ({"tune_decoder": "some"}, "unknown-tune-decoder"),
        ({"blocks": (), "tune_decoder": "none"}, "nothing-to-change"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], code: str) -> None:
    with raises(InputError, code):
        LoRAConfig(**{"blocks": (5,)} | settings)

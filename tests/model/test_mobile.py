"""MobileSAM: its checkpoints, its arithmetic, and LoRA on it; with random weights under the official names."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from error_codes import raises
from segment_anything.modeling import Sam
from torch import Tensor

from napari_sam_lora import Model, TrainConfig, fine_tune, load_model
from napari_sam_lora.errors import AdapterError, CheckpointError
from napari_sam_lora.io.samples import nuclei_pair
from napari_sam_lora.lora.inject import LoRAConfig, adapter_parameters, attach, tuned_blocks
from napari_sam_lora.lora.layers import LoRAQKV
from napari_sam_lora.lora.merge import merged_state, save_merged
from napari_sam_lora.model.checkpoints import load
from napari_sam_lora.model.encoder import block_count, prefix, suffix
from napari_sam_lora.model.families.mobile import build_mobile_sam
from napari_sam_lora.model.input_size import at_input_size
from napari_sam_lora.prompts import Prompts

CPU = torch.device("cpu")
SMALL = 128
# Of the published file: weights and stored statistics.
TENSORS, PARAMETERS = 439, 10_130_092


def _randomised(sam: Sam) -> Sam:
    """Weights that let every part show in the result."""
    for name, value in sam.named_parameters():
        value.data = torch.randn_like(value) * 0.05 + (1.0 if name.endswith(("bn.weight", "norm.weight")) else 0.0)
    for name, value in sam.named_buffers():
        if name.endswith("running_var"):
            value.data = torch.rand_like(value) + 0.5
    return sam.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def mobile() -> Sam:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return _randomised(build_mobile_sam())


@pytest.fixture(scope="module")
def checkpoint(mobile: Sam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mobile") / "mobile_sam.pt"
    torch.save(mobile.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Model:
    return load_model(checkpoint, "cpu", input_size=SMALL)


def _pixels(size: int = SMALL) -> Tensor:
    return torch.randn(1, 3, size, size)


def test_it_has_the_tensors_of_the_published_model(mobile: Sam) -> None:
    state = mobile.state_dict()
    assert len(state) == TENSORS
    assert sum(value.numel() for value in mobile.parameters()) == PARAMETERS
    assert state["image_encoder.layers.1.blocks.0.attn.qkv.weight"].shape == (384, 128)
    assert state["image_encoder.layers.2.blocks.5.attn.attention_biases"].shape == (5, 196)
    assert state["image_encoder.layers.2.downsample.conv2.c.weight"].shape == (320, 1, 3, 3)
    assert state["image_encoder.head.weight"].shape == (1000, 320)


def test_embeddings_are_those_of_the_reference(mobile: Sam) -> None:
    pytest.importorskip("timm", reason="the reference needs the package timm")
    reference = pytest.importorskip("mobile_sam", reason="the reference needs the package mobilesam-mirror")
    published = reference.sam_model_registry["vit_t"]()
    published.load_state_dict(mobile.state_dict(), strict=True)
    published.eval()
    pixels = _pixels(1024)
    with torch.no_grad():
        wanted, found = published.image_encoder(pixels), mobile.image_encoder(pixels)
    assert wanted.std() > 1e-3
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    sys.modules.pop("mobile_sam", None)


@pytest.mark.parametrize("prefixed", ["", "sam.", "module."])
def test_checkpoints_load_by_their_published_names(mobile: Sam, tmp_path: Path, prefixed: str) -> None:
    path = tmp_path / "vit_t.pt"
    torch.save({"model_state": {prefixed + key: value for key, value in mobile.state_dict().items()}}, path)
    loaded = load(path, CPU)
    assert loaded.family == "vit_t"
    for key, value in mobile.state_dict().items():
        assert torch.equal(loaded.sam.state_dict()[key], value), key
    assert not loaded.sam.training


@pytest.mark.parametrize("change", ["wider", "missing", "odd shape"])
def test_other_tinyvits_and_damaged_files_are_refused(mobile: Sam, tmp_path: Path, change: str) -> None:
    state = dict(mobile.state_dict())
    key = "image_encoder.layers.3.blocks.0.attn.norm.weight"
    if change == "wider":
        state[key] = torch.ones(448)  # TinyViT-11M
    elif change == "missing":
        del state["image_encoder.neck.0.weight"]
    else:
        state["image_encoder.layers.0.blocks.0.conv1.c.weight"] = torch.ones(3, 3)
    path = tmp_path / "vit_t.pt"
    torch.save(state, path)
    error_code, name = ("unknown-encoder-width", "448") if change == "wider" else ("weights-do-not-fit", "vit_t")
    with raises(CheckpointError, error_code, match=name):
        load(path, CPU)


@pytest.mark.parametrize("size", [64, 128, 208, 336])
def test_it_runs_at_other_input_sizes_and_in_two_parts(mobile: Sam, size: int) -> None:
    sam = at_input_size(mobile, size)
    encoder = sam.image_encoder
    pixels = _pixels(size)
    with torch.no_grad():
        whole = encoder(pixels)
        assert whole.shape == (1, 256, size // 16, size // 16)
        for split in range(block_count(encoder) + 2):
            torch.testing.assert_close(suffix(encoder, prefix(encoder, pixels, split), split), whole)


def test_statistics_of_batches_are_never_taken(mobile: Sam) -> None:
    sam = at_input_size(mobile, 64)
    before = {key: value.clone() for key, value in sam.state_dict().items()}
    sam.image_encoder.train()
    sam.image_encoder(_pixels(64))
    sam.image_encoder.eval()
    assert all(torch.equal(before[key], value) for key, value in sam.state_dict().items())


def test_low_rank_layers_add_to_q_k_and_v_of_each_head() -> None:
    heads, width = 4, 12
    base = torch.nn.Linear(width, 3 * width)
    layer = LoRAQKV(base, 2, 2.0, ("q", "v"), groups=heads)
    for name, value in layer.lora.named_parameters():
        if name.endswith(".b"):
            torch.nn.init.normal_(value)
    x = torch.randn(5, width)
    added = (layer(x) - base(x)).reshape(5, heads, 3, width // heads)
    for place, name in enumerate("qkv"):
        wanted = layer.lora[name](x).reshape(5, heads, -1) if name in layer.lora else torch.zeros(5, heads, 3)
        torch.testing.assert_close(added[:, :, place], wanted)
    torch.testing.assert_close(x @ layer.merged_weight().T + base.bias, layer(x))


@pytest.mark.parametrize("targets", [("q", "v"), ("q", "k", "v", "proj", "mlp")])
def test_a_merged_adapter_computes_the_same_under_the_official_names(
    mobile: Sam, tmp_path: Path, targets: tuple[str, ...]
) -> None:
    sam = at_input_size(mobile, 64)
    tree = attach(sam, LoRAConfig(tuned_blocks(sam, "full"), 2, 2.0, targets))
    pixels = _pixels(64)
    with torch.no_grad():
        torch.testing.assert_close(tree.image_encoder(pixels), sam.image_encoder(pixels))
        for value in adapter_parameters(tree).values():
            value.normal_(std=0.1)
        adapted = tree.image_encoder(pixels)
        assert (adapted - sam.image_encoder(pixels)).abs().max() > 1e-3
        assert merged_state(tree).keys() == mobile.state_dict().keys()
        merged = load(save_merged(tmp_path / "merged.pth", tree), CPU)
        assert merged.family == "vit_t"
        torch.testing.assert_close(at_input_size(merged.sam, 64).image_encoder(pixels), adapted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", ["decoder", "late", "full"])
def test_it_is_fine_tuned_in_every_mode(model: Model, mode: str) -> None:
    pairs = [nuclei_pair(number) for number in (1, 2)]
    config = TrainConfig.from_dict({"mode": mode, "rank": 2, "steps": 2, "objects": 2, "views": 1, "seed": 0})
    adapter, report = fine_tune(model, pairs, config)
    assert report.verdict in ("better", "not better", "too few")
    late = tuple(range(7, 10))
    assert adapter.info.lora.blocks == {"decoder": (), "late": late, "full": tuple(range(10))}[mode]
    image = pairs[0][0]
    prompts = Prompts(boxes=[[40, 60, 70, 95]])
    before = model.segment(model.encode(image), prompts).logits
    with model.adapted(adapter):
        adapted = model.segment(model.encode(image), prompts).logits
    after = model.segment(model.encode(image), prompts).logits
    assert np.isfinite(adapted).all()
    assert (np.abs(adapted - before).max() > 0).all()
    np.testing.assert_array_equal(after, before)


def test_an_adapter_of_another_model_is_refused(model: Model, nano: Model) -> None:
    adapter, _ = fine_tune(
        model,
        [nuclei_pair(1)],
        TrainConfig.from_dict({"mode": "decoder", "rank": 1, "steps": 1, "objects": 1, "views": 1}),
    )
    with raises(AdapterError, "other-base-model"):
        nano.activate(replace(adapter))

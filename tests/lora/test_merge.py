"""Merged weights compute what the adapted model computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from error_codes import raises
from numpy.typing import NDArray
from safetensors import SafetensorError
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import Sam
from torch import Tensor

from napari_sam_lora import Model, Preprocessing, Prompts, load_model
from napari_sam_lora.errors import InputError
from napari_sam_lora.lora.inject import LoRAConfig, adapter_parameters, attach
from napari_sam_lora.lora.merge import merge, merged_state, save_merged, unmerge
from napari_sam_lora.model.embeddings import EmbeddingCache
from napari_sam_lora.model.encoder import fuse_attention
from napari_sam_lora.model.families.nano import build_sam_nano
from napari_sam_lora.model.input_size import at_input_size, set_input_size
from napari_sam_lora.model.predictor import Predictor, Result

CONFIGS = {
    "late": LoRAConfig((4, 5)),
    "all layers": LoRAConfig((0, 5), rank=2, alpha=3.0, targets=("q", "k", "v", "proj", "mlp")),
    "whole decoder": LoRAConfig((5,), tune_decoder="all"),
}
Image = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@torch.no_grad()
def _adapted(sam: Sam, config: LoRAConfig) -> Sam:
    tree = attach(sam, config)
    for value in adapter_parameters(tree).values():
        value.add_(torch.randn_like(value) * 0.05)
    return tree.requires_grad_(False)


def _segment(sam: Sam, image: NDArray[np.uint8]) -> tuple[Tensor, Result]:
    predictor = Predictor(sam, "", Preprocessing(), EmbeddingCache())
    embedding = predictor.encode(image)
    return embedding.tensor, predictor.segment(embedding, Prompts(boxes=[[40, 60, 70, 95], [100, 20, 140, 60]]))


@pytest.fixture(params=list(CONFIGS))
def tree(nano: Model, request: pytest.FixtureRequest) -> Sam:
    return _adapted(nano.loaded.sam, CONFIGS[request.param])


def test_merging_keeps_the_outputs_and_unmerging_brings_every_bit_back(nano: Model, tree: Sam, nuclei: Image) -> None:
    state = {name: value.clone() for name, value in nano.loaded.sam.state_dict().items()}
    modules = {name: id(module) for name, module in tree.named_modules()}
    embedding, adapted = _segment(tree, nuclei[0])
    merge(tree)
    assert not any(".lora." in name for name, _ in tree.named_parameters())
    merged_embedding, merged = _segment(tree, nuclei[0])
    torch.testing.assert_close(merged_embedding, embedding, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(merged.logits, adapted.logits, rtol=1e-3, atol=1e-3)
    unmerge(tree)
    assert {name: id(module) for name, module in tree.named_modules()} == modules
    again_embedding, again = _segment(tree, nuclei[0])
    assert torch.equal(again_embedding, embedding)
    assert np.array_equal(again.logits, adapted.logits)
    assert all(torch.equal(state[name], value) for name, value in nano.loaded.sam.state_dict().items())
    # the adapter does something, or all of this would mean nothing
    assert not np.allclose(adapted.logits, _segment(nano.loaded.sam, nuclei[0])[1].logits, atol=0.1)


@pytest.mark.parametrize(
    ("ending", "writer", "error"),
    [("pth", "torch.save", RuntimeError("enforce fail")), ("safetensors", "save_file", SafetensorError("I/O error"))],
)
def test_a_full_disk_is_an_os_error_and_leaves_no_file(
    tree: Sam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, writer: str, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(f"napari_sam_lora.lora.merge.{writer}", fail)
    with pytest.raises(OSError, match="could not be written") as caught:
        save_merged(tmp_path / f"merged.{ending}", tree)
    assert caught.value.filename == str(tmp_path / f"merged.{ending}")
    assert list(tmp_path.iterdir()) == []


def test_the_merged_state_loads_strictly_into_a_plain_sam(nano: Model, tree: Sam, nuclei: Image) -> None:
    state = merged_state(tree)
    assert state.keys() == nano.loaded.sam.state_dict().keys()
    assert all(value.dtype == nano.loaded.sam.state_dict()[name].dtype for name, value in state.items())
    plain = build_sam_nano()
    plain.load_state_dict(state, strict=True)
    embedding, adapted = _segment(tree, nuclei[0])
    plain_embedding, result = _segment(plain.eval(), nuclei[0])
    torch.testing.assert_close(plain_embedding, embedding, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(result.logits, adapted.logits, rtol=1e-3, atol=1e-3)


def test_the_merged_state_of_a_merged_tree_is_the_same(tree: Sam) -> None:
    before = merged_state(tree)
    merge(tree)
    after = merged_state(tree)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], value) for name, value in after.items())


def test_the_merged_state_does_not_change_the_tree(tree: Sam) -> None:
    before = {name: value.clone() for name, value in tree.state_dict().items()}
    merged_state(tree)
    assert before.keys() == tree.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in tree.state_dict().items())


@pytest.mark.parametrize("ending", ["pth", "pt", "safetensors"])
def test_a_merged_checkpoint_loads_as_a_model_and_gives_the_same_masks(
    nano: Model, nuclei: Image, tmp_path: Path, ending: str
) -> None:
    tree = _adapted(nano.loaded.sam, CONFIGS["late"])
    path = save_merged(tmp_path / f"merged.{ending}", tree)
    assert list(tmp_path.iterdir()) == [path]
    model = load_model(path, device="cpu")
    assert model.name == f"merged.{ending}"
    assert model.loaded.weights_hash != nano.loaded.weights_hash
    _, adapted = _segment(tree, nuclei[0])
    _, merged = _segment(model.loaded.sam, nuclei[0])
    np.testing.assert_allclose(merged.logits, adapted.logits, rtol=1e-3, atol=1e-3)
    assert adapted.masks.any()
    assert np.mean(merged.masks != adapted.masks) < 1e-4


@pytest.mark.parametrize("name", ["merged.onnx", "merged"])
def test_other_endings_are_refused(nano: Model, tmp_path: Path, name: str) -> None:
    with raises(InputError, "wrong-file-ending", match=r"\.pth"):
        save_merged(tmp_path / name, attach(nano.loaded.sam, CONFIGS["late"]))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def vit_b() -> Sam:
    base = sam_model_registry["vit_b"]().requires_grad_(False).eval()
    torch.nn.init.normal_(base.image_encoder.pos_embed, std=0.1)
    fuse_attention(base.image_encoder)
    return base


@torch.no_grad()
def test_a_merged_vit_b_loads_strictly_with_segment_anything_and_gives_the_same_masks(
    vit_b: Sam, nuclei: Image, tmp_path: Path
) -> None:
    tree = _adapted(vit_b, LoRAConfig((8, 9, 10, 11)))
    path = save_merged(tmp_path / "merged.pth", tree)
    plain = sam_model_registry["vit_b"](checkpoint=path).eval()
    path.unlink()  # it is large, and pytest keeps folders of earlier runs
    for sam in (plain, tree):
        set_input_size(sam, 128)
    rgb = np.repeat(nuclei[0][:128, :128, None], 3, 2)
    reference = SamPredictor(plain)
    reference.set_image(rgb)
    predictor = Predictor(tree, "", Preprocessing(), EmbeddingCache())
    embedding = predictor.encode(rgb)
    torch.testing.assert_close(reference.get_image_embedding(), embedding.tensor, rtol=1e-3, atol=1e-3)
    box = np.array([20, 10, 70, 60])  # x0, y0, x1, y1
    expected, _, _ = reference.predict(box=box, multimask_output=False, return_logits=True)
    result = predictor.segment(embedding, Prompts(boxes=[[10, 20, 60, 70]]))
    sure = np.abs(expected) > 1e-3
    assert sure.mean() > 0.9
    assert np.array_equal(result.masks[sure], expected[sure] > 0)


@pytest.mark.parametrize("size", [512, 128])
@torch.no_grad()
def test_an_adapter_trained_at_another_input_size_merges_at_the_official_one(vit_b: Sam, size: int) -> None:
    tree = _adapted(at_input_size(vit_b, size), LoRAConfig((11,)))
    assert tree.image_encoder.pos_embed.shape[1] == size // 16
    state = merged_state(tree)
    official = vit_b.state_dict()
    assert {name: value.shape for name, value in state.items()} == {n: v.shape for n, v in official.items()}
    assert torch.equal(state["image_encoder.pos_embed"], official["image_encoder.pos_embed"])

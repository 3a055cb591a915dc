"""Another input size than the one that a model was trained at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from error_codes import raises
from segment_anything.modeling import Sam
from torch import nn

from napari_sam_lora import Model, Prompts, load_model
from napari_sam_lora.errors import InputError
from napari_sam_lora.model.embeddings import EmbeddingCache
from napari_sam_lora.model.input_size import at_input_size, mask_stride, native_positions, set_input_size, stride

from .conftest import Twins


def _pointers(module: nn.Module) -> dict[str, int]:
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.data_ptr() for name, tensor in tensors}


def _sizes(sam: Sam) -> tuple[Any, ...]:
    encoder, prompt_encoder = sam.image_encoder, sam.prompt_encoder
    return (
        encoder.img_size,
        None if encoder.pos_embed is None else tuple(encoder.pos_embed.shape),
        tuple(prompt_encoder.input_image_size),
        tuple(prompt_encoder.image_embedding_size),
        tuple(prompt_encoder.mask_input_size),
    )


def test_strides_are_those_of_the_patches_and_of_the_low_resolution_mask(nano: Model, tiny_sam: Sam) -> None:
    assert (stride(nano.loaded.sam), mask_stride(nano.loaded.sam)) == (8, 2)
    assert (stride(tiny_sam), mask_stride(tiny_sam)) == (16, 4)


@torch.no_grad()
def test_the_embedding_grid_follows_the_input_size_and_comes_back(tiny_sam: Sam) -> None:
    first = _sizes(tiny_sam)
    set_input_size(tiny_sam, 208)
    assert _sizes(tiny_sam) == (208, (1, 13, 13, 32), (208, 208), (13, 13), (52, 52))
    assert tiny_sam.image_encoder(torch.randn(1, 3, 208, 208)).shape == (1, 32, 13, 13)
    assert tiny_sam.prompt_encoder.get_dense_pe().shape == (1, 32, 13, 13)
    set_input_size(tiny_sam, 128)
    assert _sizes(tiny_sam) == first == (128, (1, 8, 8, 32), (128, 128), (8, 8), (32, 32))
    assert (stride(tiny_sam), mask_stride(tiny_sam)) == (16, 4)
    assert tiny_sam.image_encoder(torch.randn(1, 3, 128, 128)).shape == (1, 32, 8, 8)


def test_position_embeddings_keep_their_directions(tiny_sam: Sam) -> None:
    position = tiny_sam.image_encoder.pos_embed
    position.data[..., 0] = torch.arange(8.0)[:, None]  # the row
    position.data[..., 1] = torch.arange(8.0)[None, :]  # the column
    position.data[..., 2] = 5.0
    set_input_size(tiny_sam, 256)
    resized = tiny_sam.image_encoder.pos_embed.data[0]
    centres = (torch.arange(16.0) + 0.5) / 2 - 0.5  # tokens of the finer grid in those of the coarser one
    inner = slice(4, 12)
    close: Any = {"rtol": 0.0, "atol": 0.05}  # torch's cubic kernel bends ramps by up to 3/64
    torch.testing.assert_close(resized[inner, :, 0], centres[inner, None].expand(8, 16), **close)
    torch.testing.assert_close(resized[:, inner, 1], centres[None, inner].expand(16, 8), **close)
    torch.testing.assert_close(resized[..., 2], torch.full((16, 16), 5.0))


def test_setting_the_size_that_it_has_changes_nothing(tiny_sam: Sam) -> None:
    before = _pointers(tiny_sam)
    set_input_size(tiny_sam, 128)
    assert _pointers(tiny_sam) == before
    assert at_input_size(tiny_sam, 128) is tiny_sam


@pytest.mark.parametrize("size", [0, -16, 8, 100, 127, 136])
def test_sizes_that_are_not_multiples_of_the_stride_are_refused(tiny_sam: Sam, size: int) -> None:
    before = _sizes(tiny_sam)
    for change in (set_input_size, at_input_size):
        with raises(InputError, "invalid-input-size", match=f"16, not {size}"):
            change(tiny_sam, size)
    assert _sizes(tiny_sam) == before


def test_a_model_at_another_size_shares_all_tensors_but_the_position_embedding(vit_b_full: Sam, vit_b: Twins) -> None:
    before, sizes = _pointers(vit_b_full), _sizes(vit_b_full)
    other = at_input_size(vit_b_full, 128)
    after = _pointers(other)
    native = after.pop("image_encoder.native_pos_embed")
    assert after.keys() == before.keys()
    assert [name for name in before if after[name] != before[name]] == ["image_encoder.pos_embed"]
    assert native == before["image_encoder.pos_embed"]
    assert _pointers(vit_b_full) == before
    assert _sizes(vit_b_full) == sizes == (1024, (1, 64, 64, 768), (1024, 1024), (64, 64), (256, 256))
    assert _sizes(other) == (128, (1, 8, 8, 768), (128, 128), (8, 8), (32, 32))
    assert not other.training
    assert not any(parameter.requires_grad for parameter in other.parameters())


@torch.no_grad()
def test_the_original_computes_what_it_did_before(tiny_sam: Sam) -> None:
    x = torch.randn(1, 3, 128, 128)
    before = tiny_sam.image_encoder(x)
    at_input_size(tiny_sam, 64).image_encoder(x[..., :64, :64])
    assert torch.equal(tiny_sam.image_encoder(x), before)


def test_twice_the_input_size_gives_finer_masks_of_the_same_object(nano: Model, nuclei: tuple[Any, Any]) -> None:
    image, labels = nuclei
    large = replace(nano.predictor, sam=at_input_size(nano.predictor.sam, 512), cache=EmbeddingCache())
    mask = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    y, x = np.nonzero(mask)
    prompts = Prompts([[y.min(), x.min(), y.max() + 1, x.max() + 1]])
    embedding = large.encode(image)
    result = large.segment(embedding, prompts)
    assert large.input_size == 512
    assert embedding.tensor.shape == (1, 256, 64, 64)
    assert result.logits.shape == (1, 256, 256)
    assert result.masks.shape == (1, 256, 256)
    assert np.isfinite(result.logits).all()
    assert np.isfinite(result.scores).all()
    assert (result.masks[0] & mask).sum() / (result.masks[0] | mask).sum() > 0.5
    assert nano.predictor.input_size == 256


def test_a_model_is_loaded_at_the_input_size_asked_for() -> None:
    model = load_model("sam_nano", device="cpu", input_size=128)
    assert model.encode(np.zeros((60, 90), np.uint8)).tensor.shape == (1, 256, 16, 16)
    with raises(InputError, "invalid-input-size", match="8, not 100"):
        load_model("sam_nano", device="cpu", input_size=100)


@torch.no_grad()
def test_a_size_that_is_set_back_restores_every_bit(tiny_sam: Sam) -> None:
    before = {name: value.clone() for name, value in tiny_sam.state_dict().items()}
    there = at_input_size(tiny_sam, 208)
    back = at_input_size(there, 128)
    assert back is not tiny_sam
    for sam in (there, back):
        assert sam.state_dict().keys() == before.keys()
        assert torch.equal(native_positions(sam), before["image_encoder.pos_embed"])
    assert all(torch.equal(before[name], value) for name, value in back.state_dict().items())
    twice = at_input_size(at_input_size(tiny_sam, 64), 208)
    assert torch.equal(twice.image_encoder.pos_embed, there.image_encoder.pos_embed)

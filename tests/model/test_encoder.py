"""The image encoder in parts and with fused attention, against segment-anything's."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention
from torch import Tensor, nn

from napari_sam_lora import Model
from napari_sam_lora.model.encoder import FusedAttention, block_count, fuse_attention, prefix, preprocess, suffix

from .conftest import Twins


def _attention(tokens: tuple[int, int], width: int = 24, heads: int = 3, *, use_rel_pos: bool = True) -> Attention:
    attention = Attention(width, heads, use_rel_pos=use_rel_pos, input_size=tokens)
    if use_rel_pos:
        nn.init.normal_(attention.rel_pos_h)
        nn.init.normal_(attention.rel_pos_w)
    return attention


# Windows are many small squares; a whole plane is one large one. In the last row positions are interpolated.
@pytest.mark.parametrize(
    ("batch", "tokens", "trained_at"),
    [(9, (4, 4), (4, 4)), (1, (10, 10), (10, 10)), (2, (5, 8), (5, 8)), (2, (6, 9), (14, 14))],
)
def test_attention_and_its_gradients_are_the_same(
    batch: int, tokens: tuple[int, int], trained_at: tuple[int, int]
) -> None:
    reference = _attention(trained_at)
    fused = FusedAttention(deepcopy(reference))
    x = torch.randn(batch, *tokens, 24)
    toward = torch.randn(batch, *tokens, 24)
    outputs, gradients = [], []
    for attention in (reference, fused):
        own = x.clone().requires_grad_(True)
        output = attention(own)
        (output * toward).sum().backward()
        outputs.append(output.detach())
        gradients.append({"x": own.grad} | {name: value.grad for name, value in attention.named_parameters()})
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    assert "rel_pos_h" in gradients[0]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-4, msg=name)


def test_attention_without_relative_positions_is_the_same() -> None:
    reference = _attention((6, 6), use_rel_pos=False)
    x = torch.randn(2, 6, 6, 24)
    torch.testing.assert_close(FusedAttention(reference)(x), reference(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("batch", "tokens"), [(1, (40, 40)), (2, (35, 37)), (1, (33, 32)), (1, (5, 210)), (1, (32, 32))]
)
@torch.no_grad()
def test_attention_over_a_large_plane_is_the_same_without_gradients(batch: int, tokens: tuple[int, int]) -> None:
    reference = _attention(tokens, width=12, heads=2)
    x = torch.randn(batch, *tokens, 12)
    torch.testing.assert_close(FusedAttention(reference)(x), reference(x), rtol=1e-4, atol=1e-5)


def test_attention_over_a_large_plane_has_the_same_gradients() -> None:
    reference = _attention((33, 34), width=8, heads=2)
    x = torch.randn(1, 33, 34, 8)
    gradients = []
    for attention in (reference, FusedAttention(reference)):
        own = x.clone().requires_grad_(True)
        attention(own).square().sum().backward()
        gradients.append(own.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_the_encoder_of_vit_b_gives_the_same_embedding(vit_b: Twins) -> None:
    assert all(isinstance(block.attn, Attention) for block in vit_b.reference.image_encoder.blocks)
    assert all(isinstance(block.attn, FusedAttention) for block in vit_b.fused.image_encoder.blocks)
    x = torch.randn(1, 3, 256, 256)
    expected = vit_b.reference.image_encoder(x)
    assert expected.shape == (1, 256, 16, 16)
    found = vit_b.fused.image_encoder(x)
    assert float((found - expected).norm() / expected.norm()) < 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


# Widths and heads of segment_anything/build_sam.py.
@pytest.mark.parametrize(("width", "heads"), [(1024, 16), (1280, 16)], ids=["vit_l", "vit_h"])
@torch.no_grad()
def test_blocks_of_the_larger_models_give_the_same_embedding(width: int, heads: int) -> None:
    encoder = ImageEncoderViT(
        img_size=128,
        embed_dim=width,
        depth=2,
        num_heads=heads,
        use_rel_pos=True,
        window_size=5,
        global_attn_indexes=(1,),
        out_chans=16,
    )
    for name, parameter in encoder.named_parameters():
        if "pos" in name:
            nn.init.normal_(parameter, std=0.1)
    x = torch.randn(1, 3, 128, 128)
    expected = encoder(x)
    fuse_attention(encoder)
    torch.testing.assert_close(encoder(x), expected, rtol=1e-4, atol=1e-4)


def test_fusing_keeps_the_state_dict_and_its_tensors() -> None:
    encoder = ImageEncoderViT(
        img_size=64, embed_dim=16, depth=2, num_heads=2, use_rel_pos=True, window_size=3, global_attn_indexes=(0,)
    )
    before = {key: value.data_ptr() for key, value in encoder.state_dict().items()}
    for _ in range(2):  # the second time there is nothing to do
        fuse_attention(encoder)
        assert {key: value.data_ptr() for key, value in encoder.state_dict().items()} == before
        assert all(isinstance(block.attn, FusedAttention) for block in encoder.blocks)


@pytest.mark.parametrize("split", range(8))
@torch.no_grad()
def test_prefix_and_suffix_make_the_whole_encoder(nano: Model, split: int) -> None:
    encoder = nano.loaded.sam.image_encoder
    assert block_count(encoder) == 6
    x = torch.randn(2, 3, 256, 256)[:, :, :128, :128]
    half = prefix(encoder, x, split)
    assert half.shape == ((2, 16, 16, 256) if split <= 6 else (2, 256, 16, 16))
    torch.testing.assert_close(suffix(encoder, half, split), encoder(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("split", [0, 1, 2, 3])
@torch.no_grad()
def test_prefix_and_suffix_do_not_forget_absolute_positions(tiny_sam: nn.Module, split: int) -> None:
    encoder: ImageEncoderViT = tiny_sam.image_encoder
    x = torch.randn(1, 3, 128, 128)
    torch.testing.assert_close(suffix(encoder, prefix(encoder, x, split), split), encoder(x), rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_the_prefix_runs_the_blocks_before_the_split_only(nano: Model) -> None:
    encoder = nano.loaded.sam.image_encoder
    x = torch.randn(1, 3, 128, 128)
    tokens: list[Tensor] = [encoder.patch_embed(x)]
    for block in encoder.blocks:
        tokens.append(block(tokens[-1]))
    for split, expected in enumerate(tokens):
        torch.testing.assert_close(prefix(encoder, x, split), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(256, 256), (100, 256), (256, 3)])
def test_pixels_are_normalised_and_padded_with_zeros(nano: Model, shape: tuple[int, int]) -> None:
    pixels = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8)
    made = preprocess(nano.loaded.sam, pixels)
    assert made.shape == (1, 3, 256, 256)
    assert made.dtype == torch.float32
    # The means and deviations of ImageNet, as in segment_anything/build_sam.py.
    by_hand = (pixels.double() - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375])
    inside = made[0, :, : shape[0], : shape[1]]
    torch.testing.assert_close(inside, by_hand.permute(2, 0, 1).float(), rtol=1e-5, atol=1e-5)
    outside = torch.ones(256, 256, dtype=torch.bool)
    outside[: shape[0], : shape[1]] = False
    assert not made[0][:, outside].any()
    planar = pixels.permute(2, 0, 1)[None]
    assert torch.equal(made, nano.loaded.sam.preprocess(planar))

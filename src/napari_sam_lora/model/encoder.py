"""SAM's image encoder with fused attention, run in two halves: a frozen prefix and a tuned suffix."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from segment_anything.modeling import ImageEncoderViT, Sam
from segment_anything.modeling.image_encoder import Attention, get_rel_pos
from torch import Tensor, nn


class FusedAttention(nn.Module):
    """The attention of `ImageEncoderViT` through ``scaled_dot_product_attention``.

    The decomposed relative position (MViTv2, arXiv 2112.01526, eq. 4) becomes the additive bias. Parameters and
    their names are those of the layer that it stands for.

    Parameters
    ----------
    attention : Attention
        Its submodules and parameters are used, not copied.
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.qkv = attention.qkv
        self.proj = attention.proj
        self.use_rel_pos = attention.use_rel_pos
        if self.use_rel_pos:
            self.rel_pos_h = attention.rel_pos_h
            self.rel_pos_w = attention.rel_pos_w

    def forward(self, x: Tensor) -> Tensor:
        """Attend among the tokens (b, h, w, d) of each window."""
        batch, height, width, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, height * width, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self._relative_position(q, height, width) if self.use_rel_pos else None
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(out.transpose(1, 2).reshape(batch, height, width, -1))

    def _relative_position(self, q: Tensor, height: int, width: int) -> Tensor:
        """Bias (b, heads, h * w, h * w) of queries (b, heads, h * w, d)."""
        grid = q.reshape(*q.shape[:2], height, width, -1)
        down = torch.einsum("bnhwc,hkc->bnhwk", grid, get_rel_pos(height, height, self.rel_pos_h))
        across = torch.einsum("bnhwc,wkc->bnhwk", grid, get_rel_pos(width, width, self.rel_pos_w))
        return (down[..., :, None] + across[..., None, :]).flatten(4).flatten(2, 3)


def fuse_attention(encoder: ImageEncoderViT) -> None:
    """Replace the attention of every block, in place; keys of the state dict stay."""
    for block in encoder.blocks:
        if isinstance(block.attn, Attention):
            block.attn = FusedAttention(block.attn)


def block_count(encoder: ImageEncoderViT) -> int:
    """Number of transformer blocks."""
    return len(encoder.blocks)


def prefix(encoder: ImageEncoderViT, x: Tensor, split: int) -> Tensor:
    """Run the encoder up to block ``split``, which is not run.

    Parameters
    ----------
    x : Tensor
        Model input (b, 3, s, s).
    split : int
        0 runs the patch embedding only; one more than the number of blocks runs the neck too.

    Returns
    -------
    Tensor
        Tokens (b, h, w, d), or the embedding (b, c, h, w) if the neck was run.
    """
    x = encoder.patch_embed(x)
    if encoder.pos_embed is not None:
        x = x + encoder.pos_embed
    for block in encoder.blocks[:split]:
        x = block(x)
    return _neck(encoder, x) if split > block_count(encoder) else x


def suffix(encoder: ImageEncoderViT, x: Tensor, split: int) -> Tensor:
    """Run what `prefix` with the same ``split`` left out; returns the embedding (b, c, h, w)."""
    if split > block_count(encoder):
        return x
    for block in encoder.blocks[split:]:
        x = block(x)
    return _neck(encoder, x)


def _neck(encoder: ImageEncoderViT, x: Tensor) -> Tensor:
    return encoder.neck(x.permute(0, 3, 1, 2))


def preprocess(sam: Sam, pixels: Tensor) -> Tensor:
    """Normalise and zero-pad resized pixels uint8 (h, w, 3) to the model input float32 (1, 3, s, s)."""
    plane = pixels.permute(2, 0, 1)[None].to(sam.pixel_mean.device)
    return sam.preprocess(plane)

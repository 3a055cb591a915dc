"""SAM's image encoder with fused attention, run in two halves: a frozen prefix and a tuned suffix."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as functional
from segment_anything.modeling import ImageEncoderViT, Sam
from segment_anything.modeling.image_encoder import Attention, get_rel_pos
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from napari_sam_lora.model.families.mobile import TinyViT

Encoder: TypeAlias = ImageEncoderViT | TinyViT

# Attention over more tokens than this is computed in chunks; a window of SAM has 196.
_TOKENS_AT_ONCE = 1024
# Rows of queries computed at once: their bias takes 16 MB at 64 x 64 tokens.
_ROWS_AT_ONCE = 16


class FusedAttention(nn.Module):
    """The attention of `ImageEncoderViT` through ``scaled_dot_product_attention``.

    The decomposed relative position (MViTv2, arXiv 2112.01526, eq. 4) becomes the additive bias. Over a whole plane
    that bias is large (0.8 GB for ViT-B at 1024 pixels). So it is computed for a few rows of queries of one head at a
    time; with gradients for one head at a time, and once more in the backward pass. Parameters and their names are
    those of the layer that it replaces.

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
        if self.use_rel_pos:
            out = self._attend(q, k, v, height, width)
        else:
            out = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(batch, height, width, -1))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, height: int, width: int) -> Tensor:
        """Compute attention (b, heads, h * w, d) with the relative position as bias."""
        down = get_rel_pos(height, height, self.rel_pos_h)
        across = get_rel_pos(width, width, self.rel_pos_w)
        if (
            height * width <= _TOKENS_AT_ONCE or torch.onnx.is_in_onnx_export()
        ):  # chunks would only enlarge an exported graph
            return _attention(q, k, v, down, across)
        if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
            heads = zip(q.split(1, 1), k.split(1, 1), v.split(1, 1), strict=True)
            return torch.cat([_recomputed_attention(*head, down, across) for head in heads], 1)
        out = torch.empty_like(q)
        for batch in range(q.shape[0]):
            for head in range(q.shape[1]):
                one = (slice(batch, batch + 1), slice(head, head + 1))
                for top in range(0, height, _ROWS_AT_ONCE):
                    rows = slice(top, min(height, top + _ROWS_AT_ONCE))
                    tokens = slice(rows.start * width, rows.stop * width)
                    queries = q[one][:, :, tokens]
                    bias = _relative_position(queries, down[rows], across)
                    out[one][:, :, tokens] = functional.scaled_dot_product_attention(
                        queries, k[one], v[one], attn_mask=bias
                    )
        return out


def _attention(q: Tensor, k: Tensor, v: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Compute attention (b, heads, h * w, d); see `_relative_position`."""
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=_relative_position(q, down, across))


def _recomputed_attention(q: Tensor, k: Tensor, v: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Compute the same; bias and weights are computed again in the backward pass instead of being stored."""
    return checkpoint(_attention, q, k, v, down, across, use_reentrant=False, preserve_rng_state=False)


def _relative_position(q: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Compute the bias (b, heads, r * w, h * w) of queries (b, heads, r * w, d) in r rows.

    Parameters
    ----------
    down : Tensor
        Relative position vectors from those rows to all rows, (r, h, d).
    across : Tensor
        Relative position vectors from all columns to all columns, (w, w, d).
    """
    grid = q.unflatten(2, (len(down), len(across)))
    vertical = torch.einsum("bnrwc,rkc->bnrwk", grid, down)
    horizontal = torch.einsum("bnrwc,wkc->bnrwk", grid, across)
    return (vertical[..., :, None] + horizontal[..., None, :]).flatten(4).flatten(2, 3)


def fuse_attention(encoder: Encoder) -> None:
    """Replace the attention of every block, in place; keys of the state dict stay."""
    for block in encoder.blocks:
        if isinstance(block.attn, Attention):
            block.attn = FusedAttention(block.attn)


def block_count(encoder: Encoder) -> int:
    """Return the number of transformer blocks."""
    return len(encoder.blocks)


def prefix(encoder: Encoder, x: Tensor, split: int) -> Tensor:
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
    x = _stem(encoder, x)
    for step in _steps(encoder)[:split]:
        x = step(x)
    return _neck(encoder, x) if split > block_count(encoder) else x


def suffix(encoder: Encoder, x: Tensor, split: int, recompute: bool = False) -> Tensor:
    """Run what `prefix` with the same ``split`` left out; returns the embedding (b, c, h, w).

    With ``recompute`` the activations inside a block are computed again in the backward pass instead of being stored.
    """
    if split > block_count(encoder):
        return x
    for step in _steps(encoder)[split:]:
        x = checkpoint(step, x, use_reentrant=False) if recompute else step(x)
    return _neck(encoder, x)


def _stem(encoder: Encoder, x: Tensor) -> Tensor:
    """Map pixels to the tokens (b, h, w, d) of the first block."""
    if isinstance(encoder, TinyViT):
        return encoder.stem(x)
    x = encoder.patch_embed(x)
    return x if encoder.pos_embed is None else x + encoder.pos_embed


def _steps(encoder: Encoder) -> list[Callable[[Tensor], Tensor]]:
    """List the steps of the encoder: one block each, with the downsampling that follows it, if any."""
    if isinstance(encoder, TinyViT):
        return [partial(encoder.step, index) for index in range(len(encoder.blocks))]
    return list(encoder.blocks)


def _neck(encoder: Encoder, x: Tensor) -> Tensor:
    return encoder.neck(x.permute(0, 3, 1, 2))


def preprocess(sam: Sam, pixels: Tensor) -> Tensor:
    """Normalise and zero-pad resized pixels uint8 (h, w, 3) to the model input float32 (1, 3, s, s)."""
    plane = pixels.permute(2, 0, 1)[None].to(sam.pixel_mean.device)
    return sam.preprocess(plane)

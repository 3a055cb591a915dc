"""Run a SAM at an input size other than the one it was trained at."""

from __future__ import annotations

import torch.nn.functional as functional
from segment_anything.modeling import Sam
from torch import Tensor, nn

from napari_sam_lora.errors import InputError
from napari_sam_lora.model.sharing import share


def stride(sam: Sam) -> int:
    """Return the side of the square of input pixels that one image token stands for."""
    return int(sam.image_encoder.img_size // sam.prompt_encoder.image_embedding_size[0])


def set_input_size(sam: Sam, size: int) -> None:
    """Set the side of the square model input, in place.

    Only the absolute position embedding depends on it. It is resized (bicubic) from the original one, which is kept
    as the buffer ``native_pos_embed``. segment-anything interpolates relative positions itself.

    Parameters
    ----------
    sam : Sam
        Changed in place.
    size : int
        Pixels, a multiple of the stride of the patch embedding.

    Raises
    ------
    InputError
        If the size is not a positive multiple of the stride.
    """
    encoder, prompt_encoder = sam.image_encoder, sam.prompt_encoder
    if size == encoder.img_size:
        return
    step = stride(sam)
    if size <= 0 or size % step:
        raise InputError(
            f"The input size must be a positive multiple of {step}, not {size}.", code="invalid-input-size"
        )
    tokens = size // step
    if encoder.pos_embed is not None:
        native = native_positions(sam)
        encoder.register_buffer("native_pos_embed", native, persistent=False)
        encoder.pos_embed = nn.Parameter(_resized(native, tokens), requires_grad=encoder.pos_embed.requires_grad)
    encoder.img_size = size
    prompt_encoder.input_image_size = (size, size)
    prompt_encoder.image_embedding_size = (tokens, tokens)
    prompt_encoder.mask_input_size = (4 * tokens, 4 * tokens)


def native_positions(sam: Sam) -> Tensor:
    """Return the absolute position embedding (1, h, w, d) at the original size of the model."""
    native = getattr(sam.image_encoder, "native_pos_embed", None)
    return sam.image_encoder.pos_embed.data if native is None else native


def _resized(positions: Tensor, tokens: int) -> Tensor:
    if positions.shape[1:3] == (tokens, tokens):
        return positions
    size = (tokens, tokens)
    resized = functional.interpolate(positions.permute(0, 3, 1, 2), size=size, mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).contiguous()


def at_input_size(sam: Sam, size: int) -> Sam:
    """Return a SAM over the same tensors at another input size, or ``sam`` if it has it; see `set_input_size`."""
    if size == sam.image_encoder.img_size:
        return sam
    tree = share(sam)
    set_input_size(tree, size)
    return tree.eval()


def mask_stride(sam: Sam) -> int:
    """Return the side of the square of input pixels that one pixel of the low-resolution mask stands for."""
    return int(sam.image_encoder.img_size // sam.prompt_encoder.mask_input_size[0])

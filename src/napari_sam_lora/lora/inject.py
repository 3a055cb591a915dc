"""Where the low-rank layers sit, and a second module tree over the same frozen tensors to hold them."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import torch
from segment_anything.modeling import MaskDecoder, Sam
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn

from napari_sam_lora.errors import InputError
from napari_sam_lora.lora.layers import LoRALinear, LoRAQKV
from napari_sam_lora.model.encoder import block_count

Mode = Literal["decoder", "late", "full"]
TuneDecoder = Literal["lora", "all"]
MODES: tuple[Mode, ...] = ("decoder", "late", "full")


@dataclass(frozen=True)
class LoRAConfig:
    """Which layers an adapter changes, and how.

    Attributes
    ----------
    first_block : int
        LoRA sits in this encoder block and all later ones; the number of blocks for none.
    rank : int
    alpha : float
    targets : tuple of str
        Among "q", "k", "v".
    tune_decoder : "lora" or "all"
        LoRA on the attention and the output heads of the mask decoder, or new values for all its weights.
    """

    first_block: int
    rank: int = 4
    alpha: float = 4.0
    targets: tuple[str, ...] = ("q", "v")
    tune_decoder: TuneDecoder = "lora"

    def __post_init__(self) -> None:
        if self.first_block < 0 or self.rank < 1 or self.alpha <= 0:
            raise InputError("The first block must be at least 0, the rank at least 1 and alpha more than 0.")
        if not set(self.targets) <= {"q", "k", "v"} or not self.targets:
            raise InputError(f"Targets are some of q, k and v, not {self.targets}.")
        if self.tune_decoder not in ("lora", "all"):
            raise InputError(f'tune_decoder is "lora" or "all", not {self.tune_decoder!r}.')


def first_block(sam: Sam, mode: Mode, late_blocks: int | None = None) -> int:
    """The first encoder block with LoRA.

    Parameters
    ----------
    mode : str
        "decoder", "late" or "full".
    late_blocks : int, optional
        Number of last blocks in "late" mode: by default a third of them.
    """
    blocks = block_count(sam.image_encoder)
    if mode == "decoder":
        return blocks
    if mode == "full":
        return 0
    last = max(1, blocks // 3) if late_blocks is None else late_blocks
    if not 1 <= last <= blocks:
        raise InputError(f"This model has {blocks} encoder blocks; late_blocks cannot be {last}.")
    return blocks - last


def encoder_split(sam: Sam, config: LoRAConfig) -> int:
    """Where the frozen prefix ends, see `napari_sam_lora.model.encoder.prefix`; the neck is frozen too."""
    blocks = block_count(sam.image_encoder)
    return config.first_block if config.first_block < blocks else blocks + 1


def attach(sam: Sam, config: LoRAConfig) -> Sam:
    """A second module tree with the layers of an adapter, over the same tensors.

    Parameters
    ----------
    sam : Sam
        Not changed, and not copied: every frozen parameter of the result is the same tensor.
    config : LoRAConfig

    Returns
    -------
    Sam
        In evaluation mode; only the adapter's tensors require gradients.
    """
    tree = share(sam)
    tree.requires_grad_(False)
    for block in tree.image_encoder.blocks[config.first_block :]:
        block.attn.qkv = LoRAQKV(block.attn.qkv, config.rank, config.alpha, config.targets)
    if config.tune_decoder == "all":
        for module in tree.mask_decoder.modules():
            for name, value in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(value.detach().clone()))
    else:
        for parent, name, layer in list(_decoder_linears(tree.mask_decoder)):
            parent._modules[name] = LoRALinear(layer, config.rank, config.alpha)
    for value in adapter_parameters(tree).values():
        value.requires_grad_(True)
    return tree.to(sam.device).eval()


def share(module: Any) -> Any:
    """Copy a module tree, but none of its tensors."""
    tensors = chain(module.parameters(), module.buffers())
    return deepcopy(module, {id(tensor): tensor for tensor in tensors})


def adapter_parameters(tree: Sam) -> dict[str, nn.Parameter]:
    """The tensors of a tree made by `attach` that belong to the adapter, by name."""
    named = dict(tree.named_parameters())
    low_rank = {name: value for name, value in named.items() if ".lora." in name}
    if any(name.startswith("mask_decoder.") for name in low_rank):
        return low_rank
    return low_rank | {name: value for name, value in named.items() if name.startswith("mask_decoder.")}


@torch.no_grad()
def set_adapter(tree: Sam, tensors: dict[str, Tensor]) -> None:
    """Copy tensors into the adapter's parameters of a tree.

    Raises
    ------
    ValueError
        If names or shapes differ.
    """
    parameters = adapter_parameters(tree)
    if parameters.keys() != tensors.keys():
        odd = sorted(parameters.keys() ^ tensors.keys())
        raise ValueError(f"{len(odd)} tensors do not fit, the first is {odd[0]}.")
    for name, value in tensors.items():
        if parameters[name].shape != value.shape:
            raise ValueError(f"{name} is {tuple(value.shape)}, not {tuple(parameters[name].shape)}.")
        parameters[name].copy_(value)


def _decoder_linears(decoder: MaskDecoder) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """Linear layers of the decoder's attention, of its mask heads and of its IoU head."""
    parents = [module for module in decoder.transformer.modules() if isinstance(module, Attention)]
    parents += [head.layers for head in (*decoder.output_hypernetworks_mlps, decoder.iou_prediction_head)]
    for parent in parents:
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Linear):
                yield parent, name, layer

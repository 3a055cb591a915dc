"""Choose the layers of an adapter, and attach them to a second module tree over the same frozen tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from segment_anything.modeling import MaskDecoder, Sam
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn

from napari_sam_lora.errors import InputError
from napari_sam_lora.lora.layers import QKV, LoRAConv2d, LoRALinear, LoRAQKV
from napari_sam_lora.model.encoder import block_count
from napari_sam_lora.model.families.mobile import WindowAttention
from napari_sam_lora.model.families.nano_refine import RefiningMaskDecoder
from napari_sam_lora.model.sharing import share
from napari_sam_lora.parameters.training import Mode, TuneDecoder

TARGETS = (*QKV, "proj", "mlp")


@dataclass(frozen=True)
class LoRAConfig:
    """Layers that an adapter changes, and how.

    Attributes
    ----------
    blocks : tuple of int
        Encoder blocks with low-rank layers, counted from 0; empty for none.
    rank : int
    alpha : float
        The low-rank additions are multiplied by alpha / rank.
    targets : tuple of str
        Layers of those blocks: "q", "k" and "v" of the attention, its output projection "proj", and "mlp".
    tune_decoder : str
        "lora": low-rank layers in the attention and the output heads of the mask decoder, and in all layers that refine
        its masks in sam_nano; "all": new values for all its weights; "none": the decoder stays as it is.
    dropout : float
        Probability with which an input of a low-rank layer is dropped in training.

    Raises
    ------
    InputError
        If a value is out of range or unknown, or no layer would be changed.
    """

    blocks: tuple[int, ...]
    rank: int = 4
    alpha: float = 4.0
    targets: tuple[str, ...] = ("q", "v")
    tune_decoder: TuneDecoder = "lora"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(sorted(set(self.blocks))))
        if set(self.targets) <= set(TARGETS):
            object.__setattr__(self, "targets", tuple(name for name in TARGETS if name in self.targets))
        if any(block < 0 for block in self.blocks):
            raise InputError(f"Encoder blocks are counted from 0, not {self.blocks[0]}.", code="blocks-out-of-range")
        for name, is_valid, rule in (
            ("rank", self.rank >= 1, "at least 1"),
            ("alpha", self.alpha > 0, "more than 0"),
            ("dropout", 0 <= self.dropout < 1, "at least 0 and less than 1"),
        ):
            if not is_valid:
                raise InputError(f"{name} must be {rule}, not {getattr(self, name)}.", code=f"{name}-out-of-range")
        if not set(self.targets) <= set(TARGETS) or not self.targets:
            raise InputError(f"Targets are some of {', '.join(TARGETS)}, not {self.targets}.", code="unknown-target")
        if self.tune_decoder not in ("lora", "all", "none"):
            raise InputError(
                f'tune_decoder is "lora", "all" or "none", not {self.tune_decoder!r}.', code="unknown-tune-decoder"
            )
        if self.tune_decoder == "none" and not self.blocks:
            raise InputError(
                "Nothing would be changed: choose encoder blocks, or tune the decoder.", code="nothing-to-change"
            )


def tuned_blocks(sam: Sam, mode: Mode, late_blocks: int | None = None) -> tuple[int, ...]:
    """Return the encoder blocks that a mode changes.

    Parameters
    ----------
    mode : str
        "decoder", "late" or "full".
    late_blocks : int, optional
        Number of last blocks in "late" mode: by default a third of them.
    """
    count = block_count(sam.image_encoder)
    if mode == "decoder":
        return ()
    if mode == "full":
        return tuple(range(count))
    last = max(1, count // 3) if late_blocks is None else late_blocks
    if not 1 <= last <= count:
        raise InputError(
            f"This model has {count} encoder blocks; late_blocks cannot be {last}.", code="late_blocks-out-of-range"
        )
    return tuple(range(count - last, count))


def encoder_split(sam: Sam, config: LoRAConfig) -> int:
    """Return where the frozen prefix ends, see `napari_sam_lora.model.encoder.prefix`; the neck is frozen too."""
    return config.blocks[0] if config.blocks else block_count(sam.image_encoder) + 1


def attach(sam: Sam, config: LoRAConfig) -> Sam:
    """Make a second module tree with the layers of an adapter, over the same tensors.

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
    count = block_count(sam.image_encoder)
    if config.blocks and config.blocks[-1] >= count:
        raise InputError(
            f"This model has {count} encoder blocks; there is no block {config.blocks[-1]}.", code="blocks-out-of-range"
        )
    tree = share(sam)
    tree.requires_grad_(False)
    for index in config.blocks:
        _wrap_block(tree.image_encoder.blocks[index], config)
    if config.tune_decoder == "all":
        for module in tree.mask_decoder.modules():
            for name, value in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(value.detach().clone()))
    elif config.tune_decoder == "lora":
        for parent, name, layer in list(_decoder_layers(tree.mask_decoder)):
            kind = LoRAConv2d if isinstance(layer, nn.Conv2d) else LoRALinear
            parent._modules[name] = kind(layer, config.rank, config.alpha, config.dropout)
    return tree.to(sam.device).eval()


def _wrap_block(block: nn.Module, config: LoRAConfig) -> None:
    """Add the low-rank layers to an encoder block, in place."""
    settings = (config.rank, config.alpha)
    attention: Any = block.attn
    mlp: Any = block.mlp
    projections = [name for name in config.targets if name in QKV]
    if projections:
        groups = attention.num_heads if isinstance(attention, WindowAttention) else 1
        attention.qkv = LoRAQKV(attention.qkv, *settings, projections, config.dropout, groups)
    if "proj" in config.targets:
        attention.proj = LoRALinear(attention.proj, *settings, config.dropout)
    if "mlp" in config.targets:
        for name in ("fc1", "fc2") if isinstance(attention, WindowAttention) else ("lin1", "lin2"):
            setattr(mlp, name, LoRALinear(getattr(mlp, name), *settings, config.dropout))


def adapter_parameters(tree: Sam) -> dict[str, nn.Parameter]:
    """Return the adapter's tensors in a tree made by `attach`, by name: those that require gradients."""
    return {name: value for name, value in tree.named_parameters() if value.requires_grad}


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
        differing = sorted(parameters.keys() ^ tensors.keys())
        raise ValueError(f"{len(differing)} tensors do not fit, the first is {differing[0]}.")
    for name, value in tensors.items():
        if parameters[name].shape != value.shape:
            raise ValueError(f"{name} is {tuple(value.shape)}, not {tuple(parameters[name].shape)}.")
        parameters[name].copy_(value)


def _decoder_layers(decoder: MaskDecoder) -> Iterator[tuple[nn.Module, str, Any]]:
    """Yield the linear layers of the decoder's attention, mask heads and IoU head, and all layers of a refiner."""
    parents = [module for module in decoder.transformer.modules() if isinstance(module, Attention)]
    parents += [head.layers for head in (*decoder.output_hypernetworks_mlps, decoder.iou_prediction_head)]
    if isinstance(decoder, RefiningMaskDecoder):
        parents += decoder.refiner.modules()
    for parent in parents:
        for name, layer in parent.named_children():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                yield parent, name, layer

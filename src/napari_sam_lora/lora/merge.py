"""Merge an adapter into full weights, for export under SAM's own keys."""

from __future__ import annotations

import errno
from pathlib import Path

import torch
import torch.nn.functional as functional
from safetensors import SafetensorError
from safetensors.torch import save_file
from segment_anything.modeling import Sam
from torch import Tensor, nn

from napari_sam_lora.errors import InputError
from napari_sam_lora.files import atomic_path
from napari_sam_lora.lora.layers import Adapted
from napari_sam_lora.model.input_size import native_positions

_ENDINGS = (".pth", ".pt", ".safetensors")


class MergedLayer(nn.Module):
    """A plain layer in place of a low-rank one, which is kept for `unmerge`.

    Parameters
    ----------
    adapted : LoRALinear, LoRAQKV or LoRAConv2d
    """

    weight: Tensor

    def __init__(self, adapted: Adapted) -> None:
        super().__init__()
        self.register_buffer("weight", adapted.merged_weight().detach())
        self.base_layer = adapted.base_layer
        self._adapted = (adapted,)  # in a tuple, so that it is no submodule and its tensors are not in the state dict

    def forward(self, x: Tensor) -> Tensor:
        """Map the input of the layer to its output."""
        base = self.base_layer
        if isinstance(base, nn.Conv2d):
            return functional.conv2d(x, self.weight, base.bias, base.stride, base.padding, base.dilation)
        return functional.linear(x, self.weight, base.bias)

    @property
    def adapted(self) -> Adapted:
        """Low-rank layer that it replaces."""
        return self._adapted[0]


@torch.no_grad()
def merge(tree: Sam) -> None:
    """Merge the low-rank layers of an adapted tree into plain ones, in place; the base's tensors are not changed."""
    for name, module in list(tree.named_modules()):
        if isinstance(module, Adapted):
            _replace(tree, name, MergedLayer(module))


def unmerge(tree: Sam) -> None:
    """Undo `merge` exactly: put back the low-rank layers."""
    for name, module in list(tree.named_modules()):
        if isinstance(module, MergedLayer):
            _replace(tree, name, module.adapted)


@torch.no_grad()
def merged_state(tree: Sam) -> dict[str, Tensor]:
    """Return the state dict of a plain SAM that computes what an adapted tree computes.

    Parameters
    ----------
    tree : Sam
        From `Adapter.apply`; neither it nor the base model that it shares tensors with is changed.

    Returns
    -------
    dict of str to Tensor
        float32 on the CPU, with exactly the keys of the base model, at the model's native input size, whatever size
        the adapter was trained at.
    """
    state = {
        name.replace(".base_layer.", "."): value.detach().cpu()
        for name, value in tree.state_dict().items()
        if ".lora." not in name
    }
    for name, module in tree.named_modules():
        if isinstance(module, Adapted):
            state[f"{name}.weight"] = module.merged_weight().detach().cpu()
        elif isinstance(module, MergedLayer):
            state[f"{name}.weight"] = module.adapted.merged_weight().detach().cpu()
    if tree.image_encoder.pos_embed is not None:
        state["image_encoder.pos_embed"] = native_positions(tree).detach().cpu()
    return {name: value.contiguous() for name, value in state.items()}


def save_merged(path: str | Path, tree: Sam) -> Path:
    """Write the merged weights as a SAM checkpoint (.pth, .pt or .safetensors), atomically.

    A .pth loads strictly with ``segment_anything.sam_model_registry``.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    target = Path(path)
    if target.suffix not in _ENDINGS:
        raise InputError(
            f"The name of a checkpoint must end in {', '.join(_ENDINGS)}, unlike {target.name}.",
            code="wrong-file-ending",
        )
    state = merged_state(tree)
    with atomic_path(target) as temporary:
        try:
            save_file(state, temporary) if target.suffix == ".safetensors" else torch.save(state, temporary)
        except (SafetensorError, RuntimeError) as error:  # how both libraries say that a disk is full
            raise OSError(errno.EIO, f"The checkpoint could not be written ({error})", str(target)) from error
    return target


def _replace(tree: Sam, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    tree.get_submodule(parent)._modules[last] = module

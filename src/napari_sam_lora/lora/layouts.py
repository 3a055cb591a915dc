"""How other projects store low-rank adapters: their names of tensors, and what is added to what.

A projection of encoder block n gains B A x; all layouts are brought to this form, with the scale folded into B.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from napari_sam_lora.errors import AdapterError

State = dict[str, Tensor]
Pair = tuple[Tensor, Tensor]  # A (r, d_in), B (d_out, r)
_WRAPPERS = ("model_state", "model", "state_dict", "sam")
_UNREADABLE = (RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError)
_QKV = r"image_encoder\.blocks\.(\d+)\.attn\.qkv\."


@dataclass(frozen=True, eq=False)
class Foreign:
    """An adapter of another project.

    Attributes
    ----------
    layout : str
        Name of the project.
    encoder : list of dict
        Of each adapted block, in order: "q", "k", "v" to its pair.
    blocks : tuple of int or None
        Their numbers; None if the file does not say them.
    decoder : dict of str to pair
        Low-rank layers of the mask decoder, by the name of their linear layer.
    weights : dict of str to Tensor
        Full weights in the file, under SAM's names: of the base, and those that were tuned.
    """

    layout: str
    encoder: list[dict[str, Pair]]
    blocks: tuple[int, ...] | None = None
    decoder: dict[str, Pair] = field(default_factory=dict)
    weights: State = field(default_factory=dict)


class UnknownAlphaError(AdapterError):
    """The file does not say by what its addition is multiplied: ask, and import it with ``alpha``.

    Attributes
    ----------
    rank : int
        Alpha is often the same number.
    """

    def __init__(self, message: str, rank: int) -> None:
        super().__init__(message)
        self.rank = rank


def read_foreign(path: Path, alpha: float | None = None) -> Foreign:
    """Read an adapter and recognise its layout.

    Parameters
    ----------
    path : Path
        .safetensors, .pth or .pt; only tensors are read.
    alpha : float, optional
        For LoRA-ViT, whose files do not hold it.

    Raises
    ------
    AdapterError
        If the file is damaged or of no known layout, or needs alpha.
    """
    state = _read(path)
    for recognise in (_numbered, _finetune_sam, _medical_sam_adapter, _micro_sam):
        found = recognise(state, path.name, alpha)
        if found is not None:
            return found
    raise AdapterError(
        f"{path.name} is not in the layout of Sam_LoRA, LoRA-ViT, SAMed, finetune-SAM, Medical-SAM-Adapter or "
        f"micro-sam: it holds {next(iter(state), 'nothing')!r}."
    )


def _read(path: Path) -> State:
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except FileNotFoundError as error:
        raise AdapterError(f"There is no file {path}.") from error
    except (SafetensorError, pickle.UnpicklingError, *_UNREADABLE) as error:
        raise AdapterError(f"{path.name} is damaged, or holds more than tensors and was not opened: {error}") from error
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        raise AdapterError(f"{path.name} holds no tensors by name.")
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    return {
        re.sub(r"^(module\.)?(sam\.)?", "", key): value.float() if value.is_floating_point() else value
        for key, value in tensors.items()
    }


def _numbered(state: State, name: str, alpha: float | None) -> Foreign | None:
    """Sam_LoRA and JamesQFreeman's LoRA for SAM; with ``fc_`` LoRA-ViT, with a decoder SAMed."""
    numbers = {key: match for key in state if (match := re.fullmatch(r"w_([ab])_(\d+)", key))}
    if not numbers:
        return None
    odd = [
        key for key in state if key not in numbers and not key.startswith(("fc_", "prompt_encoder.", "mask_decoder."))
    ]
    if odd:
        raise AdapterError(f"{name} is not in the layout of Sam_LoRA: it holds {odd[0]!r}.")
    found: dict[str, dict[int, Tensor]] = {"a": {}, "b": {}}
    for key, match in numbers.items():
        found[match[1]][int(match[2])] = state[key]
    count = len(found["a"])
    if not count or count % 2 or any(sorted(part) != list(range(count)) for part in found.values()):
        raise AdapterError(f"{name} is not in the layout of Sam_LoRA: its w_a and w_b are not pairs of q and v.")
    scale = 1.0
    is_lora_vit = any(key.startswith("fc_") for key in state)
    rank = found["a"][0].shape[0]
    if is_lora_vit:
        if alpha is None:
            raise UnknownAlphaError(
                f"{name} is of LoRA-ViT and does not hold the alpha it was trained with: give it (alpha).", rank
            )
        scale = float(alpha // rank)
        if not scale:
            raise AdapterError(
                f"With alpha {alpha:g} and rank {rank} LoRA-ViT adds nothing: it divides as whole numbers."
            )
    pairs = [(found["a"][number], found["b"][number] * scale) for number in range(count)]
    blocks = [{"q": pairs[number], "v": pairs[number + 1]} for number in range(0, count, 2)]
    weights = {key: value for key, value in state.items() if key.startswith(("prompt_encoder.", "mask_decoder."))}
    layout = "LoRA-ViT" if is_lora_vit else "SAMed" if weights else "Sam_LoRA"
    return Foreign(layout, blocks, weights=weights)


def _finetune_sam(state: State, name: str, alpha: float | None) -> Foreign | None:
    """A full checkpoint with ``qkv.linear_a_q`` and, in the decoder, ``q_proj.w_a``."""
    blocks = _by_block(state, re.compile(_QKV + r"linear_([ab])_([qkv])\.weight"))
    layers = _decoder_pairs(state)
    if not blocks and not layers:
        return None
    renamed = {re.sub(r"\.qkv\.qkv\.", ".qkv.", key).replace("_proj.proj.", "_proj."): v for key, v in state.items()}
    weights = {key: value for key, value in renamed.items() if not re.search(r"linear_[ab]_|\.w_[ab]\.", key)}
    return Foreign("finetune-SAM", list(blocks.values()), tuple(blocks), layers, weights)


def _decoder_pairs(state: State) -> dict[str, Pair]:
    names = [
        key.removesuffix(".w_a.weight") for key in state if re.fullmatch(r"mask_decoder\..*_proj\.w_a\.weight", key)
    ]
    return {
        layer: (state[f"{layer}.w_a.weight"], state[f"{layer}.w_b.weight"])
        for layer in names
        if f"{layer}.w_b.weight" in state
    }


def _medical_sam_adapter(state: State, name: str, alpha: float | None) -> Foreign | None:
    """``qkv.lora_A`` of q and v one after the other, as loralib's MergedLinear; scale 1 / r."""
    blocks: dict[int, dict[str, Pair]] = {}
    for key, value in state.items():
        match = re.fullmatch(_QKV + "lora_A", key)
        other = state.get(key[:-1] + "B")
        if match is None or other is None:
            continue
        rank = other.shape[-1]
        if value.shape[0] != 2 * rank or other.shape[0] % 2:
            raise AdapterError(f"{name} is damaged: {key} should hold the {rank} rows of q and those of v.")
        half = other.shape[0] // 2
        b = other / rank
        blocks[int(match[1])] = {"q": (value[:rank], b[:half]), "v": (value[rank:], b[half:])}
    if not blocks:
        return None
    if any("Adapter" in key for key in state):
        raise AdapterError(f"{name} holds bottleneck adapters beside LoRA, which cannot be imported.")
    weights = {key: value for key, value in state.items() if not key.endswith((".lora_A", ".lora_B"))}
    ordered = dict(sorted(blocks.items()))
    return Foreign("Medical-SAM-Adapter", list(ordered.values()), tuple(ordered), weights=weights)


def _micro_sam(state: State, name: str, alpha: float | None) -> Foreign | None:
    """A complete state dict with ``qkv.w_a_linear_q`` and the base as ``qkv.qkv_proj``."""
    blocks = _by_block(state, re.compile(_QKV + r"w_([ab])_linear_([qkv])\.weight"))
    if not blocks:
        return None
    known = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
    weights = {
        key.replace(".qkv.qkv_proj.", ".qkv."): value
        for key, value in state.items()
        if key.startswith(known) and "_linear_" not in key
    }
    return Foreign("micro-sam", list(blocks.values()), tuple(blocks), weights=weights)


def _by_block(state: State, pattern: re.Pattern[str]) -> dict[int, dict[str, Pair]]:
    """Pairs of keys that name the block, a or b, and the part."""
    halves: dict[tuple[int, str], dict[str, Tensor]] = {}
    for key, value in state.items():
        match = pattern.fullmatch(key)
        if match is not None:
            halves.setdefault((int(match[1]), match[3]), {})[match[2]] = value
    blocks: dict[int, dict[str, Pair]] = {}
    for (block, part), half in sorted(halves.items()):
        if half.keys() != {"a", "b"}:
            raise AdapterError(f"The adapter is damaged: of {part} in encoder block {block} only a half is there.")
        blocks.setdefault(block, {})[part] = (half["a"], half["b"])
    return blocks

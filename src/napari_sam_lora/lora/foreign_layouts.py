"""Read low-rank adapters of other projects: recognise each layout by its tensor names.

A projection of encoder block n gains B A x; all layouts are converted to this form, with the scale multiplied into B.
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
class ForeignAdapter:
    """An adapter of another project.

    Attributes
    ----------
    layout : str
        Name of the project.
    encoder : list of dict
        For each adapted block, in order: the pair of "q", "k" and "v".
    blocks : tuple of int or None
        Numbers of these blocks; None if they are not in the file.
    decoder : dict of str to pair
        Low-rank layers of the mask decoder, by the name of their linear layer.
    weights : dict of str to Tensor
        Full weights in the file, under SAM's names: those of the base model, and those that were tuned.
    """

    layout: str
    encoder: list[dict[str, Pair]]
    blocks: tuple[int, ...] | None = None
    decoder: dict[str, Pair] = field(default_factory=dict)
    weights: State = field(default_factory=dict)


class UnknownAlphaError(AdapterError):
    """The file does not hold the scale of its low-rank layers: ask the user, and import it with ``alpha``.

    Attributes
    ----------
    rank : int
        Alpha is often the same number.
    """

    def __init__(self, message: str, rank: int) -> None:
        super().__init__(message, code="unknown-alpha")
        self.rank = rank


def read_foreign(path: Path, alpha: float | None = None) -> ForeignAdapter:
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
    for read_layout in (_numbered, _finetune_sam, _medical_sam_adapter, _micro_sam):
        adapter = read_layout(state, path.name, alpha)
        if adapter is not None:
            return adapter
    raise AdapterError(
        f"{path.name} is not in the layout of Sam_LoRA, LoRA-ViT, SAMed, finetune-SAM, Medical-SAM-Adapter or "
        f"micro-sam: it holds {next(iter(state), 'nothing')!r}.",
        code="unknown-layout",
    )


def _read(path: Path) -> State:
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except FileNotFoundError as error:
        raise AdapterError(f"There is no file {path}.", code="adapter-not-found") from error
    except (SafetensorError, pickle.UnpicklingError, *_UNREADABLE) as error:
        raise AdapterError(
            f"{path.name} is damaged, or holds more than tensors and was not opened: {error}",
            code="adapter-file-damaged",
        ) from error
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        raise AdapterError(f"{path.name} holds no named tensors.", code="no-named-tensors")
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    return {
        re.sub(r"^(module\.)?(sam\.)?", "", key): value.float() if value.is_floating_point() else value
        for key, value in tensors.items()
    }


def _numbered(state: State, name: str, alpha: float | None) -> ForeignAdapter | None:
    """Read Sam_LoRA and JamesQFreeman's LoRA for SAM; with ``fc_`` it is LoRA-ViT, with a decoder SAMed."""
    numbers = {key: match for key in state if (match := re.fullmatch(r"w_([ab])_(\d+)", key))}
    if not numbers:
        return None
    unexpected = [
        key for key in state if key not in numbers and not key.startswith(("fc_", "prompt_encoder.", "mask_decoder."))
    ]
    if unexpected:
        raise AdapterError(
            f"{name} is not in the layout of Sam_LoRA: it holds {unexpected[0]!r}.", code="unknown-layout"
        )
    factors: dict[str, dict[int, Tensor]] = {"a": {}, "b": {}}
    for key, match in numbers.items():
        factors[match[1]][int(match[2])] = state[key]
    count = len(factors["a"])
    if not count or count % 2 or any(sorted(half) != list(range(count)) for half in factors.values()):
        raise AdapterError(
            f"{name} is not in the layout of Sam_LoRA: its w_a and w_b are not pairs of q and v.",
            code="incomplete-pairs",
        )
    scale = 1.0
    is_lora_vit = any(key.startswith("fc_") for key in state)
    rank = factors["a"][0].shape[0]
    if is_lora_vit:
        if alpha is None:
            raise UnknownAlphaError(
                f"{name} is an adapter of LoRA-ViT, which does not hold the alpha it was trained with: "
                "import it with this number (alpha).",
                rank,
            )
        scale = float(alpha // rank)
        if not scale:
            raise AdapterError(
                f"With alpha {alpha:g} and rank {rank} LoRA-ViT adds nothing: its scale is alpha // rank.",
                code="alpha-adds-nothing",
            )
    pairs = [(factors["a"][number], factors["b"][number] * scale) for number in range(count)]
    blocks = [{"q": pairs[number], "v": pairs[number + 1]} for number in range(0, count, 2)]
    weights = {key: value for key, value in state.items() if key.startswith(("prompt_encoder.", "mask_decoder."))}
    layout = "LoRA-ViT" if is_lora_vit else "SAMed" if weights else "Sam_LoRA"
    return ForeignAdapter(layout, blocks, weights=weights)


def _finetune_sam(state: State, name: str, alpha: float | None) -> ForeignAdapter | None:
    """Read a full checkpoint with ``qkv.linear_a_q`` and, in the decoder, ``q_proj.w_a``."""
    blocks = _by_block(state, re.compile(_QKV + r"linear_([ab])_([qkv])\.weight"))
    layers = _decoder_pairs(state)
    if not blocks and not layers:
        return None
    renamed = {re.sub(r"\.qkv\.qkv\.", ".qkv.", key).replace("_proj.proj.", "_proj."): v for key, v in state.items()}
    weights = {key: value for key, value in renamed.items() if not re.search(r"linear_[ab]_|\.w_[ab]\.", key)}
    return ForeignAdapter("finetune-SAM", list(blocks.values()), tuple(blocks), layers, weights)


def _decoder_pairs(state: State) -> dict[str, Pair]:
    names = [
        key.removesuffix(".w_a.weight") for key in state if re.fullmatch(r"mask_decoder\..*_proj\.w_a\.weight", key)
    ]
    return {
        layer: (state[f"{layer}.w_a.weight"], state[f"{layer}.w_b.weight"])
        for layer in names
        if f"{layer}.w_b.weight" in state
    }


def _medical_sam_adapter(state: State, name: str, alpha: float | None) -> ForeignAdapter | None:
    """Read ``qkv.lora_A`` with the rows of q and then of v, as in loralib's MergedLinear; scale 1 / r."""
    blocks: dict[int, dict[str, Pair]] = {}
    for key, value in state.items():
        match = re.fullmatch(_QKV + "lora_A", key)
        other = state.get(key[:-1] + "B")
        if match is None or other is None:
            continue
        rank = other.shape[-1]
        if value.shape[0] != 2 * rank or other.shape[0] % 2:
            raise AdapterError(
                f"{name} is damaged: {key} should hold {rank} rows for q and {rank} for v.",
                code="adapter-shapes-do-not-fit",
            )
        half = other.shape[0] // 2
        b = other / rank
        blocks[int(match[1])] = {"q": (value[:rank], b[:half]), "v": (value[rank:], b[half:])}
    if not blocks:
        return None
    if any("Adapter" in key for key in state):
        raise AdapterError(
            f"{name} holds bottleneck adapters besides LoRA, which cannot be imported.", code="bottleneck-adapters"
        )
    weights = {key: value for key, value in state.items() if not key.endswith((".lora_A", ".lora_B"))}
    ordered = dict(sorted(blocks.items()))
    return ForeignAdapter("Medical-SAM-Adapter", list(ordered.values()), tuple(ordered), weights=weights)


def _micro_sam(state: State, name: str, alpha: float | None) -> ForeignAdapter | None:
    """Read a complete state dict with ``qkv.w_a_linear_q`` and the base weights as ``qkv.qkv_proj``."""
    blocks = _by_block(state, re.compile(_QKV + r"w_([ab])_linear_([qkv])\.weight"))
    if not blocks:
        return None
    prefixes = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
    weights = {
        key.replace(".qkv.qkv_proj.", ".qkv."): value
        for key, value in state.items()
        if key.startswith(prefixes) and "_linear_" not in key
    }
    return ForeignAdapter("micro-sam", list(blocks.values()), tuple(blocks), weights=weights)


def _by_block(state: State, pattern: re.Pattern[str]) -> dict[int, dict[str, Pair]]:
    """Collect pairs from keys in which the pattern finds the block, a or b, and q, k or v."""
    halves: dict[tuple[int, str], dict[str, Tensor]] = {}
    for key, value in state.items():
        match = pattern.fullmatch(key)
        if match is not None:
            halves.setdefault((int(match[1]), match[3]), {})[match[2]] = value
    blocks: dict[int, dict[str, Pair]] = {}
    for (block, projection), pair in sorted(halves.items()):
        if pair.keys() != {"a", "b"}:
            raise AdapterError(
                f"The adapter is damaged: of {projection} in encoder block {block} only one of A and B is there.",
                code="incomplete-pairs",
            )
        blocks.setdefault(block, {})[projection] = (pair["a"], pair["b"])
    return blocks

"""Adapters made by other projects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from napari_sam_lora.errors import AdapterError
from napari_sam_lora.lora.adapter import Adapter, AdapterInfo
from napari_sam_lora.lora.inject import LoRAConfig
from napari_sam_lora.model.checkpoints import LoadedModel
from napari_sam_lora.model.encoder import block_count

_PAIR_NAME = re.compile(r"w_([ab])_(\d+)")


def import_sam_lora(path: str | Path, loaded: LoadedModel, blocks: Sequence[int] | None = None) -> Adapter:
    """Read an adapter in the layout of Sam_LoRA (MathieuNlp) and of JamesQFreeman's LoRA for SAM.

    Such a file holds ``w_a_NNN`` (r, d) and ``w_b_NNN`` (d, r), float32: number 2 i is the query, number 2 i + 1 the
    value of the i-th adapted encoder block. They are added with scale 1. The file does not say which weights it was
    trained on.

    Parameters
    ----------
    path : path-like
        A .safetensors file.
    loaded : LoadedModel
        The base model that it was trained on.
    blocks : sequence of int, optional
        The encoder blocks that were adapted, if not all of them were.

    Returns
    -------
    Adapter
        It computes what the wrapper of those projects computes.

    Raises
    ------
    AdapterError
        If the file is damaged, of another layout, or does not fit the base model.
    """
    source = Path(path)
    try:
        held = load_file(source)
    except FileNotFoundError as error:
        raise AdapterError(f"There is no file {source}.") from error
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{source.name} is damaged or not a .safetensors file: {error}") from error
    pairs = _pairs(held, source.name)
    chosen = _blocks(len(pairs) // 2, block_count(loaded.sam.image_encoder), blocks, source.name)
    rank, width = pairs[0][0].shape
    expected = loaded.sam.image_encoder.blocks[0].attn.proj.in_features
    if width != expected:
        raise AdapterError(
            f"{source.name} was trained on an encoder of width {width}; {loaded.name} has {expected}. "
            "768 is ViT-B, 1024 ViT-L, 1280 ViT-H: load that model first."
        )
    tensors: dict[str, Tensor] = {}
    for number, (a, b) in enumerate(pairs):
        name = f"image_encoder.blocks.{chosen[number // 2]}.attn.qkv.lora.{'qv'[number % 2]}"
        tensors |= {f"{name}.a": a.float(), f"{name}.b": b.float()}
    info = AdapterInfo(
        base_name=loaded.name,
        base_hash=loaded.weights_hash,
        lora=LoRAConfig(chosen, rank, float(rank), ("q", "v"), "none"),
        mode="full",
        input_size=int(loaded.sam.image_encoder.img_size),
        training={"imported_from": source.name, "layout": "Sam_LoRA"},
    )
    return Adapter(tensors, info)


def _pairs(held: Mapping[str, Tensor], name: str) -> list[tuple[Tensor, Tensor]]:
    """The (A, B) of each adapted projection, in order."""
    found: dict[str, dict[int, Tensor]] = {"a": {}, "b": {}}
    for key, value in held.items():
        match = _PAIR_NAME.fullmatch(key)
        if match is None:
            raise AdapterError(f"{name} is not in the layout of Sam_LoRA: it holds {key!r}.")
        found[match[1]][int(match[2])] = value
    count = len(found["a"])
    if not count or count % 2 or any(sorted(part) != list(range(count)) for part in found.values()):
        raise AdapterError(f"{name} is not in the layout of Sam_LoRA: its w_a and w_b are not pairs of q and v.")
    pairs = [(found["a"][number], found["b"][number]) for number in range(count)]
    shape = pairs[0][0].shape
    if len(shape) != 2 or any(a.shape != shape or b.shape != shape[::-1] for a, b in pairs):
        raise AdapterError(f"{name} is damaged: its w_a should all be (rank, width) and its w_b (width, rank).")
    return pairs


def _blocks(adapted: int, count: int, blocks: Sequence[int] | None, name: str) -> tuple[int, ...]:
    if blocks is None:
        if adapted != count:
            raise AdapterError(
                f"{name} adapts {adapted} of the {count} encoder blocks and does not say which: name them (blocks)."
            )
        return tuple(range(count))
    chosen = tuple(blocks)
    if len(chosen) != adapted or list(chosen) != sorted(set(chosen)):
        raise AdapterError(f"{name} adapts {adapted} encoder blocks: name as many, in rising order.")
    if chosen[0] < 0 or chosen[-1] >= count:
        raise AdapterError(f"The encoder blocks are 0 to {count - 1}; there is no {chosen[-1]}.")
    return chosen

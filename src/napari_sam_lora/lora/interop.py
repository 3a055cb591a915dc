"""Import adapters that were made by other projects."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as functional
from segment_anything.modeling import Sam
from torch import Tensor

from napari_sam_lora.errors import AdapterError
from napari_sam_lora.lora.adapter import Adapter, AdapterInfo
from napari_sam_lora.lora.foreign_layouts import ForeignAdapter, Pair, read_foreign
from napari_sam_lora.lora.inject import LoRAConfig, adapter_parameters, attach
from napari_sam_lora.lora.layers import QKV
from napari_sam_lora.model.checkpoints import LoadedModel
from napari_sam_lora.model.encoder import block_count
from napari_sam_lora.parameters.training import TuneDecoder

_TOLERANCE = 1e-5  # largest difference that rounding can make


class UnknownBlocksError(AdapterError):
    """The file does not say which encoder blocks were adapted: ask the user, and import it with ``blocks``.

    Attributes
    ----------
    adapted, count : int
        Number of blocks that it adapts, and number of blocks of the encoder.
    """

    def __init__(self, message: str, adapted: int, count: int) -> None:
        super().__init__(message, code="unknown-blocks")
        self.adapted, self.count = adapted, count


def import_adapter(
    path: str | Path, loaded: LoadedModel, blocks: Sequence[int] | None = None, alpha: float | None = None
) -> Adapter:
    """Import an adapter of another project.

    Supported are the layouts of Sam_LoRA (MathieuNlp) and JamesQFreeman's LoRA for SAM, LoRA-ViT, SAMed, finetune-SAM,
    Medical-SAM-Adapter and micro-sam; see `napari_sam_lora.lora.foreign_layouts`. Files that also hold the base
    weights are compared with the base model; tuned weights of the mask decoder are imported.

    Parameters
    ----------
    path : path-like
        .safetensors, .pth or .pt.
    loaded : LoadedModel
        The base model that it was trained on.
    blocks : sequence of int, optional
        The encoder blocks that were adapted, for files that do not say it and do not adapt all.
    alpha : float, optional
        For LoRA-ViT, whose files do not hold it.

    Returns
    -------
    Adapter
        It computes what the wrapper of that project computes.

    Raises
    ------
    UnknownBlocksError
        If the file does not say which blocks were adapted.
    UnknownAlphaError
        If the file does not say its scale.
    AdapterError
        If the file is damaged, of no known layout, or does not fit the base model.
    """
    source = Path(path)
    foreign = read_foreign(source, alpha)
    chosen = _blocks(foreign, block_count(loaded.sam.image_encoder), blocks, source.name)
    _check_shapes(foreign, loaded, source.name)
    _check_base(foreign, loaded, source.name)
    tuned = _tuned_decoder(foreign, loaded, source.name)
    config = _config(foreign, chosen, tuned)
    info = AdapterInfo(
        base_name=loaded.name,
        base_hash=loaded.weights_hash,
        lora=config,
        mode="full" if chosen else "decoder",
        input_size=int(loaded.sam.image_encoder.img_size),
        training={"imported_from": source.name, "layout": foreign.layout},
    )
    return Adapter(_tensors(foreign, config, loaded.sam, tuned), info)


def _blocks(foreign: ForeignAdapter, count: int, blocks: Sequence[int] | None, name: str) -> tuple[int, ...]:
    adapted = len(foreign.encoder)
    if foreign.blocks is not None:
        chosen = foreign.blocks
        if blocks is not None and tuple(blocks) != chosen:
            raise AdapterError(
                f"{name} adapts the encoder blocks {list(chosen)}: import it without naming others (blocks).",
                code="blocks-known",
            )
    elif blocks is None:
        if adapted != count:
            raise UnknownBlocksError(
                f"{name} adapts {adapted} of the {count} encoder blocks and does not say which: name them (blocks).",
                adapted,
                count,
            )
        chosen = tuple(range(count))
    else:
        chosen = tuple(blocks)
    if len(chosen) != adapted or list(chosen) != sorted(set(chosen)):
        raise AdapterError(
            f"{name} adapts {adapted} encoder blocks: name as many, in rising order.", code="blocks-do-not-fit"
        )
    if chosen and (chosen[0] < 0 or chosen[-1] >= count):
        raise AdapterError(f"The encoder blocks are 0 to {count - 1}, not {list(chosen)}.", code="blocks-out-of-range")
    return chosen


def _check_shapes(foreign: ForeignAdapter, loaded: LoadedModel, name: str) -> None:
    if not foreign.encoder:
        return
    first = next(iter(foreign.encoder[0].values()))[0].shape
    pairs = [pair for block in foreign.encoder for pair in block.values()]
    if len(first) != 2 or any(a.shape != first or b.shape != first[::-1] for a, b in pairs):
        raise AdapterError(
            f"{name} is damaged: each A should be (rank, width) and each B (width, rank).",
            code="adapter-shapes-do-not-fit",
        )
    if any(block.keys() != foreign.encoder[0].keys() for block in foreign.encoder):
        raise AdapterError(
            f"{name} does not adapt the same projections in all encoder blocks, which cannot be imported.",
            code="unequal-projections",
        )
    expected = loaded.sam.image_encoder.blocks[0].attn.proj.in_features
    if first[1] != expected:
        raise AdapterError(
            f"{name} was trained on an encoder of width {first[1]}; {loaded.name} has {expected}. "
            "768 is ViT-B, 1024 ViT-L, 1280 ViT-H: load that model first.",
            code="other-encoder-width",
        )


def _check_base(foreign: ForeignAdapter, loaded: LoadedModel, name: str) -> None:
    """Refuse weights of another encoder; warn if the prompt encoder was tuned, which cannot be imported."""
    base = loaded.sam.state_dict()
    for key, value in foreign.weights.items():
        if key.startswith("mask_decoder.") or key not in base or "pos_embed" in key or "rel_pos" in key:
            continue
        same = base[key].shape == value.shape and _is_same(base[key].cpu(), value)
        if not same and key.startswith("image_encoder."):
            raise AdapterError(
                f"{name} was trained on other weights than {loaded.name} ({key} differs): load its base model.",
                code="other-base-model",
            )
        if not same:
            warnings.warn(f"{name} has a tuned prompt encoder, which is left out.", stacklevel=4)
            return


def _tuned_decoder(foreign: ForeignAdapter, loaded: LoadedModel, name: str) -> dict[str, Tensor]:
    """Return all weights of the mask decoder if some differ from the base's, otherwise none."""
    base = {f"mask_decoder.{key}": value.cpu() for key, value in loaded.sam.mask_decoder.named_parameters()}
    stored = {key: value for key, value in foreign.weights.items() if key in base}
    if any(value.shape != base[key].shape for key, value in stored.items()):
        tokens = foreign.weights.get("mask_decoder.mask_tokens.weight")
        count = "" if tokens is None else f" for {len(tokens) - 1} classes"
        warnings.warn(
            f"{name} has a mask decoder{count} of another shape than SAM's, which is left out; the adapted encoder is "
            "imported.",
            stacklevel=4,
        )
        return {}
    if all(_is_same(base[key], value) for key, value in stored.items()):
        return {}
    if foreign.decoder:
        raise AdapterError(
            f"{name} has both low-rank layers and tuned weights in the mask decoder: merge it in its own project.",
            code="decoder-tuned-twice",
        )
    return base | stored


def _config(foreign: ForeignAdapter, blocks: tuple[int, ...], tuned: dict[str, Tensor]) -> LoRAConfig:
    pairs = [pair for block in foreign.encoder for pair in block.values()] + list(foreign.decoder.values())
    rank = max((a.shape[0] for a, _ in pairs), default=1)
    targets = tuple(name for name in QKV if foreign.encoder and name in foreign.encoder[0]) or ("q", "v")
    decoder: TuneDecoder = "all" if tuned else "lora" if foreign.decoder else "none"
    if decoder == "none" and not blocks:
        raise AdapterError("This adapter changes nothing in the base model.", code="nothing-to-change")
    return LoRAConfig(blocks, rank, float(rank), targets, decoder)


def _tensors(foreign: ForeignAdapter, config: LoRAConfig, sam: Sam, tuned: dict[str, Tensor]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {key: value.float().clone() for key, value in tuned.items()}
    for block, pairs in zip(config.blocks, foreign.encoder, strict=True):
        for projection, pair in pairs.items():
            tensors |= _padded(f"image_encoder.blocks.{block}.attn.qkv.lora.{projection}", pair, config.rank)
    if config.tune_decoder != "lora":
        return tensors
    for layer, pair in foreign.decoder.items():
        tensors |= _padded(f"{layer}.lora", pair, config.rank)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = adapter_parameters(attach(sam, config))
    unexpected = sorted(tensors.keys() - expected.keys())
    if unexpected or any(expected[key].shape != value.shape for key, value in tensors.items()):
        raise AdapterError(
            f"The low-rank layers of the mask decoder do not fit SAM's: {unexpected[0] if unexpected else 'shapes'}.",
            code="decoder-does-not-fit",
        )
    # Layers that were not adapted in the file are new ones, which add nothing.
    return {key: value.detach().cpu().clone() for key, value in expected.items()} | tensors


def _padded(name: str, pair: Pair, rank: int) -> dict[str, Tensor]:
    """Return a pair under its names here, padded with zeros to the rank of the whole adapter."""
    a, b = (value.float() for value in pair)
    more = rank - a.shape[0]
    return {
        f"{name}.a": functional.pad(a, (0, 0, 0, more)).contiguous(),
        f"{name}.b": functional.pad(b, (0, more)).contiguous(),
    }


def _is_same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a.float(), b.float(), rtol=_TOLERANCE, atol=_TOLERANCE)

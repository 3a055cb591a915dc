"""Load SAM checkpoints: safetensors, or a state dict in a .pth or .pt file; no other object is unpickled."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from torch import Tensor

from napari_sam_lora.errors import CheckpointError
from napari_sam_lora.model.dense.dense_model import DenseModel, read_dense_model
from napari_sam_lora.model.dense.published_decoders import published_head
from napari_sam_lora.model.download import Progress, model_path
from napari_sam_lora.model.encoder import fuse_attention
from napari_sam_lora.model.families.mobile import build_mobile_sam
from napari_sam_lora.model.families.nano import build_sam_nano
from napari_sam_lora.model.registry import MODELS, ModelInfo

# Family by the width of the image encoder's blocks (segment_anything/build_sam.py, and nano.py).
_FAMILY_BY_WIDTH = {128: "nano", 768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
_WIDTH_KEY = "image_encoder.blocks.0.norm1.weight"
# MobileSAM's encoder is a TinyViT; this is the width of its last stage.
_TINY_KEY = "image_encoder.layers.3.blocks.0.attn.norm.weight"
_TINY_WIDTH = 320
# torch's unpickler raises these, besides its own error, on files that are no checkpoints.
_NOT_A_CHECKPOINT = (RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError)
_WRAPPERS = ("model_state", "model", "state_dict", "sam")
_DECODER_KEY = "decoder_state"  # of micro-sam's exports with a decoder in the same file


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A SAM in evaluation mode and what identifies it.

    Attributes
    ----------
    sam : Sam
    name : str
        Registered name, or the file name of the checkpoint.
    family : str
    weights_hash : str
        BLAKE2b of names, shapes and values of all weights, the same whatever the file format.
    dense : DenseModel, optional
        The dense head that comes with the model: bundled, or a decoder of micro-sam.
    """

    sam: Sam
    name: str
    family: str
    weights_hash: str
    dense: DenseModel | None = None


def load(name: str | Path, device: torch.device, progress: Progress | None = None) -> LoadedModel:
    """Load a registered model, or a SAM-format checkpoint from a path.

    The decoder that micro-sam published with a model, or exported into its checkpoint, is loaded too. If that fails, a
    warning says so, and the model has no dense head.

    Parameters
    ----------
    name : str or Path
        A key of `MODELS`, or a .safetensors, .pth or .pt file.
    device : torch.device
    progress : callable, optional
        Called with the bytes fetched and all bytes while a named model is downloaded.

    Returns
    -------
    LoadedModel

    Raises
    ------
    CheckpointError
        If there is no such model or file, or it is not a SAM checkpoint.
    """
    info = MODELS.get(str(name))
    path = model_path(info, progress) if info else Path(name).expanduser()
    if not path.is_file():
        raise CheckpointError(
            f"There is no model named {str(name)!r} and no such file. Named models: {', '.join(MODELS)}.",
            code="model-not-found",
        )
    content = _read(path)
    state = _sam_state(content, path)
    family = family_of(state)
    sam = _build(family)
    try:
        sam.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path.name} looks like SAM ({family}), but its weights do not fit: {error}", code="weights-do-not-fit"
        ) from error
    fuse_attention(sam.image_encoder)
    sam.requires_grad_(False)
    sam.eval()
    name = info.name if info else path.name
    dense = _decoder_of(content, name) if info is None else _bundled_head(info) or _fetched_decoder(info, progress)
    if dense is not None:
        dense.head.to(device)
    return LoadedModel(sam.to(device), name, family, hash_weights(state), dense)


def _bundled_head(info: ModelInfo) -> DenseModel | None:
    """Read the dense head that comes with a model, if there is one, and check its hash."""
    if info.head_asset is None:
        return None
    with as_file(files("napari_sam_lora") / "assets" / info.head_asset) as path:
        return read_dense_model(path, info.head_digest)


def _fetched_decoder(info: ModelInfo, progress: Progress | None) -> DenseModel | None:
    """Load the decoder that was published with a model; None if there is none, or it cannot be downloaded."""
    if info.decoder is None:
        return None
    try:
        path = model_path(info.decoder, progress)
        return published_head(_decoder_state(_read(path)), info.name)
    except CheckpointError as error:
        _warn_of_decoder(info.name, error)
    return None


def _decoder_of(content: Any, name: str) -> DenseModel | None:
    """Load the decoder inside a checkpoint of micro-sam, if there is one."""
    if not isinstance(content, Mapping) or not content.get(_DECODER_KEY):
        return None
    try:
        return published_head(_decoder_state(content[_DECODER_KEY]))
    except CheckpointError as error:
        _warn_of_decoder(name, error)
    return None


def _warn_of_decoder(name: str, error: CheckpointError) -> None:
    warnings.warn(f"{name} works without its decoder, so objects are found by clicks only. {error}", stacklevel=4)


def _decoder_state(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise CheckpointError("This file holds no weights.", code="bad-decoder")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a checkpoint as float32 on the CPU, unwrapped and without prefixes."""
    return _sam_state(_read(path), path)


def _read(path: Path) -> Any:
    """Read what a checkpoint holds, without unpickling anything but weights."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():  # torch asks users to report files of other pickle protocols
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, *_NOT_A_CHECKPOINT) as error:
        raise CheckpointError(
            f"{path.name} is damaged, or holds more than weights and was not opened. Download it again.",
            code="damaged-checkpoint",
        ) from error


def _sam_state(content: Any, path: Path) -> dict[str, Tensor]:
    state = _unwrap(content)
    if state is None:
        raise CheckpointError(f"{path.name} holds no SAM weights.", code="no-sam-weights")
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def family_of(state: Mapping[str, Tensor]) -> str:
    """Recognise the family from the width of the image encoder."""
    key = _WIDTH_KEY if _WIDTH_KEY in state else _TINY_KEY
    shape = state[key].shape
    if len(shape) != 1:
        raise CheckpointError(f"This is not a checkpoint of SAM: {key} has no width.", code="no-encoder-width")
    width = shape[0]
    if key == _TINY_KEY:
        if width != _TINY_WIDTH:
            raise CheckpointError(
                f"SAM with a TinyViT of width {width} is not supported; MobileSAM's has {_TINY_WIDTH}.",
                code="unknown-encoder-width",
            )
        return "vit_t"
    if width not in _FAMILY_BY_WIDTH:
        raise CheckpointError(
            f"SAM with encoder width {width} is not supported; supported are {_FAMILY_BY_WIDTH}.",
            code="unknown-encoder-width",
        )
    return _FAMILY_BY_WIDTH[width]


def hash_weights(state: Mapping[str, Tensor]) -> str:
    """Return the BLAKE2b of names, shapes and float32 values, sorted by name, as 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        digest.update(f"{key}{tuple(value.shape)}".encode())
        digest.update(value.numpy().data)
    return digest.hexdigest()


def _build(family: str) -> Sam:
    builders = {"nano": build_sam_nano, "vit_t": build_mobile_sam} | sam_model_registry
    return builders[family]()


def _unwrap(content: Any) -> dict[str, Tensor] | None:
    """Find the state dict in a file that may nest it under a key or prefix every name."""
    if not isinstance(content, Mapping):
        return None
    for prefix in ("", "sam.", "module."):
        if any(isinstance(content.get(prefix + key), Tensor) for key in (_WIDTH_KEY, _TINY_KEY)):
            named = {str(key)[len(prefix) :]: value for key, value in content.items() if str(key).startswith(prefix)}
            return {key: value for key, value in named.items() if isinstance(value, Tensor)}
    for key in _WRAPPERS:
        found = _unwrap(content.get(key))
        if found is not None:
            return found
    return None

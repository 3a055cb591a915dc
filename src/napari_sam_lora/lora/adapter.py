"""An adapter, its description, and its small .safetensors file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from segment_anything.modeling import Sam
from torch import Tensor

from napari_sam_lora.errors import AdapterError, CheckpointError
from napari_sam_lora.files import atomic_path
from napari_sam_lora.images import Preprocessing
from napari_sam_lora.lora.inject import LoRAConfig, attach, set_adapter
from napari_sam_lora.model.dense.dense_model import DenseModel
from napari_sam_lora.model.input_size import at_input_size

FORMAT = "napari-sam-lora adapter"
FORMAT_VERSION = 1
# Of adapters with a dense head, which programs before it cannot use.
DENSE_FORMAT_VERSION = 2
_DENSE_KEY = "dense_head"
_DENSE_PREFIX = "dense_head."


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _program() -> str:
    try:
        return f"napari-sam-lora {version('napari-sam-lora')}"
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "napari-sam-lora"


@dataclass(frozen=True)
class AdapterInfo:
    """Description of an adapter, stored in its file.

    Attributes
    ----------
    base_name, base_hash : str
        Name and weights hash of the model that it was trained on.
    lora : LoRAConfig
    mode : str
        "decoder", "late" or "full".
    input_size : int
        Side of the model input in pixels.
    preprocessing : Preprocessing
    training : dict
        Settings, and a summary of the training set.
    metrics : dict
        Held-out figures of base and adapted model, and the verdict.
    created : str
        ISO 8601 time.
    program : str
        Name and version of the program that wrote it.
    """

    base_name: str
    base_hash: str
    lora: LoRAConfig
    mode: str
    input_size: int
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    created: str = field(default_factory=_now)
    program: str = field(default_factory=_program)

    def to_json(self, file_version: int = FORMAT_VERSION) -> str:
        """Return the description as one JSON object."""
        return json.dumps({"format": FORMAT, "version": file_version, **asdict(self)}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> AdapterInfo:
        """Read the description from the text of `to_json`.

        Raises
        ------
        AdapterError
            If it was written by a newer version, or is not the description of an adapter.
        """
        try:
            values = json.loads(text)
            kind, file_version = values.pop("format"), values.pop("version")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise AdapterError("This file is not an adapter of napari-sam-lora.", code="not-an-adapter") from error
        if kind != FORMAT:
            raise AdapterError("This file is not an adapter of napari-sam-lora.", code="not-an-adapter")
        if file_version not in (FORMAT_VERSION, DENSE_FORMAT_VERSION):
            raise AdapterError(
                f"This adapter has format version {file_version}; this program reads {FORMAT_VERSION} and "
                f"{DENSE_FORMAT_VERSION}. Update napari-sam-lora.",
                code="unknown-adapter-version",
            )
        try:
            lora, preprocessing = values.pop("lora"), values.pop("preprocessing")
            return cls(
                lora=LoRAConfig(**lora | {name: tuple(lora[name]) for name in ("blocks", "targets")}),
                preprocessing=Preprocessing.from_dict(preprocessing),
                **values,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AdapterError(
                f"The description in this adapter file is damaged: {error}", code="adapter-description-damaged"
            ) from error


@dataclass(frozen=True, eq=False)
class Adapter:
    """Low-rank layers and tuned weights for one base model.

    Attributes
    ----------
    tensors : dict of str to Tensor
        By parameter name in the adapted model; float32 on the CPU.
    info : AdapterInfo
    dense : DenseModel, optional
        Dense head for the embeddings of the adapted encoder.
    """

    tensors: dict[str, Tensor]
    info: AdapterInfo
    dense: DenseModel | None = None

    def __post_init__(self) -> None:
        for name, value in self.tensors.items():
            if not torch.isfinite(value).all():
                raise AdapterError(
                    f"The adapter is damaged: {name} holds values that are not finite.", code="adapter-not-finite"
                )

    @property
    def key(self) -> str:
        """Content key (hash) of all tensors, and of the parameters of the dense head."""
        if self.dense is None:
            return _hash(self.tensors, self.info.lora)
        head = {_DENSE_PREFIX + name: value for name, value in self.dense.tensors().items()}
        digest = hashlib.blake2b(_hash(self.tensors | head, self.info.lora).encode(), digest_size=16)
        digest.update(json.dumps(self.dense.describe(), sort_keys=True).encode())
        return digest.hexdigest()

    @property
    def encoder_key(self) -> str:
        """Content key (hash) of the tensors in the image encoder; empty if it is that of the base model."""
        tensors = {name: value for name, value in self.tensors.items() if name.startswith("image_encoder.")}
        return _hash(tensors, self.info.lora) if tensors else ""

    def save(self, path: str | Path) -> Path:
        """Write the adapter to one .safetensors file, atomically.

        Parameters
        ----------
        path : path-like
            Must end in .safetensors.

        Returns
        -------
        Path
        """
        target = Path(path)
        if target.suffix != ".safetensors":
            raise AdapterError(
                f"The name of an adapter file must end in .safetensors, unlike {target.name}.", code="wrong-file-ending"
            )
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.tensors.items()}
        metadata = {"adapter": self.info.to_json()}
        if self.dense is not None:
            tensors |= {_DENSE_PREFIX + name: value for name, value in self.dense.tensors().items()}
            metadata = {
                "adapter": self.info.to_json(DENSE_FORMAT_VERSION),
                _DENSE_KEY: json.dumps(self.dense.describe(), allow_nan=False),
            }
        with atomic_path(target) as temporary:
            temporary.write_bytes(save(tensors, metadata=metadata))
        return target

    @classmethod
    def load(cls, path: str | Path) -> Adapter:
        """Read an adapter file.

        Raises
        ------
        AdapterError
            If there is no such file, or it is damaged or something else.
        """
        source = Path(path)
        try:
            with safe_open(source, framework="pt") as file:
                metadata = file.metadata() or {}
                if "adapter" not in metadata:
                    raise AdapterError(f"{source.name} is not an adapter of napari-sam-lora.", code="not-an-adapter")
                info = AdapterInfo.from_json(metadata["adapter"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                head = _take_head(tensors, metadata.get(_DENSE_KEY))
                return cls(tensors, info, head)
        except FileNotFoundError as error:
            raise AdapterError(f"There is no adapter file {source}.", code="adapter-not-found") from error
        except (SafetensorError, OSError) as error:
            raise AdapterError(
                f"{source.name} is damaged or not an adapter file: {error}", code="adapter-file-damaged"
            ) from error

    def with_metrics(self, metrics: dict[str, Any]) -> Adapter:
        """Return the same adapter with these held-out figures."""
        return replace(self, info=replace(self.info, metrics=metrics))

    def apply(self, sam: Sam, base_name: str, base_hash: str) -> Sam:
        """Make a second module tree of the base model with this adapter, at the input size that it was trained at.

        The base model is not changed.

        Raises
        ------
        AdapterError
            If the adapter belongs to another base model, or its tensors do not fit.
        """
        if base_hash != self.info.base_hash:
            raise AdapterError(
                f"This adapter was trained on {self.info.base_name}, with other weights than the loaded {base_name}. "
                f"Load {self.info.base_name} to use it.",
                code="other-base-model",
            )
        tree = attach(at_input_size(sam, self.info.input_size), self.info.lora)
        try:
            set_adapter(tree, self.tensors)
        except ValueError as error:
            raise AdapterError(
                f"This adapter does not fit {base_name}: {error}", code="adapter-does-not-fit"
            ) from error
        return tree.requires_grad_(False)


def _take_head(tensors: dict[str, Tensor], description: str | None) -> DenseModel | None:
    """Take the dense head out of the tensors of a file, in place; None if it has none.

    Raises
    ------
    AdapterError
        If the head is damaged.
    """
    names = [name for name in tensors if name.startswith(_DENSE_PREFIX)]
    head = {name.removeprefix(_DENSE_PREFIX): tensors.pop(name) for name in names}
    if description is None and not head:
        return None
    try:
        return DenseModel.from_parts(json.loads(description or ""), head)
    except (ValueError, CheckpointError) as error:
        raise AdapterError(f"The dense head in this adapter file is damaged: {error}", code="bad-dense-head") from error


def _hash(tensors: dict[str, Tensor], config: LoRAConfig) -> str:
    digest = hashlib.blake2b(repr(config).encode(), digest_size=16)
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.numpy().data)
    return digest.hexdigest()

"""A dense head with the parameters for cutting objects out of its maps, as data and as a file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from napari_sam_lora.errors import CheckpointError, SamLoraError
from napari_sam_lora.model.dense.head import DenseHead, DenseHeadConfig, load_dense_head
from napari_sam_lora.model.dense.unetr_decoder import UnetrDecoder
from napari_sam_lora.parameters.instances import InstanceConfig

_KEY = "dense_head"


@dataclass(frozen=True, eq=False)
class DenseModel:
    """A dense head and how objects are cut out of its maps.

    Attributes
    ----------
    head : DenseHead or UnetrDecoder
        In evaluation mode.
    instances : InstanceConfig
        Parameters that suit the head, such as thresholds chosen on held-out objects.
    refine : bool
        Whether the mask decoder segments each found object again, because that is better.
    classes : mapping of int to str
        Ids and names of the classes that the head predicts, in the order of its channels; a name may be empty.
    """

    head: DenseHead | UnetrDecoder
    instances: InstanceConfig = field(default_factory=InstanceConfig)
    refine: bool = False
    classes: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def trainable(self) -> DenseHead | None:
        """The head, if training can start from it and it can be stored; None for a published decoder."""
        return self.head if isinstance(self.head, DenseHead) else None

    def describe(self) -> dict[str, Any]:
        """Return all but the tensors, as plain values for a file.

        Raises
        ------
        CheckpointError
            If the head is a published decoder, which stays in its own file.
        """
        if self.trainable is None:
            raise CheckpointError("A published decoder is not stored in other files.", code="published-decoder")
        classes = [{"id": number, "name": name} for number, name in self.classes.items()]
        return {
            "head": self.trainable.config.as_dict(),
            "instances": self.instances.as_dict(),
            "refine": self.refine,
        } | ({"classes": classes} if classes else {})

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights as float16 on the CPU, by name."""
        return {name: value.detach().cpu().half().contiguous() for name, value in self.head.state_dict().items()}

    @classmethod
    def from_parts(cls, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> DenseModel:
        """Make the model from the values of `describe` and `tensors`.

        Raises
        ------
        CheckpointError
            If they are damaged or do not fit together.
        """
        try:
            config = DenseHeadConfig.from_dict(description["head"])
            instances = InstanceConfig.from_dict(description["instances"])
            refine = description["refine"]
            classes = {int(one["id"]): str(one["name"]) for one in description.get("classes", ())}
        except CheckpointError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, SamLoraError) as error:
            raise CheckpointError(
                f"This description of a dense head is damaged: {error}", code="bad-dense-head"
            ) from error
        if not isinstance(refine, bool):
            raise CheckpointError(f"refine must be true or false, not {refine!r}.", code="bad-dense-head")
        if len(classes) != config.classes or min(classes, default=1) < 1:
            raise CheckpointError(
                f"This dense head has {config.classes} classes, but describes {len(classes)}.", code="bad-dense-head"
            )
        return cls(load_dense_head(config, tensors), instances, refine, classes)


def write_dense_model(model: DenseModel, path: Path) -> None:
    """Write one .safetensors file, in one atomic step."""
    new = path.with_suffix(".new")
    new.write_bytes(save(model.tensors(), metadata={_KEY: json.dumps(model.describe())}))
    os.replace(new, path)


def read_dense_model(path: Path, digest: str | None = None) -> DenseModel:
    """Read a file written by `write_dense_model`.

    Parameters
    ----------
    path : Path
    digest : str, optional
        Expected hash of the file, as ``xxh128:`` and hexadecimal digits.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or holds something else.
    """
    try:
        if digest is not None and f"xxh128:{xxhash.xxh128(path.read_bytes()).hexdigest()}" != digest:
            raise CheckpointError(
                f"{path.name} is damaged: its hash is wrong. Install the package again.", code="wrong-hash"
            )
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path.name} is damaged or holds no dense head: {error}", code="bad-dense-head"
        ) from error
    return DenseModel.from_parts(description, tensors)

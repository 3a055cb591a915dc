"""The models that have a name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a checkpoint before it is loaded.

    Attributes
    ----------
    name : str
    family : str
        ``nano``, ``vit_b``, ``vit_l`` or ``vit_h``.
    licence : str
    description : str
        One line for a person.
    asset : str, optional
        File name in the package's assets.
    """

    name: str
    family: str
    licence: str
    description: str
    asset: str | None = None


MODELS: dict[str, ModelInfo] = {
    "sam_nano": ModelInfo(
        name="sam_nano",
        family="nano",
        licence="BSD-3-Clause",
        description="Small general model that comes with the plugin; fast on any laptop, works offline.",
        asset="sam_nano.safetensors",
    ),
}


def asset_path(info: ModelInfo) -> Path:
    """Path of a bundled checkpoint."""
    with as_file(files("napari_sam_lora") / "assets" / str(info.asset)) as path:
        return path

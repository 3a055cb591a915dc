"""Presets of the training settings: how thoroughly to learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A named set of training settings.

    Attributes
    ----------
    title : str
    description : str
        One or two sentences for the user.
    values : mapping
        Settings of `TrainConfig` that differ from its defaults.
    """

    title: str
    description: str
    values: Mapping[str, Any]


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "quick": Preset(
            "Quick",
            "Learns where the outlines of your objects run. The encoder stays the same, so switching is instant.",
            MappingProxyType({"mode": "decoder", "steps": 32, "objects": 4}),
        ),
        "standard": Preset(
            "Standard",
            "Also learns what your objects look like. The best choice for most images.",
            MappingProxyType({}),
        ),
        "thorough": Preset(
            "Thorough",
            "Adapts the whole model, for images very unlike photographs and for many labels.",
            MappingProxyType({"mode": "full", "steps": 400}),
        ),
    }
)

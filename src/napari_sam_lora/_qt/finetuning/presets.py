"""How thoroughly to learn, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A choice of settings.

    Attributes
    ----------
    title : str
    words : str
        What it does.
    values : mapping
        Settings of `TrainConfig` that differ from its defaults.
    """

    title: str
    words: str
    values: Mapping[str, Any]


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "quick": Preset(
            "Quick",
            "Learns where outlines run. The image is seen as before, so switching is instant.",
            MappingProxyType({"mode": "decoder", "steps": 32, "objects": 4}),
        ),
        "standard": Preset(
            "Standard",
            "Learns what your objects look like as well. The best choice for most images.",
            MappingProxyType({}),
        ),
        "thorough": Preset(
            "Thorough",
            "Changes the whole model a little, for images unlike everyday ones and many labels.",
            MappingProxyType({"mode": "full", "steps": 400}),
        ),
    }
)

"""A settings dataclass with fields of all kinds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """Settings of all kinds.

    Attributes
    ----------
    cook : str
        Who does it: "anna",
        or somebody else.
    minutes, seconds : int
        How long, 100 % exact.
    heat : float, optional
    tools : tuple of str
    pair : tuple of float, optional
    quick : bool
    size : str
        How much.
    place : Path, optional

    Raises
    ------
    ValueError
        Never.
    """

    cook: str = "anna"
    minutes: int = 5
    seconds: int = 0
    heat: float | None = None
    tools: tuple[str, ...] = ("pan",)
    pair: tuple[float, float] | None = None
    quick: bool = False
    size: Literal["small", "large"] = "small"
    place: Path | None = None
    extra: tuple[int, ...] = field(default_factory=tuple)

"""A class with parameters of all kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from napari_sam_lora.errors import InputError
from napari_sam_lora.parameters.schema import parameters


@parameters
class Recipe:
    """Settings of all kinds."""

    cook: str = Field(default="anna", description='Who does it: "anna", or somebody else.')
    minutes: int = Field(default=5, ge=1, title="Minutes in all", description="How long, 100 % exact.")
    seconds: int = Field(default=0, ge=0, lt=60)
    heat: float | None = Field(default=None, gt=0, json_schema_extra={"none": "that of the stove", "step": 0.5})
    tools: tuple[str, ...] = ("pan",)
    pair: tuple[float, float] | None = None
    quick: bool = False
    size: Literal["small", "large"] = Field(default="small", description="How much.")
    place: Path | None = None
    extra: tuple[int, ...] = Field(default_factory=tuple)

    def __post_init__(self) -> None:
        if self.quick and self.minutes > 30:
            raise InputError("This is not quick.", code="not-quick")

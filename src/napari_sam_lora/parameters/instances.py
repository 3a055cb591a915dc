"""Parameters by which objects are cut out of dense maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import Field

from napari_sam_lora.parameters.schema import parameters, validated


@parameters
class InstanceConfig:
    """Parameters for cutting objects out of dense maps.

    Raises
    ------
    InputError
        If a number makes no sense.
    """

    sensitivity: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        title="Sensitivity",
        description="Pixels whose foreground probability is more than 1 - sensitivity belong to objects, if the object "
        "is sure enough as well. Higher finds more.",
        json_schema_extra={"step": 0.05, "range": [0.05, 0.95]},
    )
    separation: float = Field(
        default=0.8,
        gt=0,
        lt=1,
        title="Separation",
        description="Higher splits touching objects, and may split one object into several: two peaks of the distance "
        "to the outline are two objects if the dip between them is at least 1 - separation. With nearness to the "
        "centre, distances above this are seeds.",
        json_schema_extra={"step": 0.05, "range": [0.05, 0.95]},
    )
    smallest: int = Field(
        default=30,
        ge=0,
        title="Smallest object (pixels)",
        description="Objects with fewer pixels are left out.",
        json_schema_extra={"step": 10, "range": [0, 1_000_000]},
    )
    smoothing: float = Field(
        default=1.0,
        ge=0,
        title="Smooth distances by (pixels)",
        description="Standard deviation, in pixels, of the Gaussian that smooths the distances first.",
        json_schema_extra={"step": 0.5, "range": [0, 20]},
    )
    centre_separation: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        title="Separation of centres",
        description="For maps with nearness to the centre (micro-sam's decoders): only pixels whose nearness is more "
        "than this can be seeds, if their distance is large as well.",
        json_schema_extra={"step": 0.05, "range": [0.05, 0.95], "none": "distance alone decides"},
    )
    foreground_smoothing: float = Field(
        default=0.0,
        ge=0,
        title="Smooth foreground by (pixels)",
        description="Standard deviation, in pixels, of the Gaussian that smooths the foreground first.",
        json_schema_extra={"step": 0.5, "range": [0, 20]},
    )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InstanceConfig:
        """Make parameters from the values of `as_dict`.

        Raises
        ------
        InputError
            If a name is unknown, or a value cannot be used.
        """
        return validated(cls, values, "instances")

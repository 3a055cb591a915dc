"""Parameters of the tiles of large planes."""

from __future__ import annotations

from pydantic import Field

from napari_sam_lora.errors import InputError
from napari_sam_lora.parameters.schema import parameters


@parameters
class TilingConfig:
    """Parameters for cutting large planes into tiles.

    Raises
    ------
    InputError
        If a number makes no sense.
    """

    tile_size: int | None = Field(
        default=None,
        description="Side of the smallest tiles, in pixels of the plane. 0 turns tiling off.",
        json_schema_extra={"none": "that of the model input, so that the smallest objects are seen at full resolution"},
    )
    tile_overlap: float = Field(
        default=0.5, ge=0, le=0.75, description="Overlap of neighbouring tiles, as a share of their side."
    )
    tile_above: float = Field(
        default=2.0,
        ge=1,
        allow_inf_nan=True,
        description="Planes whose longest side is at most this many times that of the smallest tiles are not cut into "
        "tiles.",
    )

    def __post_init__(self) -> None:
        if self.tile_size is not None and self.tile_size != 0 and self.tile_size < 16:
            raise InputError(
                f"tile_size must be at least 16 pixels, or 0 for no tiles, not {self.tile_size}.",
                code="tile_size-out-of-range",
            )

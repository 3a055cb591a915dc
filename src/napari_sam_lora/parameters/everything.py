"""Parameters of everything mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BeforeValidator, Field

from napari_sam_lora.errors import InputError
from napari_sam_lora.parameters.schema import parameters

PointGrids = tuple[tuple[tuple[float, float], ...], ...]


def _plain_grids(grids: Sequence[ArrayLike] | None) -> PointGrids | None:
    """Check the grids and return them as plain numbers, so that configurations can be compared."""
    if grids is None:
        return None
    arrays = [np.asarray(grid, float) for grid in grids]
    for array in arrays:
        if array.ndim != 2 or array.shape[1] != 2 or not len(array) or not ((array >= 0) & (array <= 1)).all():
            raise InputError(
                "A point grid must be an array (n, 2) of clicks (x, y) between 0 and 1.", code="invalid-point-grid"
            )
    return tuple(tuple((float(x), float(y)) for x, y in array) for array in arrays)


def _spin(step: float, low: float, high: float, none: str = "") -> dict[str, Any]:
    return {"step": step, "range": (low, high)} | ({"none": none} if none else {})


@parameters
class EverythingConfig:
    """Parameters of everything mode; names and meaning are segment-anything's.

    Raises
    ------
    InputError
        If a number makes no sense, there is not one grid for the plane and one for each round, or a click lies outside.
    """

    points_per_side: int = Field(
        default=32,
        ge=1,
        title="Clicks along a side",
        description="The model gets a grid of clicks, this many along each side. More find smaller objects and take "
        "longer.",
        json_schema_extra=_spin(8, 2, 256),
    )
    points_per_batch: int = Field(
        default=64,
        ge=1,
        title="Clicks at once",
        description="How many clicks are processed together. Fewer need less memory.",
        json_schema_extra=_spin(16, 1, 1024),
    )
    pred_iou_thresh: float | None = Field(
        default=None,
        title="Least score",
        description="Masks with a lower score from the model than this (0 to 1) are dropped. Lower finds more.",
        json_schema_extra=_spin(
            0.05, 0, 1, "the usual value of the model: 0.88 for Meta's architectures, 0.65 for sam_nano"
        ),
    )
    stability_score_thresh: float | None = Field(
        default=None,
        title="Least stability",
        description="Masks whose outline moves a lot when the threshold changes a little are dropped (0 to 1). Lower "
        "finds more.",
        json_schema_extra=_spin(
            0.05, 0, 1, "the usual value of the model: 0.95 for Meta's architectures, 0.65 for sam_nano"
        ),
    )
    stability_score_offset: float = Field(
        default=1.0,
        title="Stability: change by",
        description="How far the threshold is changed to test whether an outline is stable.",
        json_schema_extra=_spin(0.1, 0.1, 10),
    )
    box_nms_thresh: float = Field(
        default=0.5,
        ge=0,
        le=1,
        title="Most overlap",
        description="Of two masks whose boxes overlap more than this (0 to 1), only the better one is kept.",
        json_schema_extra={"step": 0.05},
    )
    crop_n_layers: int = Field(
        default=0,
        ge=0,
        title="Rounds on enlarged parts",
        description="Searches enlarged parts of the plane too, for many small objects. Each round takes four times as "
        "long.",
        json_schema_extra=_spin(1, 0, 3),
    )
    crop_nms_thresh: float = Field(
        default=0.7,
        ge=0,
        le=1,
        title="Most overlap between parts",
        description="Like “Most overlap”, but between masks found in different enlarged parts.",
        json_schema_extra={"step": 0.05},
    )
    crop_overlap_ratio: float = Field(
        default=512 / 1500,
        ge=0,
        le=1,
        title="Parts overlap by",
        description="How far enlarged parts overlap, as a fraction of the plane.",
        json_schema_extra=_spin(0.05, 0, 0.9),
    )
    crop_n_points_downscale_factor: int = Field(
        default=1,
        ge=1,
        title="Fewer clicks in parts",
        description="Each further round divides the clicks along a side by this number.",
        json_schema_extra=_spin(1, 1, 8),
    )
    min_mask_region_area: int = Field(
        default=0,
        ge=0,
        title="Clean up to (pixels)",
        description="Holes and specks of a mask that are smaller than this are filled or removed.",
        json_schema_extra=_spin(10, 0, 100_000),
    )
    point_grids: Annotated[PointGrids | None, BeforeValidator(_plain_grids)] = Field(
        default=None,
        description="Where to click instead of at even distances: an array (n, 2) of clicks (x, y), from 0 to 1, for "
        "the plane and for the parts of each round, as in segment-anything.",
    )

    def __post_init__(self) -> None:
        last = self.points_per_side // self.crop_n_points_downscale_factor**self.crop_n_layers
        if self.point_grids is None and last < 1:
            raise InputError(
                "No click is left in the last round of crops: increase points_per_side.", code="no-clicks-in-last-round"
            )
        if self.point_grids is not None and len(self.point_grids) != self.crop_n_layers + 1:
            raise InputError(
                f"point_grids holds {len(self.point_grids)} grids; it needs one for the plane and one for each crop "
                "round.",
                code="wrong-number-of-point-grids",
            )

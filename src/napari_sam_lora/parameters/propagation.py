"""Parameters of propagation through a stack."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from napari_sam_lora.errors import InputError
from napari_sam_lora.parameters.schema import parameters

Direction = Literal["both", "up", "down"]
Projection = Literal["box", "mask", "points", "box+mask", "box+points", "mask+points", "box+mask+points"]


@parameters
class PropagationConfig:
    """Parameters for following objects from plane to plane.

    Raises
    ------
    InputError
        If a value makes no sense.
    """

    direction: Direction = Field(
        default="both",
        title="Direction",
        description="Direction along the stack, from the planes that contain the objects: up is to larger indices.",
        json_schema_extra={
            "choices": {"both": "both ways", "up": "to higher planes", "down": "to lower planes"},
        },
    )
    first: int | None = Field(
        default=None,
        description="First plane, counted from 0.",
        json_schema_extra={"none": "the first of the stack"},
    )
    last: int | None = Field(
        default=None,
        description="Last plane, itself included.",
        json_schema_extra={"none": "the last of the stack"},
    )
    projection: Projection = Field(
        default="box+mask",
        title="Prompts",
        description="Prompt that the model gets in the next plane, made from the object in this one: its box, its "
        "mask, points in it, or several of them. The default is best for most images.",
        json_schema_extra={
            "choices": {
                "auto": "automatic",
                "box": "the box",
                "mask": "the shape",
                "points": "points",
                "box+mask": "box and shape",
                "box+points": "box and points",
                "mask+points": "shape and points",
                "box+mask+points": "all three",
            },
        },
    )
    padding: float = Field(
        default=0.0,
        ge=0,
        le=1,
        title="Enlarge the box by",
        description="The box for the next plane is enlarged on each side by this share of the object's size. Raise it "
        "for objects that move or grow fast.",
        json_schema_extra={"step": 0.05},
    )
    min_score: float | None = Field(
        default=None,
        ge=0,
        le=1,
        title="Least score",
        description="An object ends where the score that the model gives its mask is below this (0 to 1). A lower "
        "value follows it for longer.",
        json_schema_extra={
            "step": 0.05,
            "none": "the usual value of the model: 0.7 for Meta's architectures, 0.5 for sam_nano",
        },
    )
    min_overlap: float = Field(
        default=0.4,
        ge=0,
        le=1,
        title="Least overlap",
        description="An object ends where its mask overlaps that of the previous plane by less than this (0 to 1). "
        "Lower it for objects that move much from plane to plane.",
        json_schema_extra={"step": 0.05},
    )
    max_growth: float = Field(
        default=2.0,
        ge=1,
        allow_inf_nan=True,
        title="Grows at most (times)",
        description="An object ends where its area is more than this many times its area in the previous plane.",
        json_schema_extra={"step": 0.5, "range": [1, 100]},
    )
    max_shrinkage: float = Field(
        default=3.0,
        ge=1,
        allow_inf_nan=True,
        title="Shrinks at most (times)",
        description="An object ends where its area is this many times smaller than in the previous plane.",
        json_schema_extra={"step": 0.5, "range": [1, 100]},
    )
    min_contrast: float = Field(
        default=0.35,
        ge=0,
        le=1,
        title="Least contrast",
        description="An object ends where its contrast with its surroundings is below this share of the contrast where "
        "you drew it. 0 turns this off.",
        json_schema_extra={"step": 0.05},
    )
    max_growth_from_key: float = Field(
        default=2.0,
        ge=1,
        allow_inf_nan=True,
        title="Grows beyond its key planes at most (times)",
        description="A plane is doubtful where an object's area is more than this many times its area in the key plane "
        "where it is largest. Raise it, or add a key plane, if you did not draw the object where it is large.",
        json_schema_extra={"step": 0.5, "range": [1, 100]},
    )
    max_intensity_change: float = Field(
        default=3.0,
        ge=0,
        allow_inf_nan=True,
        title="Intensity changes at most (spreads)",
        description="A plane is doubtful where the median intensity of an object, and also its contrast with its "
        "surroundings, differ from those in the key plane by more than this many times the spread of its intensities "
        "there (1.48 times the median absolute deviation), and by more than 0.65 times that contrast.",
        json_schema_extra={"step": 0.5, "range": [0, 100]},
    )
    max_doubtful: int = Field(
        default=1,
        ge=0,
        title="Doubtful planes in a row",
        description="An object ends where more than this many planes in a row would be doubtful: much larger than in "
        "the key planes, or with other intensities. A large number only lists doubtful planes.",
        json_schema_extra={"step": 1, "range": [0, 1_000_000]},
    )
    smallest: int = Field(
        default=5,
        ge=0,
        title="Smallest object (pixels)",
        description="An object ends where it has fewer pixels than this.",
        json_schema_extra={"step": 5, "range": [0, 1_000_000]},
    )
    smooth: bool = Field(
        default=True,
        title="Fill holes, leave out loose parts",
        description="Fills the holes of a mask, and leaves out parts that do not touch the object in the previous "
        "plane.",
    )

    def __post_init__(self) -> None:
        if self.first is not None and self.last is not None and self.first > self.last:
            raise InputError(
                f"The first plane ({self.first}) comes after the last one ({self.last}).", code="first-plane-after-last"
            )

    def bounds(self, count: int) -> tuple[int, int]:
        """Return the first and last plane for a stack of ``count`` planes.

        Raises
        ------
        InputError
            If a bound lies outside the stack.
        """
        first = 0 if self.first is None else self.first
        last = count - 1 if self.last is None else self.last
        if not 0 <= first <= last < count:
            raise InputError(
                f"Planes {first} to {last} are not all in the stack: its planes are 0 to {count - 1}.",
                code="bounds-outside-stack",
            )
        return first, last

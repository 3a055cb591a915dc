"""Parameters of a fine-tuning run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal, get_args

from pydantic import Field

from napari_sam_lora.errors import InputError
from napari_sam_lora.labels import LabelMeaning
from napari_sam_lora.parameters.schema import parameters

Mode = Literal["decoder", "late", "full"]
TuneDecoder = Literal["lora", "all", "none"]
MODES: tuple[Mode, ...] = get_args(Mode)
# Prefixes of views are kept in memory up to this many bytes, and then in a temporary folder.
DEFAULT_CACHE = 1 << 30
DEFAULT_DISK_CACHE = 4 << 30


@parameters
class TrainConfig:
    """Settings of a fine-tuning run.

    Raises
    ------
    InputError
        If a value makes no sense.
    """

    mode: Mode = Field(
        default="late",
        description='"decoder": the mask decoder; "late": also the last encoder blocks; "full": also all blocks.',
    )
    rank: int = Field(default=4, ge=1, description="Rank of the low-rank layers.")
    alpha: float | None = Field(
        default=None, gt=0, description="Their scale is alpha / rank; by default alpha is the rank."
    )
    late_blocks: int | None = Field(
        default=None, description='Number of last encoder blocks in "late" mode; by default a third of them.'
    )
    blocks: tuple[int, ...] | None = Field(
        default=None,
        description="Encoder blocks with low-rank layers, counted from 0, instead of those of the mode.",
    )
    targets: tuple[str, ...] = Field(
        default=("q", "v"),
        description='Layers of those blocks: "q", "k" and "v" of the attention, its output projection "proj", and '
        '"mlp".',
    )
    tune_decoder: TuneDecoder = Field(
        default="lora",
        description='"lora": low-rank layers in the decoder\'s attention and heads, and in the mask refiner of '
        'sam_nano; "all": every decoder weight; "none": the decoder is not changed.',
    )
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Probability with which an input of a low-rank layer is dropped in training.",
    )
    labels: LabelMeaning = Field(
        default="instances",
        description='What label images mean. "instances": one id per object; "classes": one id per class, and each of '
        'its connected regions is an object; "mask": all pixels that are not 0 are one object. Classes are learned by '
        "the dense head.",
    )
    steps: int = Field(default=200, ge=1, description="Optimisation steps.")
    learning_rate: float = Field(
        default=2e-3, gt=0, description="Peak rate of AdamW, after a linear warm-up and before a cosine decay."
    )
    weight_decay: float = Field(default=0.01, ge=0, description="Weight decay of AdamW.")
    warmup: float = Field(default=0.05, ge=0, le=1, description="Share of the steps with a rising learning rate.")
    objects: int = Field(default=8, ge=1, description="Objects per step, all of one image.")
    chunk: int = Field(default=8, ge=1, description="Objects decoded at once; fewer need less memory.")
    box_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Probability that an object is first prompted by a box; otherwise by a click or a mask.",
    )
    mask_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Probability that an object without a box is first prompted by a roughly drawn mask; otherwise by "
        "a click.",
    )
    corrections: int = Field(
        default=1, ge=0, description="Corrective clicks that may follow the first prompt of a step."
    )
    views: int = Field(
        default=8,
        ge=1,
        description="Flips, rotations and intensity variants drawn of each image; 1 trains on the image as it is.",
    )
    validation_share: float = Field(default=0.25, ge=0, lt=1, description="Share of the objects that are held out.")
    check_every: int = Field(
        default=25,
        ge=0,
        description="Steps between two checks of some held-out objects. Where enough others are held out for the "
        "verdict, the best state of all checks is kept. 0 never checks.",
    )
    patience: int = Field(
        default=0,
        ge=0,
        description="Checks without a gain after which the run ends early; 0 always runs all steps.",
    )
    dense: bool = Field(
        default=True,
        description="Also train the dense head, which finds objects without prompts and, if there are two or more, "
        "predicts their classes. It learns only where background "
        "is known: in planes that are labelled completely, or where the user says so.",
    )
    complete: bool = Field(
        default=False,
        description="All planes are labelled completely: what has no label is background. Otherwise only what is known "
        "of each plane.",
    )
    dense_weight: float = Field(
        default=1.0, gt=0, description="Weight of the dense head's loss relative to that of the prompted masks."
    )
    dense_learning_rate: float = Field(
        default=1.5e-3, gt=0, title="dense rate", description="Peak learning rate of the dense head."
    )
    dense_crops: int = Field(
        default=4,
        ge=0,
        description="Crops at varied scale that the dense head sees at each step, besides views of the mask decoder.",
    )
    seed: int = Field(default=0, ge=0, description="The same seed gives the same adapter on the same machine.")
    cache_bytes: int = Field(default=DEFAULT_CACHE, ge=0, description="Memory for the encoded prefixes of the views.")
    cache_disk_bytes: int = Field(
        default=DEFAULT_DISK_CACHE,
        ge=0,
        description="Space in a temporary folder for prefixes that do not fit in memory; others are encoded again when "
        "needed.",
    )
    half_cache: bool = Field(default=True, description="Keep prefixes in half precision.")
    recompute: bool = Field(
        default=False,
        description="Compute the activations of tuned encoder blocks twice instead of keeping them: less memory, more "
        "time. If memory runs out, a run switches this on by itself.",
    )

    def __post_init__(self) -> None:
        if self.patience and not self.check_every:
            raise InputError(
                "patience counts checks of held-out objects: set check_every too.", code="patience-without-checks"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a file."""
        values = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Make settings from the values of `as_dict`.

        Raises
        ------
        InputError
            If a name is not a setting, or a value cannot be used.
        """
        return cls(**values)

"""The settings of a fine-tuning run: one validated dataclass."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from napari_sam_lora.errors import InputError
from napari_sam_lora.lora.inject import MODES, Mode, TuneDecoder

# A run keeps its views' prefixes in memory up to this many bytes.
DEFAULT_CACHE = 1 << 30


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a fine-tuning run.

    Attributes
    ----------
    mode : str
        "decoder": the mask decoder; "late": that and the last encoder blocks; "full": that and all blocks.
    rank : int
        Rank of the low-rank layers.
    alpha : float, optional
        Their scale is alpha / rank; by default alpha is the rank.
    late_blocks : int, optional
        Number of last encoder blocks in "late" mode; by default a third of them.
    blocks : tuple of int, optional
        Encoder blocks with low-rank layers, counted from 0, instead of those of the mode.
    targets : tuple of str
        Layers of those blocks: "q", "k" and "v" of the attention, its output projection "proj", and "mlp".
    tune_decoder : str
        "lora": low-rank layers in the decoder's attention and heads; "all": every decoder weight; "none": the decoder
        stays as it is.
    dropout : float
        Probability with which an input of a low-rank layer is dropped in training.
    steps : int
        Optimisation steps.
    learning_rate : float
        Peak rate of AdamW, after a linear warm-up and before a cosine decay.
    weight_decay : float
    warmup : float
        Share of the steps.
    objects : int
        Objects a step, all of one image.
    chunk : int
        Objects decoded at once; fewer need less memory.
    box_share : float
        Probability that an object is first prompted by a box; otherwise by a click.
    corrections : int
        Corrective clicks that may follow the first prompt of a step.
    views : int
        Flips, rotations and intensity variants drawn of each image; 1 trains on the image as it is.
    validation_share : float
        Share of the objects that is held out.
    seed : int
        The same seed gives the same adapter on the same machine.
    cache_bytes : int
        Memory for the encoded prefixes of the views; what exceeds it is encoded again when needed.
    half_cache : bool
        Keep prefixes in half precision.
    """

    mode: Mode = "late"
    rank: int = 4
    alpha: float | None = None
    late_blocks: int | None = None
    blocks: tuple[int, ...] | None = None
    targets: tuple[str, ...] = ("q", "v")
    tune_decoder: TuneDecoder = "lora"
    dropout: float = 0.0
    steps: int = 200
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    objects: int = 8
    chunk: int = 8
    box_share: float = 0.5
    corrections: int = 1
    views: int = 8
    validation_share: float = 0.25
    seed: int = 0
    cache_bytes: int = DEFAULT_CACHE
    half_cache: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))
        object.__setattr__(self, "blocks", None if self.blocks is None else tuple(self.blocks))
        if self.mode not in MODES:
            raise InputError(f"mode is one of {', '.join(MODES)}, not {self.mode!r}.")
        for name in ("rank", "steps", "objects", "chunk", "views"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("warmup", "box_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie between 0 and 1, not {getattr(self, name)}.")
        if not 0 <= self.validation_share < 1:
            raise InputError(f"validation_share must be at least 0 and less than 1, not {self.validation_share}.")
        if self.learning_rate <= 0 or self.weight_decay < 0:
            raise InputError("learning_rate must be positive and weight_decay not negative.")
        if self.corrections < 0 or self.cache_bytes < 0:
            raise InputError("corrections and cache_bytes must not be negative.")
        if self.alpha is not None and self.alpha <= 0:
            raise InputError(f"alpha must be positive, not {self.alpha}.")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a file."""
        values = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Inverse of `as_dict`.

        Raises
        ------
        InputError
            If a name is not a setting.
        """
        unknown = values.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise InputError(f"Not a training setting: {', '.join(sorted(unknown))}.")
        return cls(**values)

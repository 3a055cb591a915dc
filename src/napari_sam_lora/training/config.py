"""The settings of a fine-tuning run: one validated dataclass."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from napari_sam_lora.errors import InputError
from napari_sam_lora.labels import LABEL_MEANINGS, LabelMeaning
from napari_sam_lora.lora.inject import MODES, Mode, TuneDecoder

# A run keeps its views' prefixes in memory up to this many bytes, and then in a temporary folder.
DEFAULT_CACHE = 1 << 30
DEFAULT_DISK_CACHE = 4 << 30


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
        "lora": low-rank layers in the decoder's attention and heads, and in what refines its masks in sam_nano; "all":
        every decoder weight; "none": the decoder stays as it is.
    dropout : float
        Probability with which an input of a low-rank layer is dropped in training.
    labels : str
        What label images mean. "instances": one id an object; "classes": one id a class, and each of its connected
        parts is an object; "mask": everything that is not 0 is the one object of its image.
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
        Probability that an object is first prompted by a box; otherwise by a click or a mask.
    mask_share : float
        Probability that an object that is not prompted by a box is prompted by a roughly drawn mask, not by a click.
    corrections : int
        Corrective clicks that may follow the first prompt of a step.
    views : int
        Flips, rotations and intensity variants drawn of each image; 1 trains on the image as it is.
    validation_share : float
        Share of the objects that is held out.
    check_every : int
        Steps between two looks at some held-out objects. Where enough are held out to judge the adapter by others,
        the best state seen is the one that is kept. 0 never looks.
    patience : int
        Looks without a gain after which the run ends early; 0 always runs all the steps.
    dense : bool
        Train the dense head along, which finds objects without prompts. It learns only where background is known:
        in planes that are labelled completely, or where the user says so.
    complete : bool
        All planes are labelled completely: what has no label is background. Otherwise only what is said of each plane.
    dense_weight : float
        Weight of the dense head's loss beside that of the prompted masks.
    dense_learning_rate : float
        Peak rate of the dense head.
    dense_crops : int
        Crops at varied scale that the dense head sees at each step, besides the view that the mask decoder sees.
    seed : int
        The same seed gives the same adapter on the same machine.
    cache_bytes : int
        Memory for the encoded prefixes of the views.
    cache_disk_bytes : int
        Room in a temporary folder for those that do not fit in memory; what exceeds it too is encoded again when
        needed.
    half_cache : bool
        Keep prefixes in half precision.
    recompute : bool
        Compute the activations of tuned encoder blocks twice instead of keeping them: less memory, more time. A run
        that runs out of memory does so by itself.
    """

    mode: Mode = "late"
    rank: int = 4
    alpha: float | None = None
    late_blocks: int | None = None
    blocks: tuple[int, ...] | None = None
    targets: tuple[str, ...] = ("q", "v")
    tune_decoder: TuneDecoder = "lora"
    dropout: float = 0.0
    labels: LabelMeaning = "instances"
    steps: int = 200
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    objects: int = 8
    chunk: int = 8
    box_share: float = 0.5
    mask_share: float = 0.2
    corrections: int = 1
    views: int = 8
    validation_share: float = 0.25
    check_every: int = 25
    patience: int = 0
    dense: bool = True
    complete: bool = False
    dense_weight: float = 1.0
    dense_learning_rate: float = 1.5e-3
    dense_crops: int = 4
    seed: int = 0
    cache_bytes: int = DEFAULT_CACHE
    cache_disk_bytes: int = DEFAULT_DISK_CACHE
    half_cache: bool = True
    recompute: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))
        object.__setattr__(self, "blocks", None if self.blocks is None else tuple(self.blocks))
        self._check_choices()
        self._check_ranges()
        if self.patience and not self.check_every:
            raise InputError(
                "patience counts looks at held-out objects: set check_every too.", code="patience-without-checks"
            )

    def _check_choices(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"mode is one of {', '.join(MODES)}, not {self.mode!r}.", code="unknown-mode")
        if self.labels not in LABEL_MEANINGS:
            raise InputError(
                f"labels is one of {', '.join(LABEL_MEANINGS)}, not {self.labels!r}.", code="unknown-label-meaning"
            )

    def _check_ranges(self) -> None:
        at_least_one = ("rank", "steps", "objects", "chunk", "views")
        not_negative = (
            "seed",
            "corrections",
            "check_every",
            "patience",
            "cache_bytes",
            "cache_disk_bytes",
            "dense_crops",
        )
        shares = ("warmup", "box_share", "mask_share")
        rules = [(name, getattr(self, name) >= 1, "must be at least 1") for name in at_least_one]
        rules += [(name, getattr(self, name) >= 0, "must not be negative") for name in not_negative]
        rules += [(name, 0 <= getattr(self, name) <= 1, "must lie between 0 and 1") for name in shares]
        rules += [
            ("validation_share", 0 <= self.validation_share < 1, "must be at least 0 and less than 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "must be positive"),
            ("dense_learning_rate", 0 < self.dense_learning_rate < math.inf, "must be positive"),
            ("dense_weight", 0 < self.dense_weight < math.inf, "must be positive"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "must not be negative"),
            ("alpha", self.alpha is None or 0 < self.alpha < math.inf, "must be positive"),
        ]
        for name, is_valid, rule in rules:
            if not is_valid:
                raise InputError(f"{name} {rule}, not {getattr(self, name)}.", code=f"{name}-out-of-range")

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
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"A training setting is of the wrong kind: {error}") from error

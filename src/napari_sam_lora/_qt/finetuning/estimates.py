"""How long fine-tuning will take, from how fast the model is on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam_lora.prompts import Prompts
from napari_sam_lora.session import CancelToken

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.training.config import TrainConfig

# A backward pass takes about as long as two forward passes.
STEP_OVER_FORWARD = 3.0
OBJECTS_TIMED = 8


@dataclass(frozen=True)
class Speed:
    """What was measured on this machine.

    Attributes
    ----------
    encode : float
        Seconds to encode a plane.
    decode : float
        Seconds to decode one object, of several at once.
    blocks : int
        Blocks of the encoder.
    """

    encode: float
    decode: float
    blocks: int


def measure_speed(token: CancelToken, model: Model) -> Speed:
    """Encode a plane of noise and decode some objects. Runs in a worker thread; about two encodings long."""
    from napari_sam_lora.api import Model  # noqa: PLC0415  torch is imported when it is needed

    model = Model(model.loaded)  # with an empty cache of its own
    noise = np.random.default_rng(0).integers(0, 255, (128, 128), np.uint8)
    model.encode(noise[::-1])  # the first one is slower than those that follow
    token.check()
    begun = time.perf_counter()
    embedding = model.encode(noise)
    encoded = time.perf_counter()
    token.check()
    prompts = Prompts(boxes=[[8, 8, 40 + 4 * number, 60] for number in range(OBJECTS_TIMED)])
    model.segment(embedding, prompts)
    middle = time.perf_counter()
    model.segment(embedding, prompts)
    decode = (time.perf_counter() - middle) / OBJECTS_TIMED
    return Speed(encoded - begun, decode, len(model.loaded.sam.image_encoder.blocks))


def tuned_share(config: TrainConfig, blocks: int) -> float:
    """Share of the encoder that is computed anew in every step."""
    if config.blocks is not None:
        return (blocks - min(config.blocks)) / blocks if config.blocks else 0.0
    if config.mode == "decoder":
        return 0.0
    late = config.late_blocks if config.late_blocks is not None else max(1, blocks // 3)
    return 1.0 if config.mode == "full" else min(1.0, late / blocks)


def estimate_seconds(config: TrainConfig, speed: Speed, planes: int, objects: int, images: int) -> float:
    """Seconds from the start to the verdict.

    Parameters
    ----------
    config : TrainConfig
    speed : Speed
    planes, objects : int
        Of the training set.
    images : int
        Single images and stacks that the planes are from.
    """
    from napari_sam_lora.training.data.split import FEWEST_HELD_OUT, FEWEST_OBJECTS, FOLDS  # noqa: PLC0415  see above

    share = tuned_share(config, speed.blocks)
    whole = 1 / images if images > 1 else 0.0  # several are held out as wholes
    held_out = max(config.validation_share, whole) if config.validation_share else 0.0
    folds = FOLDS if 0 < held_out * objects < FEWEST_HELD_OUT and objects >= FEWEST_OBJECTS else 0
    shown = min(config.objects, max(1, objects))
    step = STEP_OVER_FORWARD * (share * speed.encode + shown * (1 + config.corrections) * speed.decode)
    views = min(planes * config.views, config.steps)
    judging = folds * _judging(speed, planes, objects / FOLDS)
    if not folds:
        judging = _judging(speed, planes * (held_out if whole else 1), held_out * objects)
    return views * (1 - share) * speed.encode + (1 + folds) * config.steps * step + judging


def _judging(speed: Speed, planes: float, objects: float) -> float:
    """Seconds to prompt the base model and the adapted one for held-out objects on some planes."""
    from napari_sam_lora.training.evaluation.acceptance import MOST_JUDGED  # noqa: PLC0415
    from napari_sam_lora.training.evaluation.metrics import MAX_CLICKS  # noqa: PLC0415

    judged = min(objects, MOST_JUDGED)
    encoded = min(judged, planes / max(1, objects // MOST_JUDGED))  # see `pick`
    return 2 * (encoded * speed.encode + judged * (1 + MAX_CLICKS) * speed.decode)

"""Estimate the time of fine-tuning from the measured speed of the model on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_sam_lora.prompts import Prompts
from napari_sam_lora.session import CancelToken

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.parameters.training import TrainConfig

STEP_OVER_FORWARD = 3.0  # a backward pass takes about as long as two forward passes
TIMED_OBJECTS = 8


@dataclass(frozen=True)
class Speed:
    """Measured speed of a model on this machine.

    Attributes
    ----------
    encode : float
        Seconds to encode a plane.
    decode : float
        Seconds to decode one object, when several are decoded at once.
    blocks : int
        Number of blocks in the encoder.
    """

    encode: float
    decode: float
    blocks: int


def measure_speed(token: CancelToken, model: Model) -> Speed:
    """Time the encoding of noise and the decoding of some objects; lasts about two encodings, in a worker thread."""
    from napari_sam_lora.api import Model  # noqa: PLC0415  torch is imported when it is needed

    model = Model(model.loaded)  # a cache of its own, which is empty
    noise = np.random.default_rng(0).integers(0, 255, (128, 128), np.uint8)
    model.encode(noise[::-1])  # the first encoding is slower than those that follow
    token.check()
    start = time.perf_counter()
    embedding = model.encode(noise)
    encode = time.perf_counter() - start
    token.check()
    prompts = Prompts(boxes=[[8, 8, 40 + 4 * number, 60] for number in range(TIMED_OBJECTS)])
    model.segment(embedding, prompts)  # the first decoding is slower, too
    start = time.perf_counter()
    model.segment(embedding, prompts)
    decode = (time.perf_counter() - start) / TIMED_OBJECTS
    return Speed(encode, decode, len(model.loaded.sam.image_encoder.blocks))


def tuned_share(config: TrainConfig, blocks: int) -> float:
    """Return the share of the encoder's blocks that every step computes anew; the earlier ones are cached."""
    if config.blocks is not None:
        return (blocks - min(config.blocks)) / blocks if config.blocks else 0.0
    if config.mode == "decoder":
        return 0.0
    late = config.late_blocks if config.late_blocks is not None else max(1, blocks // 3)
    return 1.0 if config.mode == "full" else min(1.0, late / blocks)


def estimate_seconds(config: TrainConfig, speed: Speed, planes: int, objects: int, images: int) -> float:
    """Estimate the seconds from the start of a run to its verdict.

    Parameters
    ----------
    config : TrainConfig
    speed : Speed
    planes, objects : int
        Planes and labelled objects in the training set.
    images : int
        Number of single images and stacks that the planes are from.
    """
    from napari_sam_lora.training.data.split import WHOLE_IMAGES  # noqa: PLC0415  imports torch

    share = tuned_share(config, speed.blocks)
    image_share = 1 / images if images >= WHOLE_IMAGES else 0.0  # of several images, whole ones are held out
    held_out = max(config.validation_share, image_share) if config.validation_share else 0.0
    runs = _runs(held_out, objects)
    objects_per_step = min(config.objects, max(1, objects))
    step = STEP_OVER_FORWARD * (share * speed.encode + objects_per_step * (1 + config.corrections) * speed.decode)
    views = min(planes * config.views, config.steps)
    if runs > 1:  # all objects are judged, each by one of the adapters
        judging = _judging_seconds(speed, planes, objects)
    else:
        judging = _judging_seconds(speed, planes * (held_out if image_share else 1), held_out * objects)
    return views * (1 - share) * speed.encode + runs * config.steps * step + judging


def _runs(held_out: float, objects: int) -> float:
    """Estimate the steps of a run in multiples of those of its adapter, because of cross-validation.

    Parameters
    ----------
    held_out : float
        Share of the objects.
    """
    from napari_sam_lora.training.data.split import (  # noqa: PLC0415  imports torch
        ENOUGH_HELD_OUT,
        FEWEST_HELD_OUT,
        FEWEST_OBJECTS,
        FOLDS,
        MORE_FOLDS,
    )

    if not 0 < held_out * objects < ENOUGH_HELD_OUT or objects < FEWEST_OBJECTS:
        return 1.0
    if held_out * objects < FEWEST_HELD_OUT:
        return 1.0 + FOLDS * (1 - 1 / FOLDS)
    trained = 1 - held_out
    return 1.0 + MORE_FOLDS * min(1.0, (1 - trained / MORE_FOLDS) / trained)


def _judging_seconds(speed: Speed, planes: float, objects: float) -> float:
    """Estimate the seconds to segment held-out objects with the base model and with the adapted one."""
    from napari_sam_lora.training.evaluation.acceptance import MOST_JUDGED  # noqa: PLC0415
    from napari_sam_lora.training.evaluation.metrics import MAX_CLICKS  # noqa: PLC0415

    judged = min(objects, MOST_JUDGED)
    encoded = min(judged, planes / max(1, objects // MOST_JUDGED))  # see `acceptance.spread_objects`
    return 2 * (encoded * speed.encode + judged * (1 + MAX_CLICKS) * speed.decode)

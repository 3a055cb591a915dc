"""Resolve settings and held-out units when training resumes from an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from napari_sam_lora.errors import AdapterError
from napari_sam_lora.lora.adapter import Adapter
from napari_sam_lora.model.checkpoints import LoadedModel
from napari_sam_lora.parameters.training import MODES, TrainConfig


def resume_settings(
    start: Adapter | None, loaded: LoadedModel, config: TrainConfig, held_out: Sequence[str]
) -> tuple[TrainConfig, tuple[str, ...]]:
    """Take the layers of the adapter that training resumes from, and hold out again what it was not trained on.

    Without a start, settings and held-out units stay as they are. Units that the adapter was tested on stay held out,
    or later tests would be on objects that it has seen.

    Returns
    -------
    config : TrainConfig
    held_out : tuple of str

    Raises
    ------
    AdapterError
        If the adapter belongs to another base model.
    """
    if start is None:
        return config, tuple(held_out)
    info, lora = start.info, start.info.lora
    if info.base_hash != loaded.weights_hash:
        raise AdapterError(
            f"This adapter was trained on {info.base_name}, with other weights than the loaded {loaded.name}. "
            f"Load {info.base_name} to train it further.",
            code="other-base-model",
        )
    layers = replace(
        config,
        mode=next((mode for mode in MODES if mode == info.mode), config.mode),
        rank=lora.rank,
        alpha=lora.alpha,
        blocks=lora.blocks,
        targets=lora.targets,
        tune_decoder=lora.tune_decoder,
    )
    return layers, tuple(dict.fromkeys([*held_out, *info.training.get("held_out", ())]))

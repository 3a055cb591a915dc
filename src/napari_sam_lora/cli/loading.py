"""Load models for commands."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pooch

from napari_sam_lora.cli.console import Console
from napari_sam_lora.errors import AdapterError, CheckpointError
from napari_sam_lora.images import Preprocessing
from napari_sam_lora.model.download import is_available, model_path
from napari_sam_lora.model.registry import MODELS, ModelInfo
from napari_sam_lora.parameters.run import ModelSettings

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.lora.adapter import Adapter


def fetch(info: ModelInfo, console: Console) -> Path:
    """Return the file of a named model; download it with a progress bar if it is not on this computer."""
    if is_available(info):
        return model_path(info)
    pooch.get_logger().setLevel(logging.WARNING)  # the bar shows it
    with console.progress(f"fetching {info.name}", "B", unit_scale=True, unit_divisor=1024) as progress:
        return model_path(info, progress)


def open_model(settings: ModelSettings, preprocessing: Preprocessing | None, console: Console) -> Model:
    """Load a model from settings; download it first if needed."""
    from napari_sam_lora.api import load_model  # noqa: PLC0415  torch is imported when it is needed

    info = MODELS.get(settings.name)
    if info is not None:
        fetch(info, console)
        if info.decoder is not None:
            with suppress(CheckpointError):  # the model works without, and loading it says so
                fetch(info.decoder, console)
    return load_model(settings.name, settings.device, preprocessing, settings.input_size)


def base_name(adapter: Adapter, option: str | None) -> str:
    """Return the base model of an adapter: that of the option --model, or else the one that the adapter names.

    Raises
    ------
    AdapterError
        If the option is missing, and the adapter was trained on a checkpoint without a registered name.
    """
    name = option or adapter.info.base_name
    if option is None and name not in MODELS:
        raise AdapterError(
            f"The adapter was trained on {name}, which is not a named model: give its path with --model.",
            code="base-model-not-named",
        )
    return name

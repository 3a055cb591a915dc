"""Models and adapters for commands."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pooch

from napari_sam_lora.cli.console import Console
from napari_sam_lora.cli.settings import ModelSettings
from napari_sam_lora.errors import AdapterError, CheckpointError
from napari_sam_lora.images import Preprocessing
from napari_sam_lora.model.download import is_available, model_path
from napari_sam_lora.model.registry import MODELS, ModelInfo

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.lora.adapter import Adapter


def fetch(info: ModelInfo, console: Console) -> Path:
    """Path of a named model's file, fetched with a progress bar if it is not here."""
    if is_available(info):
        return model_path(info)
    pooch.get_logger().setLevel(logging.WARNING)  # the bar says it
    with console.progress(f"fetching {info.name}", "B", unit_scale=True, unit_divisor=1024) as progress:
        return model_path(info, progress)


def open_model(settings: ModelSettings, preprocessing: Preprocessing | None, console: Console) -> Model:
    """Load the model of some settings, fetching it first if need be."""
    from napari_sam_lora.api import load_model  # noqa: PLC0415  torch is imported when it is needed

    info = MODELS.get(settings.name)
    if info is not None:
        fetch(info, console)
        if info.decoder is not None:
            with suppress(CheckpointError):  # the model works without, and loading it says so
                fetch(info.decoder, console)
    return load_model(settings.name, settings.device, preprocessing, settings.input_size)


def base_name(adapter: Adapter, named: str | None) -> str:
    """The base model of an adapter: the one named on the command line, or that which the adapter names.

    Raises
    ------
    AdapterError
        If the adapter was trained on a checkpoint without a registered name.
    """
    name = named or adapter.info.base_name
    if named is None and name not in MODELS:
        raise AdapterError(
            f"The adapter was trained on {name}, which is not a named model: give its path with --model."
        )
    return name

"""Training settings as the YAML file of ``napari-sam-lora train``, and the training set beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.files import atomic_path
from napari_sam_lora.io.tiff import write_labels
from napari_sam_lora.session import CancelToken, TrainingPlane

if TYPE_CHECKING:
    from napari_sam_lora.api import Model

NOTE = """\
# Settings of 'napari-sam-lora train', saved by the fine-tune widget. Paths are relative to this file.
# What is left out has its default; 'napari-sam-lora train --init-config' explains all settings.
"""


def write_settings(
    token: CancelToken,
    *,
    path: Path,
    values: dict[str, Any],
    model: Model | None,
    planes: Sequence[TrainingPlane] = (),
) -> Path:
    """Write the file, and if planes are given their images and labels into a folder beside it.

    Parameters
    ----------
    path : Path
        Ends in .yaml or .yml.
    values : dict
        Training settings that differ from the defaults.
    model : Model, optional
        Named in the file, with its input size and intensity window.
    planes : sequence of TrainingPlane

    Raises
    ------
    InputError
        If the folder for the images holds something already, or the name has another ending.
    """
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise InputError(f"A settings file ends in .yaml, unlike {path.name}.")
    content: dict[str, Any] = {}
    if model is not None:
        encoder = model.loaded.sam.image_encoder
        content["model"] = {"name": model.name, "input_size": int(encoder.img_size)}
        content["preprocessing"] = _window(model)
    if planes:
        folder = path.with_name(f"{path.stem}_data")
        write_planes(token, folder, planes)
        content["data"] = {"path": folder.name}
    content["training"] = _plain(values)
    content["output"] = {"adapter": f"{path.stem}.safetensors"}
    with atomic_path(path) as temporary:
        temporary.write_text(NOTE + yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def write_planes(token: CancelToken, folder: Path, planes: Sequence[TrainingPlane]) -> None:
    """Write images/ and labels/ in the order in which they are trained on, every pixel and type as it is."""
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"The folder {folder} holds files already: choose another name, or empty it.")
    for number, plane in enumerate(planes):
        token.progress(number, len(planes))
        name = f"{number:04d}"
        _write_image(folder / "images" / name, plane.source.read(plane.plane))
        write_labels(folder / "labels" / f"{name}.tif", plane.labels)
    token.progress(len(planes), len(planes))


def read_settings(path: Path) -> tuple[dict[str, Any], str]:
    """Training settings of a YAML file, and the name of its model; empty if it names none."""
    from napari_sam_lora.cli.settings import read_config  # noqa: PLC0415  imports torch
    from napari_sam_lora.training.config import TrainConfig  # noqa: PLC0415

    found = read_config(path)
    TrainConfig(**found["training"])
    return found["training"], str(found["model"].get("name") or "")


def _write_image(path: Path, pixels: NDArray[Any]) -> None:
    # Not TIFF: the split into trained and held-out images depends on the type, which not all of them keep.
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path.with_suffix(".npy")) as temporary, temporary.open("wb") as file:
        np.save(file, pixels, allow_pickle=False)


def _window(model: Model) -> dict[str, Any]:
    return _plain({name: value for name, value in model.preprocessing.as_dict().items() if value is not None})


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

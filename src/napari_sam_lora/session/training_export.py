"""Export of training settings as a YAML file for ``napari-sam-lora train``, with the training set beside it."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.files import atomic_path
from napari_sam_lora.images import StackPosition
from napari_sam_lora.io.tables.classes import write_object_classes
from napari_sam_lora.io.tables.user_prompts import ENDING, write_user_prompts
from napari_sam_lora.io.tiff.writing import write_labels
from napari_sam_lora.parameters.yaml_file import read_config
from napari_sam_lora.session import CancelToken, TrainingPlane
from napari_sam_lora.session.training_job import user_prompts

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.lora.adapter import Adapter

TABLE, START = "planes.csv", "start.safetensors"
COLUMNS = ("image", "labels", "prompts", "classes", "complete", "stack", "plane", "axes")

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
    held_out: Sequence[str] = (),
    start: Adapter | None = None,
) -> Path:
    """Write the settings file and, if there are planes, the training set into a folder beside it.

    If this is cancelled or fails, no file is changed.

    Parameters
    ----------
    path : Path
        Settings file; ends in .yaml or .yml.
    values : dict
        Training settings that differ from the defaults.
    model : Model, optional
        Model whose name, input size and intensity window are written.
    planes : sequence of TrainingPlane
    held_out : sequence of str
        Units that earlier runs held out.
    start : Adapter, optional
        Adapter from which the run continues.

    Raises
    ------
    InputError
        If the folder for the training set is not empty, or the file name has another ending.
    """
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise InputError(
            f"The name of a settings file ends in .yaml, unlike {path.name}: rename it.", code="wrong-file-ending"
        )
    content: dict[str, Any] = {}
    if model is not None:
        encoder = model.loaded.sam.image_encoder
        content["model"] = {"name": model.name, "input_size": int(encoder.img_size)}
        content["preprocessing"] = _window(model)
    folder = path.with_name(f"{path.stem}_data")
    if planes:
        content["data"] = {"path": f"{folder.name}/{TABLE}"}
        if held_out:
            content["data"]["held_out"] = list(held_out)
        if start is not None:
            content.setdefault("model", {})["start"] = f"{folder.name}/{START}"
    content["training"] = _plain(values)
    content["output"] = {"adapter": f"{path.stem}.safetensors"}
    with atomic_path(path) as temporary:
        temporary.write_text(NOTE + yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
        if planes:
            write_planes(token, folder, planes, values.get("labels", "instances") == "instances", start)
    return path


def write_planes(
    token: CancelToken,
    folder: Path,
    planes: Sequence[TrainingPlane],
    with_prompts: bool = True,
    start: Adapter | None = None,
) -> Path:
    """Write images, labels, prompts and classes, and a table that lists them in the order of training.

    Pixels and their types are not changed. The folder appears when it is complete: an export that is cancelled or fails
    leaves nothing behind.

    Returns
    -------
    Path
        The table, for `read_dataset`.

    Raises
    ------
    InputError
        If the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(
            f"The folder {folder} already contains files: choose another name, or empty it.", code="folder-not-empty"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
        filled = Path(beside) / folder.name  # nested, because only its owner may read a temporary folder
        filled.mkdir()
        _fill(token, filled, planes, with_prompts)
        if start is not None:
            start.save(filled / START)
        token.check()
        if folder.exists():
            folder.rmdir()
        filled.rename(folder)
    return folder / TABLE


def read_settings(path: Path) -> tuple[dict[str, Any], str]:
    """Read the training settings of a YAML file, and the name of its model (empty without one)."""
    config = read_config(path)
    return config["training"], str(config["model"].get("name") or "")


def _fill(token: CancelToken, folder: Path, planes: Sequence[TrainingPlane], with_prompts: bool) -> None:
    """Write all files of a training set into an empty folder."""
    rows = []
    for number, plane in enumerate(planes):
        token.progress(number, len(planes))
        name = f"{number:04d}"
        row = {"image": f"images/{name}.npy", "labels": f"labels/{name}.tif"}
        _write_image(folder / row["image"], plane.source.read(plane.plane))
        write_labels(folder / row["labels"], plane.labels)
        prompts = user_prompts(plane) if with_prompts else {}
        if prompts:
            row["prompts"] = f"prompts/{name}{ENDING}"
            (folder / "prompts").mkdir(exist_ok=True)
            write_user_prompts(folder / row["prompts"], prompts)
        present = np.unique(plane.labels).tolist()
        of_object = {label: number for label, number in plane.classes.by_object.items() if label in present}
        if of_object:
            row["classes"] = f"classes/{name}.csv"
            (folder / "classes").mkdir(exist_ok=True)
            write_object_classes(folder / row["classes"], replace(plane.classes, by_object=of_object))
        if plane.complete:
            row["complete"] = "yes"
        if plane.position is not None:
            row |= _position_columns(plane.position)
        rows.append(row)
    with atomic_path(folder / TABLE) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    token.progress(len(planes), len(planes))


def _write_image(path: Path, pixels: NDArray[Any]) -> None:
    # NPY, not TIFF: TIFF does not keep all pixel types, and the split into trained and held-out images depends on them.
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, pixels, allow_pickle=False)


def _position_columns(position: StackPosition) -> dict[str, str]:
    return {
        "stack": position.stack,
        "plane": " ".join(map(str, position.index)),
        "axes": " ".join(map(str, position.plane_axes)),
    }


def _window(model: Model) -> dict[str, Any]:
    return _plain({name: value for name, value in model.preprocessing.as_dict().items() if value is not None})


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

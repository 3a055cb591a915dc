"""Save and load the user's prompts of a plane, as a file of the training set."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.files import atomic_path
from napari_sam_lora.prompts import Prompts

ENDING = ".npz"
_KINDS = ("box", "points", "point_labels", "mask")


def write_user_prompts(path: Path, prompts: Mapping[int, Prompts]) -> Path:
    """Write the prompts of each object, atomically.

    Parameters
    ----------
    path : Path
        Ends in .npz. It holds an array for each kind of prompt of each object, named such as ``7/box``.
    prompts : mapping of int to Prompts
        One row each, by the object's id.
    """
    arrays: dict[str, Any] = {
        f"{label}/{kind}": value for label, row in prompts.items() for kind, value in _arrays(row).items()
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def read_user_prompts(path: Path) -> dict[int, Prompts]:
    """Read the file that `write_user_prompts` wrote; returns one row of prompts by the object's id.

    Raises
    ------
    InputError
        If the file is damaged or of another kind.
    """
    objects: dict[int, dict[str, NDArray[Any]]] = {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            if any(entry.extra or entry.comment for entry in stored.zip.infolist()):
                raise ValueError("it is damaged")  # such an entry may have swallowed the next ones
            for name in stored.files:
                label, kind = name.split("/")
                if kind not in _KINDS:
                    raise ValueError(f"{kind} is not a kind of prompt")
                objects.setdefault(int(label), {})[kind] = stored[name]
        return {label: _row(arrays) for label, arrays in objects.items()}
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", code="file-not-readable") from error
    except (ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path.name} is not a file of prompts: {error}", code="not-a-prompt-file") from error


def _arrays(row: Prompts) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    if row.boxes is not None and row.has_box(0):
        arrays["box"] = row.boxes[0]
    if row.points is not None and row.point_labels is not None and row.point_count(0):
        arrays |= {"points": row.points[0], "point_labels": row.point_labels[0]}
    if row.masks is not None:
        arrays["mask"] = row.masks[0]
    return arrays


def _row(arrays: Mapping[str, NDArray[Any]]) -> Prompts:
    def rows(kind: str) -> list[NDArray[Any]] | None:
        return [arrays[kind]] if kind in arrays else None

    mask = arrays.get("mask")
    return Prompts(rows("box"), rows("points"), rows("point_labels"), None if mask is None else mask[None])

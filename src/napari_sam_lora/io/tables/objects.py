"""Measure objects, and write the table of objects."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam_lora.io.pixel_size import PixelSize
from napari_sam_lora.io.tables.prompts import ObjectPrompts
from napari_sam_lora.io.tables.rows import write_table


@dataclass(frozen=True)
class ObjectInfo:
    """Class, origin, score and prompts of an object.

    Attributes
    ----------
    class_id : int
        0 for none.
    class_name : str
    origin : str
        "prompted", "painted", "re-segmented", "everything", or empty.
    score : float
        Predicted IoU; NaN if unknown.
    approved : bool
    adapter : str
        Empty for the base model.
    prompts : tuple of ObjectPrompts
    """

    class_id: int = 0
    class_name: str = ""
    origin: str = ""
    score: float = math.nan
    approved: bool = False
    adapter: str = ""
    prompts: tuple[ObjectPrompts, ...] = field(default=())


def measure_rows(
    labels: NDArray[np.integer[Any]], size: PixelSize, infos: Mapping[int, ObjectInfo] | None = None
) -> list[dict[str, Any]]:
    """Measure each object; return one row per object, sorted by id.

    Parameters
    ----------
    labels : int (..., y, x)
        With more than one axis before y, x the last three are z, y, x, or t, y, x if the size has no depth.
    size : PixelSize
    infos : mapping of int to ObjectInfo, optional
        By the object's id.

    Returns
    -------
    list of dict
        ``pixels``, ``area`` or ``volume`` with its unit (summed over time points), centroid and half-open box in pixels
        along all axes, and the values of `ObjectInfo`.
    """
    ids, compact, counts = np.unique(labels, return_inverse=True, return_counts=True)
    compact = compact.reshape(labels.shape)
    boxes = ndi.find_objects(compact + 1)
    third = "z" if size.has_depth else "t"
    names = [f"axis{axis}" for axis in range(labels.ndim - 3)] + [third, "y", "x"][-min(labels.ndim, 3) :]
    is_volume = labels.ndim >= 3 and size.has_depth
    factor = float(np.prod(size.spacing if is_volume else size.spacing[1:]))
    unit = (size.unit if size.is_known else "pixel") + ("³" if is_volume else "²")
    rows = []
    for index, (label, count) in enumerate(zip(ids.tolist(), counts.tolist(), strict=True)):
        if not label:
            continue
        box = boxes[index]
        coordinates = np.nonzero(compact[box] == index)
        info = (infos or {}).get(label, ObjectInfo())
        row: dict[str, Any] = {
            "id": label,
            "class_id": info.class_id,
            "class": info.class_name,
            "pixels": count,
            "volume" if is_volume else "area": count * factor,
            "unit": unit,
        }
        row |= {f"centroid_{n}": float(c.mean() + s.start) for n, c, s in zip(names, coordinates, box, strict=True)}
        row |= {f"{n}0": s.start for n, s in zip(names, box, strict=True)}
        row |= {f"{n}1": s.stop for n, s in zip(names, box, strict=True)}
        prompts = json.dumps([one.as_dict() for one in info.prompts]) if info.prompts else ""
        score = round(float(info.score), 6) if math.isfinite(info.score) else ""
        row |= {"origin": info.origin, "score": score, "approved": int(info.approved), "adapter": info.adapter}
        rows.append(row | {"prompts": prompts})
    return rows


def write_object_table(
    path: str | Path,
    labels: NDArray[np.integer[Any]],
    size: PixelSize | None = None,
    infos: Mapping[int, ObjectInfo] | None = None,
) -> Path:
    """Write `measure_rows` as CSV, atomically.

    Raises
    ------
    InputError
        If the file does not end in .csv.
    """
    rows = measure_rows(labels, size or PixelSize((1, 1, 1)), infos)
    columns = list(rows[0]) if rows else ["id"]
    return write_table(path, columns, rows)

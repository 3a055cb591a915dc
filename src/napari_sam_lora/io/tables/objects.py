"""The table of objects, and their prompts, as files."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam_lora.errors import InputError
from napari_sam_lora.files import atomic_path
from napari_sam_lora.io.output import PixelSize

_BOX = ("y0", "x0", "y1", "x1")
PROMPT_COLUMNS = ("image", "plane", "object", *_BOX, "y", "x", "label")


@dataclass(frozen=True)
class PlanePrompt:
    """What was asked of an object in one plane.

    Attributes
    ----------
    plane : int
        Number of the plane in its stack, from 0.
    box : tuple of float, optional
        y0, x0, y1, x1, half-open.
    points : tuple of (float, float)
        y, x.
    point_labels : tuple of int
        1 inside the object, 0 outside.
    others : tuple of str
        Kinds that a prompt file cannot hold, such as "mask" and "scribble".
    """

    plane: int = 0
    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float], ...] = ()
    point_labels: tuple[int, ...] = ()
    others: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As in the JSON of prompt files."""
        values: dict[str, Any] = {"plane": self.plane}
        if self.box is not None:
            values["box"] = list(self.box)
        if self.points:
            values |= {"points": [list(point) for point in self.points], "point_labels": list(self.point_labels)}
        return values | ({"others": list(self.others)} if self.others else {})


@dataclass(frozen=True)
class ObjectInfo:
    """What is known of an object beside its pixels.

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
    prompts : tuple of PlanePrompt
    """

    class_id: int = 0
    class_name: str = ""
    origin: str = ""
    score: float = math.nan
    approved: bool = False
    adapter: str = ""
    prompts: tuple[PlanePrompt, ...] = field(default=())


def measure_rows(
    labels: NDArray[np.integer[Any]], size: PixelSize, known: Mapping[int, ObjectInfo] | None = None
) -> list[dict[str, Any]]:
    """One row an object, by id.

    Parameters
    ----------
    labels : int (..., y, x)
        With more than one axis before y, x the last three are z, y, x, or t, y, x if the size has no depth.
    size : PixelSize
    known : mapping of int to ObjectInfo, optional

    Returns
    -------
    list of dict
        ``pixels``, ``area`` or ``volume`` with its unit (of all points in time together), centroid and half-open box in
        pixels along all axes, and what `ObjectInfo` says.
    """
    ids, compact, counts = np.unique(labels, return_inverse=True, return_counts=True)
    compact = compact.reshape(labels.shape)
    places = ndi.find_objects(compact + 1)
    third = "z" if size.has_depth else "t"
    names = [f"axis{axis}" for axis in range(labels.ndim - 3)] + [third, "y", "x"][-min(labels.ndim, 3) :]
    is_volume = labels.ndim >= 3 and size.has_depth
    factor = float(np.prod(size.sides if is_volume else size.sides[1:]))
    unit = (size.unit if size.is_known else "pixel") + ("³" if is_volume else "²")
    rows = []
    for place, (label, count) in enumerate(zip(ids.tolist(), counts.tolist(), strict=True)):
        if not label:
            continue
        box = places[place]
        coordinates = np.nonzero(compact[box] == place)
        info = (known or {}).get(label, ObjectInfo())
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
        told = {"origin": info.origin, "score": score, "approved": int(info.approved), "adapter": info.adapter}
        rows.append(row | told | {"prompts": prompts})
    return rows


def write_object_table(
    path: str | Path,
    labels: NDArray[np.integer[Any]],
    size: PixelSize | None = None,
    known: Mapping[int, ObjectInfo] | None = None,
) -> Path:
    """Write `measure_rows` as CSV, atomically.

    Raises
    ------
    InputError
        If the file does not end in .csv.
    """
    rows = measure_rows(labels, size or PixelSize((1, 1, 1)), known)
    columns = list(rows[0]) if rows else ["id"]
    return _write_csv(path, columns, rows)


def write_prompts(path: str | Path, prompts: Mapping[int, Sequence[PlanePrompt]], image: str = "") -> Path:
    """Write boxes and points as a prompt file that `read_prompts` reads, atomically.

    Parameters
    ----------
    path : path-like
        Ends in .csv or .json.
    prompts : mapping of int to sequence of PlanePrompt
        By object. What is neither a box nor a point is left out; the object table tells it.
    image : str
        Name of the image; empty for a file of one image.
    """
    target = Path(path)
    kept = [(label, one) for label, several in prompts.items() for one in several if one.box or one.points]
    if not kept:
        raise InputError("There are no boxes and no points to write.")
    if target.suffix.lower() == ".json":
        entries = [{"object": label} | one.as_dict() for label, one in kept]
        for entry in entries:
            entry.pop("others", None)
        with atomic_path(target) as temporary:
            temporary.write_text(json.dumps({image: entries} if image else entries, ensure_ascii=False), "utf-8")
        return target
    rows: list[dict[str, Any]] = []
    for label, one in kept:
        common = {"image": image, "plane": one.plane, "object": label}
        if one.box is not None:
            rows.append(common | dict(zip(_BOX, one.box, strict=True)))
        for (y, x), inside in zip(one.points, one.point_labels, strict=True):
            rows.append(common | {"y": y, "x": x, "label": inside})
    return _write_csv(target, [name for name in PROMPT_COLUMNS if image or name != "image"], rows)


def _write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Path:
    target = Path(path)
    if target.suffix.lower() != ".csv":
        raise InputError(f"A table ends in .csv, unlike {target.name}.")
    with atomic_path(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return target

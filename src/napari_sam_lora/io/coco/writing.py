"""Write COCO annotations: polygons where they are exact, otherwise run lengths."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours

from napari_sam_lora.errors import InputError
from napari_sam_lora.files import atomic_path
from napari_sam_lora.io.coco.reading import segmentation_mask
from napari_sam_lora.io.coco.run_lengths import compress_runs, encode_runs
from napari_sam_lora.labels import find_objects

Outline = Literal["auto", "polygons", "rle"]
OUTLINES: tuple[Outline, ...] = ("auto", "polygons", "rle")


@dataclass(frozen=True, eq=False)
class CocoPlane:
    """A plane to write.

    Attributes
    ----------
    file_name : str
        Of its image.
    labels : int (y, x)
    classes : mapping of int to int
        Class of each object that has one; others get the first category, "object".
    scores : mapping of int to float
        Predicted IoU, where it is known.
    """

    file_name: str
    labels: NDArray[np.integer[Any]]
    classes: Mapping[int, int] = field(default_factory=dict)
    scores: Mapping[int, float] = field(default_factory=dict)


def write_coco(
    path: str | Path, planes: Iterable[CocoPlane], names: Mapping[int, str] | None = None, outline: Outline = "auto"
) -> Path:
    """Write a COCO file for object detection, atomically.

    Parameters
    ----------
    path : path-like
        Ends in .json.
    planes : iterable of CocoPlane
    names : mapping of int to str, optional
        Names of the classes, which become the categories.
    outline : str
        "polygons" loses holes, which COCO's polygons cannot have; "rle" is exact; "auto" gives polygons to all objects
        that they are exact for, and run lengths to the others.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the ending or the outline is another.
    """
    target = Path(path)
    if target.suffix.lower() != ".json":
        raise InputError(f"The name of a COCO file must end in .json, not {target.name}.", code="wrong-file-ending")
    if outline not in OUTLINES:
        raise InputError(f"The outline must be one of {', '.join(OUTLINES)}, not {outline!r}.", code="unknown-outline")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    used: set[int] = set()
    for number, plane in enumerate(planes, start=1):
        height, width = plane.labels.shape
        images.append({"id": number, "file_name": plane.file_name, "height": height, "width": width})
        for found in find_objects(plane.labels):
            y0, x0, y1, x1 = found.box
            category = plane.classes.get(found.label, 0)
            used.add(category)
            mask = plane.labels[y0:y1, x0:x1] == found.label
            entry = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": category,
                "segmentation": segmentation(mask, (y0, x0), (height, width), outline),
                "area": found.area,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
                "label": found.label,
            }
            score = plane.scores.get(found.label, float("nan"))
            annotations.append(entry | ({"score": round(float(score), 6)} if np.isfinite(score) else {}))
    content = {"images": images, "annotations": annotations, "categories": _categories(used, names or {})}
    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(_number_categories(content), ensure_ascii=False), encoding="utf-8")
    return target


def segmentation(mask: NDArray[np.bool_], corner: tuple[int, int], shape: tuple[int, int], outline: Outline) -> Any:
    """Return COCO's segmentation of an object: a list of polygons (x, y, ...), or compressed run lengths.

    Parameters
    ----------
    mask : bool (y, x)
        The object in its box.
    corner : tuple of int
        y, x of the box.
    shape : tuple of int
        Of the plane.
    outline : str
        See `write_coco`.
    """
    if outline != "rle":
        polygons = _polygons(mask, corner)
        if outline == "polygons" or np.array_equal(_draw(polygons, corner, mask.shape), mask):
            return polygons
    whole = np.zeros(shape, np.bool_)
    whole[corner[0] : corner[0] + mask.shape[0], corner[1] : corner[1] + mask.shape[1]] = mask
    return {"size": list(shape), "counts": compress_runs(encode_runs(whole))}


def _polygons(mask: NDArray[np.bool_], corner: tuple[int, int]) -> list[list[float]]:
    """Return outlines half-way between inner and outer pixel centres; the first pixel's centre is (0.5, 0.5)."""
    contours = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    polygons = []
    for points in contours:
        y, x = points[:-1, 0] - 0.5 + corner[0], points[:-1, 1] - 0.5 + corner[1]
        # Outer contours run counter-clockwise (y downwards), those of holes clockwise.
        if np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)) > 0:
            polygons.append(np.stack([x, y], 1).ravel().tolist())
    return polygons


def _draw(polygons: list[list[float]], corner: tuple[int, int], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    shifted = [(np.reshape(points, (-1, 2)) - corner[::-1]).ravel().tolist() for points in polygons]
    return segmentation_mask(shifted, (shape[0], shape[1]))


def _categories(used: set[int], names: Mapping[int, str]) -> list[dict[str, Any]]:
    return [{"id": one, "name": names.get(one, f"class {one}" if one else "object")} for one in sorted({*used, *names})]


def _number_categories(content: dict[str, Any]) -> dict[str, Any]:
    """Give objects without a class (0) a category after all others, as COCO's categories count from 1."""
    used = [one["id"] for one in content["categories"]]
    if 0 in used:
        free = max(used) + 1
        for one in content["categories"]:
            one["id"] = one["id"] or free
        for one in content["annotations"]:
            one["category_id"] = one["category_id"] or free
        content["categories"].sort(key=lambda one: one["id"])
    return content

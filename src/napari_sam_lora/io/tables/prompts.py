"""Boxes and points in a file: which objects to segment in which images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.images import stem
from napari_sam_lora.io.tables.rows import read_table
from napari_sam_lora.prompts import Prompts

_BOX = ("y0", "x0", "y1", "x1")
_POINT = ("y", "x")
_COLUMNS = {"image", "plane", "object", "label", *_BOX, *_POINT}
_KEYS = {"box", "points", "point_labels", "plane", "object"}
_ANY_IMAGE = ""


@dataclass(frozen=True)
class PlanePrompts:
    """The prompted objects of one plane.

    Attributes
    ----------
    ids : tuple of int
        Label of each object: its number in the file, if all objects of the plane have one; otherwise they are
        counted from 1.
    prompts : Prompts
        One object a row.
    """

    ids: tuple[int, ...]
    prompts: Prompts

    def check_inside(self, shape: tuple[int, int]) -> None:
        """Make sure that all boxes reach into a plane (y, x) and that all points lie on it.

        Raises
        ------
        InputError
            If one does not; most often y and x are exchanged.
        """
        for row, number in enumerate(self.ids):
            where = f"object {number} lies outside the image of {shape}; the order is y, x"
            if self.prompts.boxes is not None and self.prompts.has_box(row):
                first, last = self.prompts.boxes[row].reshape(2, 2)
                if (first >= shape).any() or (last <= 0).any():
                    raise InputError(f"The box of {where}.")
            points = () if self.prompts.points is None else self.prompts.points[row]
            if any((point < -0.5).any() or (point > np.subtract(shape, 0.5)).any() for point in points):
                raise InputError(f"A point of {where}.")


@dataclass
class _Object:
    name: str
    box: Sequence[float] | None = None
    points: list[Sequence[float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)


_Planes = dict[int, dict[str, _Object]]


@dataclass(frozen=True)
class PromptFile:
    """What a prompt file holds; see `read_prompts`.

    Attributes
    ----------
    path : Path
    images : tuple of str
        The images that it names; empty if it does not name any.
    """

    path: Path
    _objects: dict[str, _Planes]

    @property
    def images(self) -> tuple[str, ...]:
        """Names of images as they stand in the file."""
        return tuple(name for name in self._objects if name != _ANY_IMAGE)

    def unused(self, images: Iterable[Path]) -> list[str]:
        """Named images that are not among these."""
        known = {name for path in images for name in (str(path), path.name, stem(path))}
        return [name for name in self.images if name not in known]

    def for_image(self, image: Path) -> dict[int, PlanePrompts]:
        """Prompts of an image (by path, file name or name without ending), by the number of the plane from 0.

        Raises
        ------
        InputError
            If a prompt makes no sense.
        """
        names = (str(image), image.name, stem(image), _ANY_IMAGE)
        planes = next((self._objects[name] for name in names if name in self._objects), {})
        try:
            return {number: _plane_prompts(list(objects.values())) for number, objects in planes.items()}
        except InputError as error:
            raise InputError(f"{self.path.name}, {image.name}: {error}") from error


def read_prompts(path: Path) -> PromptFile:
    """Read boxes and points.

    Parameters
    ----------
    path : Path
        A .csv table with one box or point a row: the columns ``y0, x0, y1, x1`` hold a box (half-open, in pixels),
        ``y, x`` a point and ``label`` whether it is inside (1, the default) or outside (0) the object. ``image`` is
        the image's name, needed if there are several; ``plane`` the number of the plane in a stack, from 0; rows
        with the same ``object`` belong together, and without that column each row is an object.

        Or a .json file: ``{"cells.png": [{"box": [y0, x0, y1, x1], "points": [[y, x]], "point_labels": [1]}]}``, with
        one entry an object and, as needed, ``"plane"`` and ``"object"``; for a single image the list alone.

    Raises
    ------
    InputError
        If the file cannot be read or something in it is unknown.
    """
    if path.suffix.lower() == ".csv":
        return PromptFile(path, _from_table(path))
    if path.suffix.lower() == ".json":
        return PromptFile(path, _from_json(path))
    raise InputError(f"Prompts are in a .csv or .json file, unlike {path.name}.")


def _from_table(path: Path) -> dict[str, _Planes]:
    objects: dict[str, _Planes] = {}
    for line, row in read_table(path):
        where = f"{path.name}, line {line}"
        unknown = row.keys() - _COLUMNS
        if unknown:
            raise InputError(
                f"{path.name}: unknown columns {', '.join(sorted(unknown))}; there are y0, x0, y1, x1 "
                "for boxes, y, x, label for points, and image, plane, object."
            )
        plane = objects.setdefault(row.get("image", ""), {}).setdefault(_whole(row.get("plane") or "0", where), {})
        name = row.get("object") or f"line {line}"
        found = plane.setdefault(name, _Object(name))
        box, point = ([row.get(column, "") for column in columns] for columns in (_BOX, _POINT))
        if any(box):
            if found.box is not None:
                raise InputError(f"{where}: object {name} has a box already.")
            found.box = [_number(value, where) for value in box]
        if any(point):
            found.points.append([_number(value, where) for value in point])
            found.labels.append(_whole(row.get("label") or "1", where))
        if not any(box) and not any(point):
            raise InputError(f"{where}: a row needs a box (y0, x0, y1, x1) or a point (y, x).")
    if not objects:
        raise InputError(f"{path.name} holds no prompts.")
    return objects


def _from_json(path: Path) -> dict[str, _Planes]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise InputError(f"{path.name} is not JSON: {error}") from error
    by_image = content if isinstance(content, dict) else {_ANY_IMAGE: content}
    objects: dict[str, _Planes] = {}
    for image, entries in by_image.items():
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InputError(f'{path.name}: an image needs a list of objects, such as [{{"box": [y0, x0, y1, x1]}}].')
        planes = objects.setdefault(image, {})
        for number, entry in enumerate(entries, start=1):
            _add_entry(planes, entry, f"{path.name}, object {number}{f' of {image}' if image else ''}", number)
    if not any(objects.values()):
        raise InputError(f"{path.name} holds no prompts.")
    return objects


def _add_entry(planes: _Planes, entry: dict[str, Any], where: str, number: int) -> None:
    if entry.keys() - _KEYS:
        raise InputError(
            f"{where}: unknown {', '.join(sorted(entry.keys() - _KEYS))}; there are "
            "box, points, point_labels, plane and object."
        )
    plane = planes.setdefault(_whole(entry.get("plane", 0), where), {})
    name = str(entry.get("object", f"entry {number}"))
    if name in plane:
        raise InputError(f"{where}: object {name} is there twice.")
    box, points = entry.get("box"), entry.get("points") or []
    try:
        points = [[float(y), float(x)] for y, x in points]
        box = None if box is None else [float(value) for value in box]
        labels = [int(value) for value in entry.get("point_labels", [1] * len(points))]
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: a box is [y0, x0, y1, x1], points are [[y, x], ...], all numbers.") from error
    plane[name] = _Object(name, box, points, labels)


def _plane_prompts(objects: list[_Object]) -> PlanePrompts:
    numbered = all(found.name.isdecimal() and int(found.name) for found in objects)
    ids = tuple(int(found.name) for found in objects) if numbered else tuple(range(1, len(objects) + 1))
    boxes = [found.box for found in objects]
    has_boxes, has_points = any(box is not None for box in boxes), any(found.points for found in objects)
    prompts = Prompts(
        boxes=boxes if has_boxes else None,
        points=[np.array(found.points).reshape(-1, 2) for found in objects] if has_points else None,
        point_labels=[found.labels for found in objects] if has_points else None,
    )
    return PlanePrompts(ids, prompts)


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{where}: {text!r} is not a number; a box is y0, x0, y1, x1, a point y, x.") from error


def _whole(value: Any, where: str) -> int:
    try:
        if int(value) >= 0:
            return int(value)
    except (TypeError, ValueError):
        pass
    raise InputError(f"{where}: {value!r} is not a whole number from 0 on.")

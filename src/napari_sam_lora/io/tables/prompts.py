"""Prompt files: read and write the boxes and points of objects, by image and plane."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam_lora.errors import InputError
from napari_sam_lora.files import atomic_path
from napari_sam_lora.io.images import stem
from napari_sam_lora.io.tables.rows import read_table, write_table
from napari_sam_lora.prompts import Prompts

_BOX = ("y0", "x0", "y1", "x1")
_POINT = ("y", "x")
_COLUMNS = ("image", "plane", "object", *_BOX, *_POINT, "label")
_KEYS = {"box", "points", "point_labels", "plane", "object"}
_ANY_IMAGE = ""


@dataclass(frozen=True)
class PlanePrompts:
    """The prompted objects of one plane.

    Attributes
    ----------
    ids : tuple of int
        Label of each object: its number in the file if all objects of the plane have one, otherwise counted from 1.
    prompts : Prompts
        One object a row.
    """

    ids: tuple[int, ...]
    prompts: Prompts

    def check_inside(self, shape: tuple[int, int]) -> None:
        """Check that all boxes overlap a plane (y, x) and all points lie on it.

        Raises
        ------
        InputError
            If one does not; usually x and y were swapped.
        """
        for row, number in enumerate(self.ids):
            where = f"object {number} lies outside the image of {shape}; coordinates are in the order y, x"
            if self.prompts.boxes is not None and self.prompts.has_box(row):
                first, last = self.prompts.boxes[row].reshape(2, 2)
                if (first >= shape).any() or (last <= 0).any():
                    raise InputError(f"The box of {where}.", code="box-outside-plane")
            points = () if self.prompts.points is None else self.prompts.points[row]
            if any((point < -0.5).any() or (point > np.subtract(shape, 0.5)).any() for point in points):
                raise InputError(f"A point of {where}.", code="point-outside-plane")


@dataclass(frozen=True)
class ObjectPrompts:
    """The prompts of one object on one plane, as they are written to a file.

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
        """Return the values as in the JSON of prompt files."""
        values: dict[str, Any] = {"plane": self.plane}
        if self.box is not None:
            values["box"] = list(self.box)
        if self.points:
            values |= {"points": [list(point) for point in self.points], "point_labels": list(self.point_labels)}
        return values | ({"others": list(self.others)} if self.others else {})


@dataclass
class _Entry:
    """The prompts of one object while a file is read."""

    name: str
    box: Sequence[float] | None = None
    points: list[Sequence[float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)


# Entries by the number of the plane and the name of the object.
_Planes = dict[int, dict[str, _Entry]]


@dataclass(frozen=True)
class PromptFile:
    """The prompts of a file; see `read_prompts`.

    Attributes
    ----------
    path : Path
    images : tuple of str
        Names of images in the file; empty if it names none.
    """

    path: Path
    _planes: dict[str, _Planes]

    @property
    def images(self) -> tuple[str, ...]:
        """Names of images as written in the file."""
        return tuple(name for name in self._planes if name != _ANY_IMAGE)

    def unused(self, images: Iterable[Path]) -> list[str]:
        """Return the named images that are not among these."""
        present = {name for path in images for name in (str(path), path.name, stem(path))}
        return [name for name in self.images if name not in present]

    def for_image(self, image: Path) -> dict[int, PlanePrompts]:
        """Return the prompts of an image (by path, file name or name without ending), by plane number from 0.

        Raises
        ------
        InputError
            If a prompt is not valid, such as a box without an area.
        """
        names = (str(image), image.name, stem(image), _ANY_IMAGE)
        planes = next((self._planes[name] for name in names if name in self._planes), {})
        try:
            return {number: _plane_prompts(list(entries.values())) for number, entries in planes.items()}
        except InputError as error:
            raise InputError(f"{self.path.name}, {image.name}: {error}", code=error.code) from error


def read_prompts(path: Path) -> PromptFile:
    """Read boxes and points from a table or a JSON file.

    Parameters
    ----------
    path : Path
        A .csv table with one box or point a row: the columns ``y0, x0, y1, x1`` hold a box (half-open, in pixels),
        ``y, x`` a point and ``label`` 1 (the default) inside the object or 0 outside. ``image`` is
        the image's name, needed if there are several; ``plane`` the number of the plane in a stack, from 0; rows
        with the same ``object`` belong together, and without that column each row is an object.

        Or a .json file: ``{"cells.png": [{"box": [y0, x0, y1, x1], "points": [[y, x]], "point_labels": [1]}]}``, with
        one entry per object and, as needed, ``"plane"`` and ``"object"``; for a single image the list alone.

    Raises
    ------
    InputError
        If the file cannot be read or something in it is unknown.
    """
    if path.suffix.lower() == ".csv":
        return PromptFile(path, _from_table(path))
    if path.suffix.lower() == ".json":
        return PromptFile(path, _from_json(path))
    raise InputError(f"A prompt file must end in .csv or .json, not {path.name}.", code="wrong-file-ending")


def write_prompts(path: str | Path, prompts: Mapping[int, Sequence[ObjectPrompts]], image: str = "") -> Path:
    """Write boxes and points as a prompt file that `read_prompts` reads, atomically.

    Parameters
    ----------
    path : path-like
        Ends in .csv or .json.
    prompts : mapping of int to sequence of ObjectPrompts
        By the object's id. Other kinds than boxes and points are left out; the table of objects holds them.
    image : str
        Name of the image; empty for a file of one image.

    Raises
    ------
    InputError
        If there are no boxes and no points, or the ending is another.
    """
    target = Path(path)
    kept = [(label, one) for label, several in prompts.items() for one in several if one.box or one.points]
    if not kept:
        raise InputError("There are no boxes and no points to write.", code="no-prompts")
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
    return write_table(target, [name for name in _COLUMNS if image or name != "image"], rows)


def _from_table(path: Path) -> dict[str, _Planes]:
    planes_by_image: dict[str, _Planes] = {}
    for line, row in read_table(path):
        where = f"{path.name}, line {line}"
        unknown = row.keys() - set(_COLUMNS)
        if unknown:
            raise InputError(
                f"{path.name}: unknown columns {', '.join(sorted(unknown))}; use y0, x0, y1, x1 for boxes, "
                "y, x, label for points, and image, plane, object.",
                code="unknown-columns",
            )
        planes = planes_by_image.setdefault(row.get("image", _ANY_IMAGE), {})
        entries = planes.setdefault(_whole(row.get("plane") or "0", where), {})
        name = row.get("object") or f"line {line}"
        entry = entries.setdefault(name, _Entry(name))
        box, point = ([row.get(column, "") for column in columns] for columns in (_BOX, _POINT))
        if any(box):
            if entry.box is not None:
                raise InputError(f"{where}: object {name} has a box already.", code="second-box")
            entry.box = [_number(value, where) for value in box]
        if any(point):
            entry.points.append([_number(value, where) for value in point])
            entry.labels.append(_whole(row.get("label") or "1", where))
        if not any(box) and not any(point):
            raise InputError(
                f"{where}: a row needs a box (y0, x0, y1, x1) or a point (y, x).", code="row-without-prompt"
            )
    if not planes_by_image:
        raise InputError(f"{path.name} holds no prompts.", code="no-prompts")
    return planes_by_image


def _from_json(path: Path) -> dict[str, _Planes]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", code="file-not-readable") from error
    except ValueError as error:
        raise InputError(f"{path.name} is not JSON: {error}", code="not-json") from error
    entries_by_image = content if isinstance(content, dict) else {_ANY_IMAGE: content}
    planes_by_image: dict[str, _Planes] = {}
    for image, entries in entries_by_image.items():
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InputError(
                f'{path.name}: an image needs a list of objects, such as [{{"box": [y0, x0, y1, x1]}}].',
                code="prompts-not-a-list",
            )
        planes = planes_by_image.setdefault(image, {})
        for number, entry in enumerate(entries, start=1):
            _add_entry(planes, entry, f"{path.name}, object {number}{f' of {image}' if image else ''}", number)
    if not any(planes_by_image.values()):
        raise InputError(f"{path.name} holds no prompts.", code="no-prompts")
    return planes_by_image


def _add_entry(planes: _Planes, entry: dict[str, Any], where: str, number: int) -> None:
    if entry.keys() - _KEYS:
        raise InputError(
            f"{where}: unknown {', '.join(sorted(entry.keys() - _KEYS))}; "
            "use box, points, point_labels, plane and object.",
            code="unknown-keys",
        )
    entries = planes.setdefault(_whole(entry.get("plane", 0), where), {})
    name = str(entry.get("object", f"entry {number}"))
    if name in entries:
        raise InputError(f"{where}: object {name} appears twice.", code="object-twice")
    box, points = entry.get("box"), entry.get("points") or []
    try:
        points = [[float(y), float(x)] for y, x in points]
        box = None if box is None else [float(value) for value in box]
        labels = [int(value) for value in entry.get("point_labels", [1] * len(points))]
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{where}: a box is [y0, x0, y1, x1], points are [[y, x], ...], all numbers.", code="not-numbers"
        ) from error
    entries[name] = _Entry(name, box, points, labels)


def _plane_prompts(entries: list[_Entry]) -> PlanePrompts:
    numbered = all(entry.name.isdecimal() and int(entry.name) for entry in entries)
    ids = tuple(int(entry.name) for entry in entries) if numbered else tuple(range(1, len(entries) + 1))
    boxes = [entry.box for entry in entries]
    has_boxes, has_points = any(box is not None for box in boxes), any(entry.points for entry in entries)
    prompts = Prompts(
        boxes=boxes if has_boxes else None,
        points=[np.array(entry.points).reshape(-1, 2) for entry in entries] if has_points else None,
        point_labels=[entry.labels for entry in entries] if has_points else None,
    )
    return PlanePrompts(ids, prompts)


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(
            f"{where}: {text!r} is not a number; a box is y0, x0, y1, x1, a point y, x.", code="not-numbers"
        ) from error


def _whole(value: Any, where: str) -> int:
    try:
        if int(value) >= 0:
            return int(value)
    except (TypeError, ValueError):
        pass
    raise InputError(f"{where}: {value!r} must be a whole number from 0 on.", code="not-a-whole-number")

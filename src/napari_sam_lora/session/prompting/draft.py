"""Drafts: prompts that are being drawn, and their conversion to the core's `Prompts`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.draw import polygon2mask

from napari_sam_lora.errors import InputError
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.regions import Region

PromptKind = Literal["point", "box", "lasso", "scribble", "mask"]
_Geometry = tuple[NDArray[np.float64], Region | None]
KINDS: tuple[PromptKind, ...] = ("point", "box", "lasso", "scribble", "mask")
_NEGATIVE_BOX = "A box cannot be negative: use points, a scribble or a lasso for background."


@dataclass(frozen=True, eq=False)
class PromptItem:
    """One prompt that the user drew in a plane, in pixels (y, x) of the plane; integers are pixel centres.

    Attributes
    ----------
    id : int
        Unique in its draft.
    kind : str
        "point", "box", "lasso", "scribble" or "mask".
    positive : bool
        Whether it marks the object or the background. A box is always positive.
    coordinates : float64 (k, 2)
        The point (k = 1), the box's corners y0 x0 and y1 x1 (k = 2, half-open), the lasso's polygon (k >= 3), the
        scribble's path (k >= 1); empty for a mask.
    region : Region, optional
        Pixels of a mask or a lasso.
    """

    id: int
    kind: PromptKind
    positive: bool
    coordinates: NDArray[np.float64]
    region: Region | None = None


Row = tuple[PromptItem, ...]


class Draft:
    """Prompts that are being drawn in one plane: any number of items for any number of objects.

    Objects are numbered from 0; the number only groups the prompts of one object.

    Parameters
    ----------
    shape : tuple of int
        (y, x) of the plane.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._objects: dict[int, list[PromptItem]] = {}
        self._next = 0

    def add(self, kind: PromptKind, data: ArrayLike, *, positive: bool = True, obj: int = 0) -> int:
        """Add an item to an object and return the id of the item.

        Parameters
        ----------
        kind : str
        data : array_like
            Point (2,), box (4,) as y0, x0, y1, x1 half-open (corners in any order), lasso (k, 2), scribble (k, 2), or
            mask bool (y, x) of the plane's shape. Anything outside the plane is cut off.
        positive : bool
            False for background.
        obj : int
            Number of the object.

        Raises
        ------
        InputError
            If the data does not fit the kind, lies outside the plane or is empty. Then nothing is changed.
        """
        item = make_item(self._next, kind, data, positive, self.shape)
        self._objects.setdefault(obj, []).append(item)
        self._next += 1
        return item.id

    def move(self, item: int, data: ArrayLike) -> None:
        """Replace the data of an item; its kind, polarity, object and id stay."""
        row, place = self._find(item)
        row[place] = make_item(item, row[place].kind, data, row[place].positive, self.shape)

    def flip(self, item: int) -> None:
        """Turn a positive item negative, or back; a box is always positive."""
        row, place = self._find(item)
        if row[place].kind == "box":
            raise InputError(_NEGATIVE_BOX, code="negative-box")
        row[place] = replace(row[place], positive=not row[place].positive)

    def remove(self, item: int) -> None:
        """Remove an item; an id that does not exist is no error."""
        kept = {obj: [one for one in row if one.id != item] for obj, row in self._objects.items()}
        self._objects = {obj: row for obj, row in kept.items() if row}

    def clear(self, obj: int | None = None) -> None:
        """Remove all items, or those of one object."""
        if obj is None:
            self._objects.clear()
        else:
            self._objects.pop(obj, None)

    def put_back(self, row: Iterable[PromptItem]) -> int:
        """Add stored items as a new object with new ids; return the number of the object."""
        obj = self.new_object()
        for item in row:
            self._objects.setdefault(obj, []).append(replace(item, id=self._next))
            self._next += 1
        return obj

    def new_object(self) -> int:
        """Return the smallest object number above all in use."""
        return max(self._objects, default=-1) + 1

    def rows(self) -> Mapping[int, Row]:
        """Return a frozen snapshot of the items of each object, by object number, which any thread may use."""
        return MappingProxyType({obj: tuple(row) for obj, row in sorted(self._objects.items())})

    def __len__(self) -> int:
        return sum(len(row) for row in self._objects.values())

    def _find(self, item: int) -> tuple[list[PromptItem], int]:
        """Return the row of an item and its position there."""
        for row in self._objects.values():
            for place, one in enumerate(row):
                if one.id == item:
                    return row, place
        raise InputError(f"There is no prompt {item} in this plane any more.", code="prompt-not-found")


def make_item(number: int, kind: PromptKind, data: ArrayLike, positive: bool, shape: tuple[int, int]) -> PromptItem:
    """Make a prompt item of drawn data, after checking them; see `Draft.add`."""
    makers = {"mask": _mask_item, "point": _point_item, "box": _box_item, "lasso": _lasso_item, "scribble": _line_item}
    if kind not in makers:
        raise InputError(f"A prompt is one of {', '.join(KINDS)}, not {kind!r}.", code="unknown-prompt-kind")
    coordinates, region = makers[kind](data, positive, shape)
    return PromptItem(number, kind, positive, coordinates, region)


def _mask_item(data: ArrayLike, positive: bool, shape: tuple[int, int]) -> _Geometry:
    mask = np.asarray(data)
    if mask.shape != shape or mask.dtype != bool:
        raise InputError(
            f"A painted mask is bool and as large as the plane {shape}, not {mask.dtype} {mask.shape}.",
            code="mask-does-not-fit",
        )
    return np.empty((0, 2)), _region(mask)


def _point_item(data: ArrayLike, positive: bool, shape: tuple[int, int]) -> _Geometry:
    coordinates = _coordinates("point", data)
    if not _inside(coordinates, shape).all():
        raise InputError("This point lies outside the plane: click inside the image.", code="point-outside-plane")
    return coordinates, None


def _box_item(data: ArrayLike, positive: bool, shape: tuple[int, int]) -> _Geometry:
    coordinates = _coordinates("box", data)
    if not positive:
        raise InputError(_NEGATIVE_BOX, code="negative-box")
    coordinates = np.clip(np.sort(coordinates, axis=0), 0, shape)
    if (coordinates[0] >= coordinates[1]).any():
        raise InputError("This box has no area inside the plane: draw it over the object.", code="empty-box")
    return coordinates, None


def _lasso_item(data: ArrayLike, positive: bool, shape: tuple[int, int]) -> _Geometry:
    coordinates = _coordinates("lasso", data)
    if len(coordinates) < 3:
        raise InputError("A lasso needs at least three corners: draw it around the object.", code="lasso-too-short")
    return coordinates, _region(polygon2mask(shape, coordinates))


def _line_item(data: ArrayLike, positive: bool, shape: tuple[int, int]) -> _Geometry:
    coordinates = _coordinates("scribble", data)
    coordinates = coordinates[_inside(coordinates, shape)]
    if not len(coordinates):
        raise InputError(
            "This scribble lies outside the plane: draw it inside the image.", code="scribble-outside-plane"
        )
    return coordinates, None


@dataclass(frozen=True, eq=False)
class PromptGroup:
    """Rows that can be decoded together: all with a mask, or all without.

    Attributes
    ----------
    rows : tuple of int
        Positions of the rows in the list that was grouped.
    prompts : Prompts
    """

    rows: tuple[int, ...]
    prompts: Prompts


def group_rows(rows: Iterable[Row], shape: tuple[int, int]) -> list[PromptGroup]:
    """Convert the prompts of some objects of a plane to the core's prompts.

    Several boxes of an object become the box around all of them. Several masks and lassos become their union without
    the negative ones. A scribble becomes points along its path. An object with a mask but no box gets the box around
    the mask. Objects without a positive prompt are left out.

    Parameters
    ----------
    rows : iterable of tuple of PromptItem
        One row for each object, as in the values of `Draft.rows`.
    shape : tuple of int
        (y, x) of the plane.
    """
    groups: dict[bool, list[tuple[int, _Combined]]] = {}
    for number, row in enumerate(rows):
        combined = _combine(row, shape)
        if combined is not None:
            groups.setdefault(combined.mask is not None, []).append((number, combined))
    return [
        PromptGroup(
            tuple(number for number, _ in members),
            Prompts(
                boxes=[one.box for _, one in members] if any(one.box is not None for _, one in members) else None,
                points=[one.points for _, one in members],
                point_labels=[one.labels for _, one in members],
                masks=np.stack([one.mask for _, one in members if one.mask is not None]) if masked else None,
            ),
        )
        for masked, members in groups.items()
    ]


def scribble_points(path: NDArray[Any], most: int = 8, spacing: float = 12.0) -> NDArray[np.float64]:
    """Place points (n, 2) at equal distances along a path (k, 2); two or more include both ends.

    Parameters
    ----------
    most : int
        Maximum number of points.
    spacing : float
        Distance between points in pixels, unless that makes too many.
    """
    path = np.asarray(path, np.float64)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    if along[-1] < spacing:  # too short for two
        return path[len(path) // 2, None]
    places = np.linspace(0, along[-1], min(most, 1 + round(along[-1] / spacing)))
    return np.stack([np.interp(places, along, path[:, axis]) for axis in (0, 1)], axis=1)


@dataclass(frozen=True, eq=False)
class _Combined:
    """Prompts of one object, combined to one of each kind."""

    points: NDArray[np.float64]
    labels: list[int]
    box: tuple[float, ...] | None
    mask: NDArray[np.bool_] | None


def _combine(row: Row, shape: tuple[int, int]) -> _Combined | None:
    """Combine the items of one object; return None without a positive one."""
    points: list[NDArray[np.float64]] = []
    labels: list[int] = []
    for item in row:
        if item.kind in ("point", "scribble"):
            placed = item.coordinates if item.kind == "point" else scribble_points(item.coordinates)
            points.append(placed)
            labels += [int(item.positive)] * len(placed)
    corners = [item.coordinates for item in row if item.kind == "box"]
    mask = _combine_masks(row, shape)
    box: tuple[float, ...] | None = None
    if corners:
        box = (*np.min([c[0] for c in corners], axis=0), *np.max([c[1] for c in corners], axis=0))
    elif mask is not None:
        box = Region.of(mask).box
    if box is None and 1 not in labels:
        return None
    return _Combined(np.concatenate(points) if points else np.empty((0, 2)), labels, box, mask)


def _combine_masks(row: Row, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Unite the positive masks and lassos and cut out the negative ones; return None if nothing is left."""
    mask = np.zeros(shape, np.bool_)
    for positive in (True, False):
        for item in row:
            if item.region is not None and item.positive == positive:
                mask[item.region.to_mask(shape)] = positive
    return mask if mask.any() else None


def _coordinates(kind: str, data: ArrayLike) -> NDArray[np.float64]:
    """Check the coordinates (k, 2) of a prompt."""
    coordinates = np.array(data, np.float64)
    count = {"point": 1, "box": 2}.get(kind)
    if coordinates.size == 0 or coordinates.size % 2 or (count is not None and coordinates.size != 2 * count):
        raise InputError(
            f"A {kind} cannot be made of an array of shape {coordinates.shape}: give (y, x) coordinates.",
            code="coordinates-do-not-fit",
        )
    if not np.isfinite(coordinates).all():
        raise InputError("Coordinates must be finite numbers.", code="coordinates-not-finite")
    return coordinates.reshape(-1, 2)


def _inside(coordinates: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which points lie on a pixel of the plane; a pixel reaches half a unit around its centre."""
    inside: NDArray[np.bool_] = np.all((coordinates >= -0.5) & (coordinates < np.array(shape) - 0.5), axis=1)
    return inside


def _region(mask: NDArray[np.bool_]) -> Region:
    """Make a region of a mask (y, x) with at least one pixel."""
    if not mask.any():
        raise InputError("This mask has no pixel inside the plane: draw it over the object.", code="empty-mask")
    return Region.of(mask)

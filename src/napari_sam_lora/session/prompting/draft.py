"""Drafts: prompts that are being drawn, and their combination to one `ObjectPrompts` for each object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.draw import polygon2mask

from napari_sam_lora.errors import InputError
from napari_sam_lora.prompts import ObjectPrompts
from napari_sam_lora.regions import Region, unite

PromptKind = Literal["point", "box", "lasso", "scribble", "mask"]
_Geometry = tuple[NDArray[np.float64], Region | None]
KINDS: tuple[PromptKind, ...] = ("point", "box", "lasso", "scribble", "mask")
# Prompts that differ by less (in pixels) are the same: some layers hold coordinates in single precision.
_SAME_PLACE = 0.01
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

    def is_at(self, other: PromptItem) -> bool:
        """Return whether another prompt of this kind has the same place and shape."""
        if self.coordinates.shape != other.coordinates.shape:
            return False
        if self.kind == "mask" and self.region is not None and other.region is not None:
            return self.region.box == other.region.box and np.array_equal(self.region.crop, other.region.crop)
        return bool((np.abs(self.coordinates - other.coordinates) < _SAME_PLACE).all())


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

    def add(self, kind: PromptKind, data: ArrayLike | Region, *, positive: bool = True, obj: int = 0) -> int:
        """Add an item to an object and return the id of the item.

        Parameters
        ----------
        kind : str
        data : array_like
            Point (2,), box (4,) as y0, x0, y1, x1 half-open (corners in any order), lasso (k, 2), scribble (k, 2), or
            mask bool (y, x) of the plane's shape, or a Region. Anything outside the plane is cut off.
        positive : bool
            False for background.
        obj : int
            Number of the object.

        Raises
        ------
        InputError
            If the data does not fit the kind, lies outside the plane or is empty. Then nothing is changed.
        """
        return self._append(obj, make_item(0, kind, data, positive, self.shape))

    def move(self, item: int, data: ArrayLike | Region) -> None:
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
            self._append(obj, item)
        return obj

    def update(self, drawn: Iterable[tuple[int, PromptItem]]) -> bool:
        """Move, flip, add and remove items until the draft holds what was drawn; return whether anything differed.

        Items that are drawn as before are kept as they are, and changed ones keep their ids.

        Parameters
        ----------
        drawn : iterable of (int, PromptItem)
            Number of the object and prompt; ids are ignored.
        """
        left: dict[tuple[int, str], list[PromptItem]] = {}
        for obj, row in self._objects.items():
            for item in row:
                left.setdefault((obj, item.kind), []).append(item)
        fresh = [one for one in drawn if not _take_same(left.get((one[0], one[1].kind), []), one[1])]
        for obj, item in fresh:
            partner = _take_partner(left.get((obj, item.kind), []), item)
            if partner is None:
                self._append(obj, item)
            else:
                row, place = self._find(partner.id)
                row[place] = replace(item, id=partner.id)
        gone = [item for items in left.values() for item in items]
        for item in gone:
            self.remove(item.id)
        return bool(fresh or gone)

    def new_object(self) -> int:
        """Return the smallest object number above all in use."""
        return max(self._objects, default=-1) + 1

    def rows(self) -> Mapping[int, Row]:
        """Return a frozen snapshot of the items of each object, by object number, which any thread may use."""
        return MappingProxyType({obj: tuple(row) for obj, row in sorted(self._objects.items())})

    def __len__(self) -> int:
        return sum(len(row) for row in self._objects.values())

    def _append(self, obj: int, item: PromptItem) -> int:
        """Add an item to an object with the next id; return the id."""
        number, self._next = self._next, self._next + 1
        self._objects.setdefault(obj, []).append(replace(item, id=number))
        return number

    def _find(self, item: int) -> tuple[list[PromptItem], int]:
        """Return the row of an item and its position there."""
        for row in self._objects.values():
            for place, one in enumerate(row):
                if one.id == item:
                    return row, place
        raise InputError(f"There is no prompt {item} in this plane any more.", code="prompt-not-found")


def _take_same(items: list[PromptItem], drawn: PromptItem) -> bool:
    """Remove the item that was drawn as before from a list; return whether there is one."""
    for place, item in enumerate(items):
        if item.positive == drawn.positive and item.is_at(drawn):
            del items[place]
            return True
    return False


def _take_partner(items: list[PromptItem], drawn: PromptItem) -> PromptItem | None:
    """Remove and return the item that became a drawn one: flipped at its place, or else moved."""
    for is_partner in (drawn.is_at, lambda item: item.positive == drawn.positive):
        for place, item in enumerate(items):
            if is_partner(item):
                return items.pop(place)
    return None


def make_item(
    number: int, kind: PromptKind, data: ArrayLike | Region, positive: bool, shape: tuple[int, int]
) -> PromptItem:
    """Make a prompt item of drawn data, after checking them; see `Draft.add`."""
    if kind not in KINDS:
        raise InputError(f"A prompt is one of {', '.join(KINDS)}, not {kind!r}.", code="unknown-prompt-kind")
    if kind == "mask":
        coordinates, region = _mask_item(data, shape)
    elif isinstance(data, Region):
        raise InputError(f"A {kind} is made of coordinates, not of a region.", code="coordinates-do-not-fit")
    else:
        makers = {"point": _point_item, "box": _box_item, "lasso": _lasso_item, "scribble": _line_item}
        coordinates, region = makers[kind](data, positive, shape)
    return PromptItem(number, kind, positive, coordinates, region)


def _mask_item(data: ArrayLike | Region, shape: tuple[int, int]) -> _Geometry:
    if isinstance(data, Region):
        y0, x0, y1, x1 = data.box
        inside = (max(y0, 0), max(x0, 0), min(y1, shape[0]), min(x1, shape[1]))
        return np.empty((0, 2)), data if inside == data.box and data.area else _region(data.to_mask(shape))
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
        raise InputError("This box has no area inside the plane: draw it over the object.", code="box-without-area")
    return coordinates, None


def _lasso_item(data: ArrayLike, positive: bool, shape: tuple[int, int]) -> _Geometry:
    coordinates = _coordinates("lasso", data)
    if len(coordinates) < 3:
        raise InputError("A lasso needs at least three corners: draw it around the object.", code="lasso-too-short")
    corner = np.clip(np.floor(coordinates.min(0)).astype(int), 0, shape)
    end = np.clip(np.ceil(coordinates.max(0)).astype(int) + 1, corner, shape)
    return coordinates, _region(polygon2mask(tuple(end - corner), coordinates - corner), (corner[0], corner[1]))


def _line_item(data: ArrayLike, positive: bool, shape: tuple[int, int]) -> _Geometry:
    coordinates = _coordinates("scribble", data)
    coordinates = coordinates[_inside(coordinates, shape)]
    if not len(coordinates):
        raise InputError(
            "This scribble lies outside the plane: draw it inside the image.", code="scribble-outside-plane"
        )
    return coordinates, None


def combine(row: Row) -> ObjectPrompts | None:
    """Combine the prompts of one object; None without a positive one.

    Several boxes become the box around all of them. Several masks and lassos become their union without the negative
    ones. A scribble becomes points along its path. An object with a mask but no box gets the box around the mask.
    """
    points: list[NDArray[np.float64]] = []
    labels: list[int] = []
    for item in row:
        if item.kind in ("point", "scribble"):
            placed = item.coordinates if item.kind == "point" else scribble_points(item.coordinates)
            points.append(placed)
            labels += [int(item.positive)] * len(placed)
    mask = _combine_masks(row)
    corners = [item.coordinates for item in row if item.kind == "box"]
    box: tuple[float, ...] | None = None
    if corners:
        box = (*np.min([c[0] for c in corners], axis=0).tolist(), *np.max([c[1] for c in corners], axis=0).tolist())
    elif mask is not None:
        box = mask.box
    if box is None and 1 not in labels:
        return None
    return ObjectPrompts(
        None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        np.concatenate(points) if points else None,
        np.array(labels, np.int8) if points else None,
        mask,
    )


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


def _combine_masks(row: Row) -> Region | None:
    """Unite the positive masks and lassos and cut out the negative ones; return None if nothing is left."""
    inside = unite(item.region for item in row if item.region is not None and item.positive)
    outside = unite(item.region for item in row if item.region is not None and not item.positive)
    left = Region.of(inside.crop & ~outside.within(inside.box), inside.origin)
    return left if left.area else None


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


def _region(mask: NDArray[np.bool_], corner: tuple[int, int] = (0, 0)) -> Region:
    """Make a region of a mask (y, x) with at least one pixel, whose first pixel lies at ``corner``."""
    if not mask.any():
        raise InputError("This mask has no pixel inside the plane: draw it over the object.", code="mask-empty")
    return Region.of(mask, (int(corner[0]), int(corner[1])))

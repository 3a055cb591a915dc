"""Prompts while they are being drawn, and how they become the core's `Prompts`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam_lora.prompts import Prompts
from napari_sam_lora.session.regions import Region

PromptKind = Literal["point", "box", "lasso", "scribble", "mask"]
KINDS: tuple[PromptKind, ...] = ("point", "box", "lasso", "scribble", "mask")


@dataclass(frozen=True, eq=False)
class PromptItem:
    """One thing that the user drew in a plane. In pixels of the plane, (y, x); integers are pixel centres.

    Attributes
    ----------
    id : int
        Unique in its draft.
    kind : str
        "point", "box", "lasso", "scribble" or "mask".
    positive : bool
        Whether it shows the object or something else. A box is always positive.
    coordinates : float64 (k, 2)
        The point (k = 1), the box's corners y0 x0 and y1 x1 (k = 2, half-open), the lasso's polygon (k >= 3), the
        scribble's path (k >= 1); empty for a mask.
    region : Region, optional
        The pixels of a mask or a lasso.
    """

    id: int
    kind: PromptKind
    positive: bool
    coordinates: NDArray[np.float64]
    region: Region | None = None


Row = tuple[PromptItem, ...]


class Draft:
    """The prompts being drawn in one plane: any number of items for any number of objects.

    Objects are numbered from 0; the number is only a name for "these prompts belong together".

    Parameters
    ----------
    shape : tuple of int
        (y, x) of the plane.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape

    def add(self, kind: PromptKind, data: ArrayLike, *, positive: bool = True, obj: int = 0) -> int:
        """Add an item to an object; returns the item's id.

        Parameters
        ----------
        kind : str
        data : array_like
            Point (2,), box (4,) as y0, x0, y1, x1 half-open (corners in any order), lasso (k, 2), scribble (k, 2), or
            mask bool (y, x) of the plane's shape.
        positive : bool
            False for background.
        obj : int
            Which object.

        Raises
        ------
        InputError
            If the data does not fit the kind, lies outside the plane or is empty. Nothing is changed then.
        """
        raise NotImplementedError

    def move(self, item: int, data: ArrayLike) -> None:
        """Replace the data of an item; its kind, polarity, object and id stay."""
        raise NotImplementedError

    def flip(self, item: int) -> None:
        """Turn a positive item negative, or back."""
        raise NotImplementedError

    def remove(self, item: int) -> None:
        """Remove an item; one that is not there is no error."""
        raise NotImplementedError

    def clear(self, obj: int | None = None) -> None:
        """Remove all items, or those of one object."""
        raise NotImplementedError

    def put_back(self, row: Iterable[PromptItem]) -> int:
        """Add stored items as a new object with new ids; returns the object's number."""
        raise NotImplementedError

    def new_object(self) -> int:
        """The smallest object number above all in use."""
        raise NotImplementedError

    def rows(self) -> Mapping[int, Row]:
        """A frozen snapshot: the items of each object, by object number. Safe to hand to another thread."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class PromptGroup:
    """Rows that can be decoded together: all with a mask, or all without.

    Attributes
    ----------
    rows : tuple of int
        Which rows of the list that was grouped.
    prompts : Prompts
    """

    rows: tuple[int, ...]
    prompts: Prompts


def group_rows(rows: Iterable[Row], shape: tuple[int, int]) -> list[PromptGroup]:
    """The core's prompts of some objects of a plane.

    Several boxes of an object become the box around them all, several masks and lassos their union less the negative
    ones, a scribble points along its path; a mask brings the box around it, unless there is one. Objects without
    a positive prompt are left out.

    Parameters
    ----------
    rows : iterable of tuple of PromptItem
        One an object, as in the values of `Draft.rows`.
    shape : tuple of int
        (y, x) of the plane.
    """
    raise NotImplementedError


def scribble_points(path: NDArray[Any], most: int = 8, spacing: float = 12.0) -> NDArray[np.float64]:
    """Points (n, 2) at equal distances along a path (k, 2), both ends included where there are two or more.

    Parameters
    ----------
    most : int
        Points at most.
    spacing : float
        Pixels between them, where that does not make too many.
    """
    raise NotImplementedError

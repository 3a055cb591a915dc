"""Prompts in image coordinates (y, x), and their conversion to SAM's (x, y) order, done only here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.regions import Region

Box = tuple[float, float, float, float]
Boxes = ArrayLike | Sequence[Sequence[float] | None]


@dataclass(frozen=True, init=False, eq=False)
class Prompts:
    """Prompts of one or several objects: boxes, points and masks, combined row by row, one object per row.

    Parameters
    ----------
    boxes : array_like, optional
        (n, 4) as y0, x0, y1, x1 in pixels, half-open: y1 is the last row plus one. ``None`` for an object
        without a box.
    points : sequence of array_like, optional
        For each object its (k, 2) points as y, x; integer coordinates are pixel centres. Objects may differ in k.
    point_labels : sequence of array_like, optional
        For each object k labels: 1 inside the object, 0 outside it. All 1 by default.
    masks : array_like, optional
        Either drawn masks, bool (n, y, x) of the size of the image, or the logits of an earlier result, float
        (n, h, w), as in `Result.logits`.

    Raises
    ------
    InputError
        If rows do not agree, a number is not finite, a box has no area, or an object has no prompt at all.
    """

    boxes: NDArray[np.float32] | None
    points: tuple[NDArray[np.float32], ...] | None
    point_labels: tuple[NDArray[np.int8], ...] | None
    masks: NDArray[Any] | None

    def __init__(
        self,
        boxes: Boxes | None = None,
        points: Sequence[ArrayLike] | None = None,
        point_labels: Sequence[ArrayLike] | None = None,
        masks: ArrayLike | None = None,
    ) -> None:
        if points is None and point_labels is not None:
            raise InputError("Point labels need points.", code="point-labels-without-points")
        rows = None if points is None else tuple(_points(row) for row in points)
        object.__setattr__(self, "boxes", None if boxes is None else _boxes(boxes))
        object.__setattr__(self, "points", rows)
        object.__setattr__(self, "point_labels", None if rows is None else _labels(rows, point_labels))
        object.__setattr__(self, "masks", None if masks is None else _masks(masks))
        lengths = {len(kind) for kind in (self.boxes, self.points, self.masks) if kind is not None}
        if not lengths:
            raise InputError("Give boxes, points or masks.", code="no-prompts")
        if len(lengths) > 1:
            raise InputError(
                f"Boxes, points and masks must have one row for each object, not {sorted(lengths)} rows.",
                code="prompt-rows-disagree",
            )
        for row in range(len(self)):
            if self.masks is None and not self.has_box(row) and not self.point_count(row):
                raise InputError(
                    f"Object {row} has neither a box nor a point nor a mask.", code="object-without-prompt"
                )

    def __len__(self) -> int:
        return next(len(kind) for kind in (self.boxes, self.points, self.masks) if kind is not None)

    def __getitem__(self, rows: slice | Sequence[int] | NDArray[np.integer]) -> Prompts:
        """Return the prompts of some objects, in the order of ``rows``."""
        chosen = np.arange(len(self))[rows]
        return Prompts(
            None if self.boxes is None else [self.boxes[i] if self.has_box(i) else None for i in chosen],
            None if self.points is None else [self.points[i] for i in chosen],
            None if self.point_labels is None else [self.point_labels[i] for i in chosen],
            None if self.masks is None else self.masks[chosen],
        )

    def has_box(self, row: int) -> bool:
        """Return whether this object has a box."""
        return self.boxes is not None and bool(np.isfinite(self.boxes[row, 0]))

    def point_count(self, row: int) -> int:
        """Return the number of points of this object."""
        return 0 if self.points is None else len(self.points[row])

    def is_lone_point(self, row: int) -> bool:
        """Return whether this object has one point and nothing else, which is ambiguous."""
        return self.point_count(row) == 1 and not self.has_box(row) and self.masks is None

    def like_shaped(self) -> list[NDArray[np.intp]]:
        """Group rows with the same kinds of prompts, which can be encoded together without padding."""
        groups: dict[tuple[bool, int], list[int]] = {}
        for row in range(len(self)):
            groups.setdefault((self.has_box(row), self.point_count(row)), []).append(row)
        return [np.array(rows, np.intp) for rows in groups.values()]


@dataclass(frozen=True, eq=False)
class ObjectPrompts:
    """The prompts of one object, in pixels of the plane: what the decoder takes.

    Attributes
    ----------
    box : tuple of float, optional
        Half-open (y0, x0, y1, x1).
    points : float (k, 2) as y, x
    point_labels : int (k,)
        1 inside, 0 outside.
    mask : Region, optional
    """

    box: Box | None = None
    points: NDArray[Any] | None = None
    point_labels: NDArray[Any] | None = None
    mask: Region | None = None

    @classmethod
    def from_prompts(cls, prompts: Prompts) -> list[ObjectPrompts]:
        """Split `Prompts` into those of each object.

        Raises
        ------
        InputError
            If the masks are logits, whose grid is that of another input.
        """
        if prompts.masks is not None and prompts.masks.dtype != bool:
            raise InputError(
                "Logits of an earlier mask cannot be used in tiles: pass the mask itself, as bool.",
                code="logits-in-tiles",
            )
        return [
            cls(
                tuple(prompts.boxes[row].tolist()) if prompts.boxes is not None and prompts.has_box(row) else None,
                None if prompts.points is None else prompts.points[row],
                None if prompts.point_labels is None else prompts.point_labels[row],
                None if prompts.masks is None else Region.of(prompts.masks[row]),
            )
            for row in range(len(prompts))
        ]

    def as_prompts(self, shape: tuple[int, int]) -> Prompts:
        """Return the same prompts as a batch of one object of a plane of this shape (y, x)."""
        return Prompts(
            None if self.box is None else [self.box],
            None if self.points is None else [self.points],
            None if self.points is None or self.point_labels is None else [self.point_labels],
            None if self.mask is None else self.mask.to_mask(shape)[None],
        )

    @property
    def extent(self) -> Box:
        """Half-open box (y0, x0, y1, x1) of box, mask and inside points, or outside points if there are no others."""
        corners = [] if self.box is None else [self.box]
        if self.mask is not None:
            corners.append(self.mask.box)
        if self.points is not None and len(self.points):
            inside = self.points if self.point_labels is None else self.points[np.asarray(self.point_labels) > 0]
            if len(inside) or not corners:
                points = inside if len(inside) else self.points
                corners.append((*points.min(0), *(points.max(0) + 1)))
        boxes = np.array(corners, np.float64).reshape(-1, 4)
        low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @property
    def is_points(self) -> bool:
        """Return whether there are only points."""
        return self.box is None and self.mask is None

    @property
    def is_lone_point(self) -> bool:
        """Return whether there is one point and nothing else, which is ambiguous."""
        return self.is_points and self.kinds()[1] == 1

    def kinds(self) -> tuple[bool, int, bool]:
        """Return which kinds of prompts there are; objects with the same kinds are decoded together."""
        return self.box is not None, 0 if self.points is None else len(self.points), self.mask is not None

    def within(self, box: tuple[int, int, int, int]) -> ObjectPrompts:
        """Return the prompts in pixels of a box (y0, x0, y1, x1) of the plane; points outside it are left out."""
        corner, shape = np.array(box[:2], np.float64), (box[2] - box[0], box[3] - box[1])
        moved, points, labels, mask = None, None, None, None
        if self.box is not None:
            y0, x0, y1, x1 = np.asarray(self.box) - np.tile(corner, 2)
            moved = float(y0), float(x0), float(y1), float(x1)
        if self.points is not None:
            points = np.asarray(self.points, np.float64) - corner
            labels = np.ones(len(points), np.int8) if self.point_labels is None else np.asarray(self.point_labels)
            inside = ((points >= -0.5) & (points < np.array(shape) - 0.5)).all(1)
            points, labels = points[inside], labels[inside]
        if self.mask is not None:
            part = Region.of(self.mask.within(box))
            mask = part if part.area else None
        return ObjectPrompts(moved, points, labels, mask)


@dataclass(frozen=True, eq=False)
class SamPrompts:
    """Input of SAM's prompt encoder for objects with the same kinds of prompts, in pixels of the model input.

    Attributes
    ----------
    coordinates : float32 (n, k, 2) as x, y, or None
    labels : float32 (n, k), or None
    boxes : float32 (n, 4) as x0, y0, x1, y1, or None
    masks : bool (n, y, x) in pixels of the plane, float (n, h, w) logits, or None
    """

    coordinates: NDArray[np.float32] | None
    labels: NDArray[np.float32] | None
    boxes: NDArray[np.float32] | None
    masks: NDArray[Any] | None = None


def to_sam(
    prompts: Prompts | Sequence[ObjectPrompts], shape: tuple[int, int], resized_shape: tuple[int, int]
) -> SamPrompts:
    """Scale prompts of the same kinds to the model input and turn (y, x) into (x, y).

    Parameters
    ----------
    prompts : Prompts or sequence of ObjectPrompts
        All objects with as many points as the first, and all or none with a box; see `Prompts.like_shaped` and
        `ObjectPrompts.kinds`.
    shape, resized_shape : tuple of int
        (y, x) of the plane and of its resized pixels.

    Returns
    -------
    SamPrompts
    """
    scale = np.array([resized_shape[0] / shape[0], resized_shape[1] / shape[1]])
    drawn = _stack(prompts) if isinstance(prompts, Prompts) else _stack_objects(prompts, shape)
    coordinates = None if drawn.coordinates is None else (drawn.coordinates * scale)[..., ::-1].astype(np.float32)
    boxes = None
    if drawn.boxes is not None:
        corners = drawn.boxes.reshape(-1, 2, 2) * scale
        boxes = corners[..., ::-1].reshape(-1, 4).astype(np.float32)
    return SamPrompts(coordinates, drawn.labels, boxes, drawn.masks)


def _stack(prompts: Prompts) -> SamPrompts:
    """Stack like-shaped rows, still in pixels of the plane as (y, x)."""
    coordinates = labels = boxes = None
    if prompts.points is not None and prompts.point_labels is not None and prompts.point_count(0):
        coordinates, labels = np.stack(prompts.points), np.stack(prompts.point_labels).astype(np.float32)
    if prompts.boxes is not None and prompts.has_box(0):
        boxes = prompts.boxes
    return SamPrompts(coordinates, labels, boxes, prompts.masks)


def _stack_objects(objects: Sequence[ObjectPrompts], shape: tuple[int, int]) -> SamPrompts:
    """Stack objects of the same kinds, still in pixels of the plane as (y, x)."""
    has_box, count, has_mask = objects[0].kinds()
    coordinates = labels = boxes = masks = None
    if count:
        coordinates = np.stack([np.asarray(one.points, np.float32) for one in objects])
        labels = np.stack(
            [np.ones(count) if one.point_labels is None else np.asarray(one.point_labels) for one in objects]
        ).astype(np.float32)
    if has_box:
        boxes = np.array([one.box for one in objects], np.float32)
    if has_mask:
        masks = np.stack([one.mask.to_mask(shape) for one in objects if one.mask is not None])
    return SamPrompts(coordinates, labels, boxes, masks)


def _boxes(values: Boxes) -> NDArray[np.float32]:
    rows = [np.full(4, np.nan) if row is None else np.asarray(row, np.float64) for row in values]  # type: ignore[union-attr]
    if any(row.shape != (4,) for row in rows):
        raise InputError("A box must be four numbers: y0, x0, y1, x1.", code="box-not-four-numbers")
    boxes = np.array(rows, np.float32).reshape(-1, 4)
    has_box = np.array([row is not None for row in values], np.bool_)  # type: ignore[union-attr]
    if not np.isfinite(boxes[has_box]).all():
        raise InputError("The corners of a box must be finite numbers.", code="box-not-finite")
    if (boxes[has_box, :2] >= boxes[has_box, 2:]).any():
        raise InputError(
            "A box must have an area: y0 < y1 and x0 < x1, in the order y0, x0, y1, x1.", code="box-without-area"
        )
    return boxes


def _points(row: ArrayLike) -> NDArray[np.float32]:
    points = np.asarray(row, np.float32)
    if points.size == 0:
        return np.empty((0, 2), np.float32)
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError(
            f"The points of an object must be (k, 2) as y, x, not {points.shape}; give one list for each object.",
            code="points-wrong-shape",
        )
    if not np.isfinite(points).all():
        raise InputError("Points must be finite numbers.", code="points-not-finite")
    return points


def _labels(
    points: tuple[NDArray[np.float32], ...], values: Sequence[ArrayLike] | None
) -> tuple[NDArray[np.int8], ...]:
    if values is None:
        return tuple(np.ones(len(row), np.int8) for row in points)
    rows = tuple(np.asarray(row).reshape(-1) for row in values)
    if [len(row) for row in rows] != [len(row) for row in points]:
        raise InputError("Each point needs one label.", code="point-labels-do-not-fit")
    if any(not np.isin(row, (0, 1)).all() for row in rows):
        raise InputError("A point label is 1 (inside the object) or 0 (outside).", code="point-label-not-0-or-1")
    return tuple(row.astype(np.int8) for row in rows)


def _masks(values: ArrayLike) -> NDArray[Any]:
    masks = np.asarray(values)
    if masks.ndim != 3:
        raise InputError(f"Masks must be (n, y, x), not {masks.shape}.", code="masks-wrong-shape")
    if masks.dtype != bool and masks.dtype.kind != "f":
        raise InputError("Masks must be bool (drawn) or float (logits of an earlier result).", code="masks-wrong-type")
    if masks.dtype != bool and not np.isfinite(masks).all():
        raise InputError("The logits of a mask must be finite numbers.", code="mask-logits-not-finite")
    if masks.dtype == bool and not masks.any(axis=(1, 2)).all():
        raise InputError("A drawn mask is empty.", code="mask-empty")
    return masks

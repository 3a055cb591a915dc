"""A finite set of augmented views, and the prompts that a user gave as they appear in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.images import Prepared
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.training.data.samples import Plane, nearest

# Exponents of the intensity variants.
GAMMAS = (1.0, 0.7, 1.4)
TURNS = 8


@dataclass(frozen=True)
class View:
    """One of the finitely many augmented versions of a plane.

    Attributes
    ----------
    plane : int
        Index of the plane.
    turn : int
        0 to 7: quarter turns, from 4 on after a mirroring.
    gamma : float
        Exponent of the intensities.
    """

    plane: int
    turn: int = 0
    gamma: float = 1.0


def choose_views(plane: int, count: int, rng: np.random.Generator) -> tuple[View, ...]:
    """The plane as it is and ``count - 1`` other views, drawn without repetition."""
    others = [View(plane, turn, gamma) for turn in range(TURNS) for gamma in GAMMAS][1:]
    drawn = rng.choice(len(others), min(count - 1, len(others)), replace=False)
    return (View(plane), *(others[index] for index in drawn))


def show(view: View, planes: Sequence[Plane]) -> tuple[Prepared, NDArray[np.int64]]:
    """Pixels and labels (h, w) of a view; its plane coordinates are those of the resized pixels."""
    plane = planes[view.plane]
    pixels = turned(plane.prepared.pixels, view.turn)
    if view.gamma != 1.0:
        table = np.rint(255 * (np.arange(256) / 255) ** view.gamma).astype(np.uint8)
        pixels = table[pixels]
    shape = (pixels.shape[0], pixels.shape[1])
    return Prepared(pixels, shape, plane.prepared.input_size), turned(plane.resized_labels, view.turn)


def show_prompts(view: View, planes: Sequence[Plane], label: int) -> Prompts | None:
    """The prompts that the user gave for an object, in pixels of a view; None if there are none."""
    plane = planes[view.plane]
    given = plane.prompts.get(label)
    if given is None:
        return None
    shape = plane.prepared.resized_shape
    scale = np.array(shape) / plane.prepared.shape
    boxes = points = masks = None
    if given.boxes is not None:
        corners = _turn_points(given.boxes.reshape(2, 2) * scale, view.turn, shape)
        boxes = [np.concatenate([corners.min(0), corners.max(0)])]
    if given.points is not None:
        points = [_turn_points(given.points[0] * scale, view.turn, (shape[0] - 1, shape[1] - 1))]
    if given.masks is not None:
        drawn = turned(nearest(given.masks[0], shape), view.turn)[None]
        masks = drawn if drawn.any() else None
    if masks is None and boxes is None and given.point_count(0) == 0:
        return None
    return Prompts(boxes, points, given.point_labels, masks)


def _turn_points(points: NDArray[Any], turn: int, extent: tuple[int, int]) -> NDArray[np.float64]:
    """Points (k, 2) in a plane that reaches from 0 to ``extent``, turned as `turned` turns its pixels."""
    y, x = np.asarray(points, np.float64).T
    height, width = extent
    if turn >= 4:
        x = width - x
    for _ in range(turn % 4):
        y, x = width - x, y
        height, width = width, height
    return np.stack([y, x], axis=1)


def turned(array: NDArray[Any], turn: int) -> NDArray[Any]:
    """A plane (y, x, ...) as the view of this turn shows it."""
    mirrored = array[:, ::-1] if turn >= 4 else array
    return np.ascontiguousarray(np.rot90(mirrored, turn % 4))

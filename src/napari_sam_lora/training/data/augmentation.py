"""Make a finite set of augmented views of planes, with the user's prompts transformed alike."""

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
        0 to 3: quarter turns; 4 to 7: the same after mirroring.
    gamma : float
        Exponent of the intensities.
    """

    plane: int
    turn: int = 0
    gamma: float = 1.0


def choose_views(plane: int, count: int, rng: np.random.Generator) -> tuple[View, ...]:
    """Choose the plane as it is and ``count - 1`` other views, drawn without repetition."""
    others = [View(plane, turn, gamma) for turn in range(TURNS) for gamma in GAMMAS][1:]
    drawn = rng.choice(len(others), min(count - 1, len(others)), replace=False)
    return (View(plane), *(others[index] for index in drawn))


def show(view: View, planes: Sequence[Plane]) -> tuple[Prepared, NDArray[np.int64]]:
    """Return the pixels and the labels (h, w) of a view; its plane coordinates are those of the resized pixels."""
    plane = planes[view.plane]
    pixels = turned(plane.prepared.pixels, view.turn)
    if view.gamma != 1.0:
        table = np.rint(255 * (np.arange(256) / 255) ** view.gamma).astype(np.uint8)
        pixels = table[pixels]
    shape = (pixels.shape[0], pixels.shape[1])
    return Prepared(pixels, shape, plane.prepared.input_size), turned(plane.resized_labels, view.turn)


def show_prompts(view: View, planes: Sequence[Plane], label: int) -> Prompts | None:
    """Return the user's prompts for an object in pixels of a view; None if there are none."""
    plane = planes[view.plane]
    prompts = plane.prompts.get(label)
    if prompts is None:
        return None
    shape = plane.prepared.resized_shape
    scale = np.array(shape) / plane.prepared.shape
    boxes = points = masks = None
    if prompts.boxes is not None:
        corners = turn_points(prompts.boxes.reshape(2, 2) * scale, view.turn, shape)
        boxes = [np.concatenate([corners.min(0), corners.max(0)])]
    if prompts.points is not None:
        points = [turn_points(prompts.points[0] * scale, view.turn, (shape[0] - 1, shape[1] - 1))]
    if prompts.masks is not None:
        drawn = turned(nearest(prompts.masks[0], shape), view.turn)[None]
        masks = drawn if drawn.any() else None
    if masks is None and boxes is None and prompts.point_count(0) == 0:
        return None
    return Prompts(boxes, points, prompts.point_labels, masks)


def turn_points(points: NDArray[Any], turn: int, extent: tuple[int, int]) -> NDArray[np.float64]:
    """Turn points (k, 2) of a plane that reaches from 0 to ``extent``, as `turned` turns its pixels."""
    y, x = np.asarray(points, np.float64).T
    height, width = extent
    if turn >= 4:
        x = width - x
    for _ in range(turn % 4):
        y, x = width - x, y
        height, width = width, height
    return np.stack([y, x], axis=1)


def turned(array: NDArray[Any], turn: int) -> NDArray[Any]:
    """Turn and mirror a plane (y, x, ...) as in a view with this turn."""
    mirrored = array[:, ::-1] if turn >= 4 else array
    return np.ascontiguousarray(np.rot90(mirrored, turn % 4))

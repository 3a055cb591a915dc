"""A finite set of augmented views, and the prompts of a simulated user on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.images import Prepared
from napari_sam_lora.labels import click_at_centre
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.training.samples import Plane

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


def show(view: View, planes: Sequence[Plane]) -> tuple[Prepared, NDArray[np.int32]]:
    """Pixels and labels (h, w) of a view; its plane coordinates are those of the resized pixels."""
    plane = planes[view.plane]
    pixels = _turn(plane.prepared.pixels, view.turn)
    if view.gamma != 1.0:
        table = np.rint(255 * (np.arange(256) / 255) ** view.gamma).astype(np.uint8)
        pixels = table[pixels]
    shape = (pixels.shape[0], pixels.shape[1])
    return Prepared(pixels, shape, plane.prepared.input_size), _turn(plane.resized_labels, view.turn)


def first_prompts(
    masks: NDArray[np.bool_], box_share: float, rng: np.random.Generator
) -> tuple[Prompts | None, Prompts | None, NDArray[np.bool_]]:
    """Simulate how a user points at objects.

    Parameters
    ----------
    masks : bool (n, h, w)
    box_share : float
        Probability of a box.

    Returns
    -------
    by_box, by_click : Prompts or None
        The prompts of the objects that were drawn for each kind, in their order.
    is_box : bool (n,)
    """
    is_box = rng.random(len(masks)) < box_share
    boxes = [jittered_box(mask, rng) for mask in masks[is_box]]
    clicks = [[click_inside(mask, rng)] for mask in masks[~is_box]]
    return Prompts(boxes=boxes) if boxes else None, Prompts(points=clicks) if clicks else None, is_box


def jittered_box(mask: NDArray[np.bool_], rng: np.random.Generator) -> list[float]:
    """The mask's box y0, x0, y1, x1, each side off by a normal error of up to 10 % of it and at most 20 pixels.

    The error is that of SAM's training (arXiv 2304.02643, appendix A), its scale drawn anew for each box.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1], float)
    sides = np.tile(box[2:] - box[:2], 2)
    moved = box + np.clip(rng.normal(size=4) * rng.uniform(0, 0.1) * sides, -20, 20)
    moved[2:] = np.maximum(moved[2:], moved[:2] + 1)
    return [float(value) for value in moved]


def click_inside(mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[float, float]:
    """A pixel (y, x) of the mask: half of the time its centre, otherwise any."""
    if rng.random() < 0.5:
        return click_at_centre(mask)
    inside = np.argwhere(mask)
    y, x = inside[rng.integers(len(inside))]
    return float(y), float(x)


def corrective_clicks(
    found: NDArray[np.bool_], wanted: NDArray[np.bool_], rng: np.random.Generator
) -> list[tuple[tuple[float, float], int]]:
    """For each mask (n, h, w) a click on a random wrong pixel, as ((y, x), label); on the object if all is right."""
    clicks = []
    for got, want in zip(found, wanted, strict=True):
        wrong = np.argwhere(got != want)
        if not len(wrong):
            wrong = np.argwhere(want)
        y, x = wrong[rng.integers(len(wrong))]
        clicks.append(((float(y), float(x)), int(want[y, x])))
    return clicks


def with_click(
    prompts: Prompts, clicks: Sequence[tuple[tuple[float, float], int]], logits: NDArray[np.float32]
) -> Prompts:
    """The prompts with one more point each, and the logits (n, h, w) of the mask that it corrects."""
    old = prompts.points or tuple(np.empty((0, 2), np.float32) for _ in clicks)
    old_labels = prompts.point_labels or tuple(np.empty(0, np.int8) for _ in clicks)
    return Prompts(
        boxes=prompts.boxes,
        points=[np.concatenate([row, [point]]) for row, (point, _) in zip(old, clicks, strict=True)],
        point_labels=[np.append(row, label) for row, (_, label) in zip(old_labels, clicks, strict=True)],
        masks=logits,
    )


def _turn(array: NDArray[Any], turn: int) -> NDArray[Any]:
    mirrored = array[:, ::-1] if turn >= 4 else array
    return np.ascontiguousarray(np.rot90(mirrored, turn % 4))

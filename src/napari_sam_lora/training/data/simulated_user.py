"""Simulate how a user prompts for objects, partly by replaying the prompts of the real user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam_lora.labels import click_at_centre
from napari_sam_lora.prompts import Prompts

# Share of objects prompted as the user did, where the user's prompts are known.
REPLAY_SHARE = 0.5
MAX_BOX_JITTER = 0.1  # standard deviation of the error of a box, as a share of its side
MAX_BOX_ERROR = 20  # pixels

Groups = list[tuple[Prompts, NDArray[np.intp]]]


def first_prompts(
    masks: NDArray[np.bool_],
    box_share: float,
    rng: np.random.Generator,
    mask_share: float = 0.0,
    user_prompts: Sequence[Prompts | None] = (),
) -> Groups:
    """Simulate the first prompts of objects.

    Parameters
    ----------
    masks : bool (n, h, w)
    box_share : float
        Probability that an object is prompted by a box.
    rng : numpy.random.Generator
    mask_share : float
        Probability of a roughly drawn mask where it is not a box; otherwise it is a click.
    user_prompts : sequence of Prompts or None
        The real user's prompts for each object, one row each; replayed half of the time.

    Returns
    -------
    list of (Prompts, indices)
        Groups of objects with the same kinds of prompts; every object is in one of them.
    """
    is_box = rng.random(len(masks)) < box_share
    is_drawn = ~is_box & (rng.random(len(masks)) < mask_share)
    is_replayed = np.zeros(len(masks), np.bool_)
    if any(prompts is not None for prompts in user_prompts):
        has_prompts = np.array([prompts is not None for prompts in user_prompts], np.bool_)
        is_replayed = has_prompts & (rng.random(len(masks)) < REPLAY_SHARE)
    boxes, drawn, clicks = (np.flatnonzero(chosen & ~is_replayed) for chosen in (is_box, is_drawn, ~is_box & ~is_drawn))
    groups: Groups = []
    if len(boxes):
        groups.append((Prompts(boxes=[jittered_box(masks[i], rng) for i in boxes]), boxes))
    if len(clicks):
        groups.append((Prompts(points=[[click_inside(masks[i], rng)] for i in clicks]), clicks))
    if len(drawn):
        groups.append((Prompts(masks=np.stack([rough_mask(masks[i], rng) for i in drawn])), drawn))
    return groups + _group_by_kind({i: user_prompts[i] for i in np.flatnonzero(is_replayed).tolist()})


def _group_by_kind(by_index: dict[int, Prompts | None]) -> Groups:
    """Join prompts of one row each where they are of the same kinds."""
    kinds: dict[tuple[bool, int, bool], list[tuple[int, Prompts]]] = {}
    for index, prompts in by_index.items():
        if prompts is not None:
            kind = (prompts.has_box(0), prompts.point_count(0), prompts.masks is not None)
            kinds.setdefault(kind, []).append((index, prompts))
    groups: Groups = []
    for (has_box, points, has_mask), members in kinds.items():
        rows = [prompts for _, prompts in members]
        joined = Prompts(
            boxes=[row.boxes[0] for row in rows if row.boxes is not None] if has_box else None,
            points=[row.points[0] for row in rows if row.points is not None] if points else None,
            point_labels=[row.point_labels[0] for row in rows if row.point_labels is not None] if points else None,
            masks=np.stack([row.masks[0] for row in rows if row.masks is not None]) if has_mask else None,
        )
        groups.append((joined, np.array([index for index, _ in members], np.intp)))
    return groups


def rough_mask(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw the mask roughly, as by hand: grown or shrunk by up to 15 % of the side of a square of its area."""
    reach = 0.15 * np.sqrt(np.count_nonzero(mask))
    margin = int(reach) + 2
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    part = (
        slice(max(0, rows[0] - margin), rows[-1] + 1 + margin),
        slice(max(0, columns[0] - margin), columns[-1] + 1 + margin),
    )
    inside = np.pad(mask[part], 1)
    depth = (ndi.distance_transform_edt(inside) - ndi.distance_transform_edt(~inside))[1:-1, 1:-1]
    drawn = np.zeros_like(mask)
    drawn[part] = depth > min(float(rng.uniform(-reach, reach)), 0.9 * float(depth.max()))
    return drawn


def jittered_box(mask: NDArray[np.bool_], rng: np.random.Generator) -> list[float]:
    """Return the mask's box y0, x0, y1, x1 with a normal error on each side.

    Its standard deviation is a random share of the side, up to `MAX_BOX_JITTER`, and the error is clipped at
    `MAX_BOX_ERROR` pixels, as in SAM's training (arXiv 2304.02643, appendix A).
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1], float)
    sides = np.tile(box[2:] - box[:2], 2)
    moved = box + np.clip(rng.normal(size=4) * rng.uniform(0, MAX_BOX_JITTER) * sides, -MAX_BOX_ERROR, MAX_BOX_ERROR)
    moved[2:] = np.maximum(moved[2:], moved[:2] + 1)
    return [float(value) for value in moved]


def click_inside(mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[float, float]:
    """Choose a pixel (y, x) of the mask: half of the time its centre, otherwise any."""
    if rng.random() < 0.5:
        return click_at_centre(mask)
    inside = np.argwhere(mask)
    y, x = inside[rng.integers(len(inside))]
    return float(y), float(x)


def corrective_clicks(
    found: NDArray[np.bool_], wanted: NDArray[np.bool_], rng: np.random.Generator
) -> list[tuple[tuple[float, float], int]]:
    """Click on a random wrong pixel of each mask (n, h, w), as ((y, x), label); on the object if none is wrong."""
    clicks = []
    for got, want in zip(found, wanted, strict=True):
        wrong = np.argwhere(got != want)
        if not len(wrong):
            wrong = np.argwhere(want)
        y, x = wrong[rng.integers(len(wrong))]
        clicks.append(((float(y), float(x)), int(want[y, x])))
    return clicks


def with_click(prompts: Prompts, clicks: Sequence[tuple[tuple[float, float], int]], masks: NDArray[Any]) -> Prompts:
    """Add one point to each object's prompts, and the mask that it corrects, see `Prompts.masks`."""
    old = prompts.points or tuple(np.empty((0, 2), np.float32) for _ in clicks)
    old_labels = prompts.point_labels or tuple(np.empty(0, np.int8) for _ in clicks)
    return Prompts(
        boxes=prompts.boxes,
        points=[np.concatenate([row, [point]]) for row, (point, _) in zip(old, clicks, strict=True)],
        point_labels=[np.append(row, label) for row, (_, label) in zip(old_labels, clicks, strict=True)],
        masks=masks,
    )

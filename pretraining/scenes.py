"""Synthetic microscopy and medical scenes with instance masks, for pretraining.

A scene is drawn in two steps: a *layout* places the objects (this module), and a *rendering* turns them into an
image (:mod:`pretraining.rendering`). Both are random and depend only on the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from pretraining.rendering import render
from pretraining.shapes import (
    LabelImage,
    Mask,
    adherent,
    blob,
    place,
    smooth_noise,
    tidy,
    tree,
    worm,
)

Rng = np.random.Generator
Centres = NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """Positions of the objects of a scene.

    Attributes
    ----------
    main, nested : ndarray of int32, shape (y, x)
        Labels of the objects and of the objects inside them, 0 for background.
    styles : dict of str to float
        Renderings that suit the layout, with their relative weights.
    """

    main: LabelImage
    nested: LabelImage
    styles: dict[str, float]


def _log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _centres(rng: Rng, size: int, count: int, spread: float) -> Centres:
    """Return (y, x) centres, shape (count, 2): uniform, in a few clusters, or on a jittered lattice."""
    kind = rng.choice(["uniform", "clusters", "lattice"], p=[0.5, 0.3, 0.2])
    if kind == "uniform":
        return rng.uniform(0, size, (count, 2))
    if kind == "clusters":
        seeds = rng.uniform(0.1 * size, 0.9 * size, (int(rng.integers(1, 6)), 2))
        width = max(size * rng.uniform(0.05, 0.15), 0.8 * spread * np.sqrt(count / len(seeds)))
        return seeds[rng.integers(len(seeds), size=count)] + width * rng.standard_normal((count, 2))
    side = int(np.ceil(np.sqrt(count)))
    grid = np.moveaxis(np.mgrid[:side, :side], 0, -1).reshape(-1, 2)[rng.permutation(side * side)[:count]]
    return (grid + 0.5 + rng.uniform(-0.35, 0.35, grid.shape)) * (size / side)


def _scatter(
    rng: Rng,
    size: int,
    draw: Callable[[float], Mask],
    radius: float,
    variation: float,
    most: int = 150,
    densest: float = 2.0,
) -> LabelImage:
    """Return labels, shape (y, x), of objects scattered at a random density; ``draw`` maps radius to mask."""
    labels = np.zeros((size, size), np.int32)
    low, high = [(0.02, 0.15), (0.15, 0.5), (0.5, 1.1), (1.1, 2.0)][rng.choice(4, p=[0.25, 0.35, 0.25, 0.15])]
    cover = min(rng.uniform(low, high), densest)
    count = int(np.clip(cover * size**2 / (np.pi * radius**2), 1, most))
    if rng.random() < 0.1:
        count = int(rng.integers(1, 4))
    gap = int(rng.choice([0, 1, 2, 4], p=[0.5, 0.2, 0.2, 0.1]))
    overlap = 0.02 if gap else rng.uniform(0.0, 0.4)
    for centre in _centres(rng, size, count, radius):
        scale = float(np.clip(np.exp(variation * rng.standard_normal()), 0.4, 2.5))
        place(labels, draw(max(2.5, radius * scale)), centre, gap, overlap)
    if not labels.any():
        place(labels, draw(radius), rng.uniform(0.3 * size, 0.7 * size, 2), 0, 1.0)
    return tidy(labels)


def _inside(rng: Rng, parents: LabelImage, fraction: tuple[float, float], share: float) -> LabelImage:
    """Return labels, shape (y, x), of roundish objects inside a share of the parents, relative in radius."""
    nested = np.zeros_like(parents)
    hosts = [0]
    for index, window in enumerate(ndi.find_objects(parents), start=1):
        if window is None or rng.random() > share:
            continue
        body = np.pad(parents[window] == index, 1)
        depth = ndi.distance_transform_edt(body)
        deepest = float(depth.max())
        radius = deepest * rng.uniform(*fraction)
        if radius < 2.5:
            continue
        room = np.argwhere(depth >= min(deepest, 1.15 * radius + 1))
        y, x = room[rng.integers(len(room))] - 1 + [window[0].start, window[1].start]
        mask = blob(rng, radius, rng.uniform(1, 1.4), rng.uniform(0, 0.12))
        if place(nested, mask, (y, x), 1, 0.3):
            hosts.append(index)
    nested[np.array(hosts)[nested] != parents] = 0
    return tidy(nested)


def _nuclei(rng: Rng, size: int) -> Layout:
    aspect, rough = rng.uniform(1, 1.7), rng.uniform(0, 0.2)
    variation = rng.uniform(0.05, 0.4)
    radius = _log_uniform(rng, 4, 20)
    main = _scatter(rng, size, lambda r: blob(rng, r, rng.uniform(1, aspect), rough), radius, variation)
    styles = {"fill": 0.5, "tissue": 0.3, "ring": 0.1, "texture": 0.04, "phase": 0.06}
    return Layout(main, np.zeros_like(main), styles)


def _cells(rng: Rng, size: int) -> Layout:
    rough = rng.uniform(0.05, 0.35)
    main = _scatter(rng, size, lambda r: blob(rng, r, rng.uniform(1, 1.8), rough), _log_uniform(rng, 12, 50), 0.25, 60)
    nested = _inside(rng, main, (0.35, 0.75), rng.uniform(0.6, 1.0))
    return Layout(main, nested, {"fill": 0.55, "ring": 0.2, "tissue": 0.15, "phase": 0.1})


def _adherent(rng: Rng, size: int) -> Layout:
    rough = rng.uniform(0.25, 0.6)
    arms = rng.random() < 0.65
    main = _scatter(
        rng,
        size,
        lambda r: adherent(rng, r) if arms else blob(rng, r, rng.uniform(1, 2.5), rough),
        _log_uniform(rng, 7, 28),
        rng.uniform(0.1, 0.4),
        60,
        0.7,
    )
    nested = _inside(rng, main, (0.4, 0.7), 0.8) if rng.random() < 0.25 else np.zeros_like(main)
    return Layout(main, nested, {"phase": 0.6, "fill": 0.2, "texture": 0.15, "ring": 0.05})


def _rods(rng: Rng, size: int) -> Layout:
    ratio, bend = _log_uniform(rng, 3, 12), rng.choice([0.1, 0.6, 1.5])
    main = _scatter(
        rng,
        size,
        lambda r: worm(rng, r * ratio * rng.uniform(0.6, 1.2), r, bend),
        _log_uniform(rng, 2.5, 10),
        rng.uniform(0.05, 0.3),
        80,
    )
    return Layout(main, np.zeros_like(main), {"fill": 0.5, "phase": 0.25, "ring": 0.1, "tissue": 0.15})


def _branching(rng: Rng, size: int) -> Layout:
    labels = np.zeros((size, size), np.int32)
    for _ in range(int(rng.integers(1, 6))):
        mask = tree(rng, size * rng.uniform(0.3, 1.2), _log_uniform(rng, 2, 9), int(rng.integers(1, 6)))
        place(labels, mask, rng.uniform(0.2 * size, 0.8 * size, 2), 1, 0.1)
    return Layout(tidy(labels), np.zeros_like(labels), {"fill": 0.7, "tissue": 0.3})


def _tessellation(rng: Rng, size: int) -> Layout:
    """Lay out a membrane tessellation: warped, weighted and anisotropic Voronoi cells."""
    count = int(_log_uniform(rng, 6, 130))
    seeds = rng.uniform(-0.05 * size, 1.05 * size, (count, 2)).astype(np.float32)
    pitch = size / np.sqrt(count)
    scale = rng.uniform(0.25, 0.8) * pitch
    warp = rng.uniform(0, 0.35) * scale
    rows = np.arange(size, dtype=np.float32)[:, None] + warp * smooth_noise(rng, size, scale)
    columns = np.arange(size, dtype=np.float32)[None, :] + warp * smooth_noise(rng, size, scale)
    common = rng.uniform(1, 2) ** rng.choice([-1, 1])
    first = np.full((size, size), 1e6, np.float32)
    second = first.copy()
    owner = np.zeros((size, size), np.int32)
    weights = np.exp(rng.uniform(0, 0.45) * rng.standard_normal(count)).astype(np.float32)
    reach = int(3.2 * pitch) + 4
    for index, (y, x) in enumerate(seeds):
        window = np.s_[max(int(y) - reach, 0) : int(y) + reach, max(int(x) - reach, 0) : int(x) + reach]
        near, next_near = first[window], second[window]
        distance = np.hypot((rows[window] - y) * common, columns[window] - x) * weights[index]
        closer = distance < near
        np.minimum(next_near, np.maximum(distance, near), out=next_near)
        near[closer] = distance[closer]
        owner[window][closer] = index + 1
    width = _log_uniform(rng, 1.5, 7) * np.exp(rng.uniform(0, 0.5) * smooth_noise(rng, size, 0.7 * pitch))
    owner[second - first < np.maximum(width, 1.2)] = 0
    drop = np.flatnonzero(rng.random(count) < rng.choice([0.0, rng.uniform(0, 0.4)])) + 1
    owner[np.isin(owner, drop)] = 0
    main = tidy(owner, 16)
    nested = np.zeros_like(main)
    if rng.random() < 0.35:
        nested = _inside(rng, main, (0.25, 0.65), rng.uniform(0.2, 0.8))
    return Layout(main, nested, {"membrane": 0.75, "fill": 0.12, "ring": 0.13})


def _anatomy(rng: Rng, size: int) -> Layout:
    """Lay out a few large smooth regions: where one of several smooth fields exceeds the others."""
    kinds = int(rng.integers(2, 6))
    scale = size * rng.uniform(0.1, 0.3)
    stretch = rng.uniform(0.6, 1.6)
    fields = np.stack([smooth_noise(rng, size, scale, stretch) for _ in range(kinds)])
    fields[0] += rng.uniform(0, 1.5)
    kind = fields.argmax(axis=0)
    labels = np.zeros((size, size), np.int32)
    for index in range(1, kinds):
        components = ndi.label(kind == index)[0]
        labels = np.where(components > 0, components + labels.max(), labels)
    main = tidy(labels, 150)
    nested = np.zeros_like(main)
    if rng.random() < 0.5:
        inner = (smooth_noise(rng, size, 0.5 * scale) > rng.uniform(0.3, 1.0)) & (main > 0)
        components = ndi.label(inner)[0].astype(np.int32) * (main.max() + 1) + main
        nested = tidy(np.where(inner, components, 0), 80)
    return Layout(main, nested, {"anatomy": 1.0})


def _organs(rng: Rng, size: int) -> Layout:
    """Lay out a few organs: smooth blobs and bent bands, some with a lumen."""
    labels = np.zeros((size, size), np.int32)
    for _ in range(int(rng.integers(1, 12))):
        radius = _log_uniform(rng, 8, 90) * size / 256
        if rng.random() < 0.35:
            mask = worm(rng, radius * rng.uniform(2, 4), radius * rng.uniform(0.3, 0.5), 0.7)
        else:
            mask = blob(rng, radius, rng.uniform(1, 2.2), rng.uniform(0, 0.4))
        place(labels, mask, rng.uniform(0.1 * size, 0.9 * size, 2), int(rng.integers(0, 3)), 0.3)
    main = tidy(labels, 30)
    nested = _inside(rng, main, (0.3, 0.85), rng.uniform(0, 0.9))
    return Layout(main, nested, {"anatomy": 0.75, "ring": 0.1, "fill": 0.15})


def _tiny(rng: Rng, size: int) -> Layout:
    main = _scatter(rng, size, lambda r: blob(rng, r, rng.uniform(1, 1.4), 0.05), rng.uniform(2.5, 5), 0.2)
    return Layout(main, np.zeros_like(main), {"fill": 0.8, "ring": 0.1, "tissue": 0.1})


def _mixed(rng: Rng, size: int) -> Layout:
    """Lay out objects of widely different sizes and of several kinds in one scene."""
    labels = np.zeros((size, size), np.int32)
    rough = rng.uniform(0.02, 0.4)
    for radius in np.sort(np.exp(rng.uniform(np.log(3), np.log(70), int(rng.integers(5, 50)))))[::-1]:
        if rng.random() < 0.2:
            mask = worm(rng, radius * rng.uniform(2, 5), max(2.5, 0.4 * radius), 0.8)
        else:
            mask = blob(rng, float(radius), rng.uniform(1, 2), rough)
        place(labels, mask, rng.uniform(0, size, 2), 0, 0.15)
    main = tidy(labels)
    nested = _inside(rng, main, (0.3, 0.8), 0.4) if rng.random() < 0.4 else np.zeros_like(main)
    return Layout(main, nested, {"fill": 0.5, "ring": 0.15, "texture": 0.2, "anatomy": 0.15})


FAMILIES: dict[Callable[[Rng, int], Layout], float] = {
    _nuclei: 0.38,
    _cells: 0.08,
    _adherent: 0.10,
    _rods: 0.07,
    _branching: 0.03,
    _tessellation: 0.12,
    _anatomy: 0.08,
    _organs: 0.06,
    _tiny: 0.03,
    _mixed: 0.05,
}


def make_scene(seed: int, size: int = 256) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Return one synthetic scene and its instance masks.

    Parameters
    ----------
    seed : int
        Seed; the same seed and size always give the same scene.
    size : int
        Side of the square scene in pixels.

    Returns
    -------
    image : ndarray of uint8, shape (y, x)
        The image.
    labels : ndarray of uint16, shape (2, y, x)
        Layer 0 holds the objects, layer 1 objects that lie inside them (all zeros where there are none).
        0 is background; the ids of each layer run from 1 without gaps.
    """
    rng = np.random.default_rng(seed)
    weights = np.array(list(FAMILIES.values()))
    family = list(FAMILIES)[rng.choice(len(weights), p=weights / weights.sum())]
    layout = family(rng, size)
    image = render(rng, layout.main, layout.nested, layout.styles)
    return image, np.stack([layout.main, layout.nested]).astype(np.uint16)

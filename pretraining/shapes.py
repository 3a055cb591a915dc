"""Building blocks of synthetic scenes: smooth noise, outlines of objects, placement and clean-up of labels.

Everything works on arrays in ``(y, x)`` order. Single objects are drawn as boolean masks in small local
windows, so the cost of a scene depends on the area its objects cover rather than on their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

FloatImage = NDArray[np.float32]
LabelImage = NDArray[np.int32]
Mask = NDArray[np.bool_]

MIN_AREA = 12


def smooth_noise(rng: np.random.Generator, size: int, scale: float, stretch: float = 1.0) -> FloatImage:
    """Return a random field of a given correlation length, with zero mean and unit deviation.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    size : int
        Side of the square field in pixels.
    scale : float
        Correlation length along x in pixels; below 0.5 the field is white noise.
    stretch : float
        Ratio of the correlation length along y to the one along x.

    Returns
    -------
    ndarray of float32, shape (y, x)
        The field.
    """
    if scale < 0.5:
        return rng.standard_normal((size, size), dtype=np.float32)
    bases = []
    for step in (max(scale * stretch, 0.6), max(scale, 0.6)):
        nodes = np.arange(-2 * step + rng.uniform(0, step), size + 2 * step, step, dtype=np.float32)
        offset = (np.arange(size, dtype=np.float32)[:, None] - nodes) / (0.8 * step)
        bases.append(np.exp(-0.5 * offset * offset))
    weights = rng.standard_normal((bases[0].shape[1], bases[1].shape[1]), dtype=np.float32)
    field = bases[0] @ weights @ bases[1].T
    return ((field - field.mean()) / (field.std() + 1e-6)).astype(np.float32)


def blur(image: FloatImage, sigma: float) -> FloatImage:
    """Return a square image blurred by a Gaussian, normalised at the borders.

    Parameters
    ----------
    image : ndarray of float32, shape (y, x)
        The image; its sides must be equal.
    sigma : float
        Standard deviation in pixels; below 0.2 the image is returned as it is.

    Returns
    -------
    ndarray of float32, shape (y, x)
        The blurred image.
    """
    if sigma < 0.2:
        return image
    axis = np.arange(image.shape[0], dtype=np.float32)
    kernel = np.exp(-0.5 * ((axis[:, None] - axis) / sigma) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    return kernel @ image @ kernel.T


def blob(rng: np.random.Generator, radius: float, aspect: float = 1.0, roughness: float = 0.1) -> Mask:
    """Return a star-convex object of given mean radius.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness (orientation and irregularity).
    radius : float
        Radius in pixels of the disc of about the same area.
    aspect : float
        Ratio of the long to the short axis, at least 1.
    roughness : float
        Relative amplitude of the irregularities of the outline: 0 for an ellipse, 0.5 for an amoeba.

    Returns
    -------
    ndarray of bool, shape (y, x)
        The mask, in a square window of odd side centred on the object.
    """
    order = np.arange(2, 8)
    turn = np.linspace(-np.pi, np.pi, 257)
    amplitude = roughness * 1.6 * rng.standard_normal(order.size) / order
    waves = np.cos(order[:, None] * turn + rng.uniform(0, 2 * np.pi, (order.size, 1)))
    profile = np.clip(1 + amplitude @ waves, 0.35, 2.0)
    profile *= radius / np.sqrt((profile**2).mean())
    stretch = np.sqrt(aspect)
    half = int(np.ceil(profile.max() * stretch)) + 1
    axis = np.arange(-half, half + 1, dtype=np.float32)
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u = (cos * axis[None, :] + sin * axis[:, None]) / np.float32(stretch)
    v = (cos * axis[:, None] - sin * axis[None, :]) * np.float32(stretch)
    index = ((np.arctan2(v, u) + np.pi) * (256 / (2 * np.pi)) + 0.5).astype(np.int32)
    return u * u + v * v < (profile**2).astype(np.float32)[index]


def walk(
    rng: np.random.Generator, start: NDArray[np.float64], heading: float, length: float, bend: float
) -> NDArray[np.float64]:
    """Return the points of a smoothly bending path, about two pixels apart.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    start : ndarray of float64, shape (2,)
        First point, (y, x).
    heading : float
        Initial direction in radians.
    length : float
        Length of the path in pixels.
    bend : float
        Typical turn in radians over 20 pixels.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        Points (y, x).
    """
    count = max(3, int(length / 2))
    along = 2.0 * np.arange(count)
    curve = np.clip(0.02 * bend * rng.standard_normal(), -2.5 / length, 2.5 / length)
    waves = np.sin(along / rng.uniform(6, 25, (2, 1)) + rng.uniform(0, 2 * np.pi, (2, 1))).sum(axis=0)
    direction = heading + curve * along + 0.3 * bend * waves
    steps = 2 * np.stack([np.sin(direction), np.cos(direction)], axis=1)
    return start + np.cumsum(steps, axis=0) - steps[0]


def sweep(points: NDArray[np.float64], radii: NDArray[np.float64]) -> tuple[Mask, tuple[int, int]]:
    """Return the union of discs along a path.

    Parameters
    ----------
    points : ndarray of float64, shape (n, 2)
        Centres (y, x) in pixels.
    radii : ndarray of float64, shape (n,)
        Radii in pixels.

    Returns
    -------
    mask : ndarray of bool, shape (y, x)
        The union, in the smallest window that holds it.
    origin : tuple of int
        The window's first row and column.
    """
    reach = int(np.ceil(radii.max())) + 1
    low = np.floor(points.min(axis=0)).astype(int) - reach
    extent = np.ceil(points.max(axis=0)).astype(int) + reach + 1 - low
    mask = np.zeros(extent, dtype=bool)
    for (y, x), radius in zip(points - low, radii, strict=True):
        r = int(radius) + 1
        top, left = int(y) - r, int(x) - r
        dy = np.arange(top, top + 2 * r + 2) - y
        dx = np.arange(left, left + 2 * r + 2) - x
        top, left = max(top, 0), max(left, 0)
        disc = dy[:, None] ** 2 + dx**2 <= radius * radius
        window = mask[top : top + 2 * r + 2, left : left + 2 * r + 2]
        window |= disc[: window.shape[0], : window.shape[1]]
    return mask, (int(low[0]), int(low[1]))


def worm(rng: np.random.Generator, length: float, width: float, bend: float) -> Mask:
    """Return an elongated, possibly bent object of half-width ``width``, as a mask in its own window."""
    points = walk(rng, np.zeros(2), rng.uniform(0, 2 * np.pi), length, bend)
    along = np.linspace(-1, 1, len(points))
    radii = width * (1 - rng.uniform(0, 0.5) * along**2 + rng.uniform(-0.3, 0.3) * along)
    return sweep(points, np.maximum(radii, 1.2))[0]


def tree(rng: np.random.Generator, length: float, width: float, branches: int) -> Mask:
    """Return a branching object (vessel, neurite) with tapering arms, as a mask in its own window."""
    trunk = walk(rng, np.zeros(2), rng.uniform(0, 2 * np.pi), length, 0.8)
    paths, radii = [trunk], [np.linspace(width, 0.6 * width, len(trunk))]
    for _ in range(branches):
        parent = int(rng.integers(len(paths)))
        at = int(rng.integers(len(paths[parent])))
        reach = length * rng.uniform(0.25, 0.7)
        step = paths[parent][max(at, 1)] - paths[parent][max(at, 1) - 1]
        heading = np.arctan2(step[0], step[1]) + rng.choice([-1, 1]) * rng.uniform(0.4, 1.3)
        path = walk(rng, paths[parent][at], heading, reach, 1.0)
        paths.append(path)
        radii.append(np.linspace(0.8, 0.5, len(path)) * radii[parent][at])
    return sweep(np.concatenate(paths), np.maximum(np.concatenate(radii), 1.3))[0]


def adherent(rng: np.random.Generator, radius: float) -> Mask:
    """Return an irregular cell body with tapering protrusions, as a mask in its own window."""
    body = blob(rng, radius, rng.uniform(1, 2.2), rng.uniform(0.15, 0.5))
    paths, radii = [], []
    for _ in range(int(rng.integers(0, 5))):
        reach = radius * rng.uniform(1.2, 2.8)
        path = walk(rng, np.zeros(2), rng.uniform(0, 2 * np.pi), reach, 0.7)
        paths.append(path)
        radii.append(np.linspace(radius * rng.uniform(0.3, 0.6), 1.3, len(path)))
    if not paths:
        return body
    arms, (top, left) = sweep(np.concatenate(paths), np.concatenate(radii))
    half = body.shape[0] // 2
    low = np.minimum([top, left], -half)
    high = np.maximum([top + arms.shape[0], left + arms.shape[1]], half + 1)
    mask = np.zeros(high - low, dtype=bool)
    mask[-half - low[0] : half + 1 - low[0], -half - low[1] : half + 1 - low[1]] = body
    mask[top - low[0] : top - low[0] + arms.shape[0], left - low[1] : left - low[1] + arms.shape[1]] |= arms
    return mask


def place(
    labels: LabelImage, mask: Mask, centre: Sequence[float] | NDArray[np.floating[Any]], gap: int, overlap: float
) -> bool:
    """Draw one object beneath those already drawn, unless too much of it would be hidden.

    Parameters
    ----------
    labels : ndarray of int32, shape (y, x)
        Label image, changed in place: the object gets the id ``labels.max() + 1``.
    mask : ndarray of bool, shape (y, x)
        The object in its own window.
    centre : sequence of float
        Where the window's centre goes, (y, x).
    gap : int
        Pixels of background to keep around the other objects.
    overlap : float
        Largest fraction of the object that others may hide.

    Returns
    -------
    bool
        Whether the object was drawn.
    """
    top, left = int(centre[0]) - mask.shape[0] // 2, int(centre[1]) - mask.shape[1] // 2
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + mask.shape[0], labels.shape[0]), min(left + mask.shape[1], labels.shape[1])
    if y1 <= y0 or x1 <= x0:
        return False
    inside = mask[y0 - top : y1 - top, x0 - left : x1 - left]
    occupied = labels[y0:y1, x0:x1] > 0
    if gap and occupied.any():
        occupied = ndi.maximum_filter(occupied, 2 * gap + 1)
    free = inside & ~occupied
    area, visible = int(inside.sum()), int(free.sum())
    if visible < MIN_AREA or visible < (1 - overlap) * area:
        return False
    labels[y0:y1, x0:x1][free] = labels.max() + 1
    return True


def tidy(labels: LabelImage, min_area: int = MIN_AREA) -> LabelImage:
    """Return labels with one connected component per object, no slivers, and ids 1 to n.

    Parameters
    ----------
    labels : ndarray of int32, shape (y, x)
        Label image, 0 for background.
    min_area : int
        Objects with fewer pixels are removed.

    Returns
    -------
    ndarray of int32, shape (y, x)
        The cleaned label image.
    """
    out = np.zeros_like(labels)
    count = 0
    for index, window in enumerate(ndi.find_objects(labels), start=1):
        if window is None:
            continue
        mask = labels[window] == index
        components, number = ndi.label(mask)
        if number > 1:
            mask = components == 1 + int(np.argmax(np.bincount(components.ravel())[1:]))
        if mask.sum() >= min_area:
            count += 1
            out[window][mask] = count
    return out

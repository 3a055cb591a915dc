"""Renderings of synthetic scenes: intensities, background, clutter and degradations.

Scenes are painted on a canvas where the background is near 0 and a typical object near 1, so that every
amplitude below, noise included, is relative to the contrast of the objects.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy import ndimage as ndi

from pretraining.shapes import FloatImage, LabelImage, Mask, blur, smooth_noise, walk

Rng = np.random.Generator
Painter = Callable[[Rng, LabelImage, FloatImage], FloatImage]


def _depth(labels: LabelImage) -> FloatImage:
    """Return each object pixel's distance to the object's edge, also between touching objects."""
    inner = labels > 0
    for axis in (0, 1):
        change = np.diff(labels, axis=axis) != 0
        pad = [(0, 0), (0, 0)]
        pad[axis] = (0, 1)
        inner &= ~np.pad(change, pad)
    depth = ndi.distance_transform_edt(inner).astype(np.float32)
    depth[(labels > 0) & ~inner] = 0.3
    return depth


def _per_object(rng: Rng, labels: LabelImage, variation: float) -> FloatImage:
    """Return a brightness for each object, painted over its pixels; 0 in the background."""
    values = np.exp(variation * rng.standard_normal(labels.max() + 1)).clip(0.4, 2.5)
    values[0] = 0
    return values.astype(np.float32)[labels]


def _texture(rng: Rng, size: int) -> FloatImage:
    """Return a texture with zero mean and unit deviation: one or two scales, sometimes streaky."""
    stretch = float(rng.choice([1.0, 1.0, rng.uniform(0.25, 4)]))
    texture = smooth_noise(rng, size, rng.uniform(0.6, 4), stretch)
    if rng.random() < 0.5:
        texture = 0.7 * texture + 0.7 * smooth_noise(rng, size, rng.uniform(3, 12), stretch)
    return texture


def _profile(rng: Rng, depth: FloatImage) -> FloatImage:
    """Return the intensity across objects, 0 to 1: flat, or rising from the edge (domed)."""
    if rng.random() < 0.5:
        width, floor = rng.uniform(1, 2), rng.uniform(0.3, 0.7)
    else:
        width, floor = rng.uniform(3, 10), rng.uniform(0.25, 0.6)
    return (depth > 0) * (floor + (1 - floor) * np.sqrt(np.clip(depth / width, 0, 1)))


def _fill(rng: Rng, labels: LabelImage, depth: FloatImage) -> FloatImage:
    size = labels.shape[0]
    inside = _profile(rng, depth) * _per_object(rng, labels, rng.uniform(0, 0.5))
    canvas = inside * np.maximum(1 + rng.uniform(0, 0.3) * _texture(rng, size), 0.45)
    return canvas + rng.uniform(0, 0.12) * smooth_noise(rng, size, rng.uniform(3, 40))


def _ring(rng: Rng, labels: LabelImage, depth: FloatImage) -> FloatImage:
    size = labels.shape[0]
    width = rng.uniform(0.8, 2.5)
    rim = np.exp(-((np.maximum(depth - 1, 0) / width) ** 2)) * (depth > 0)
    inside = rng.uniform(0, 0.45) * (1 + rng.uniform(0, 0.4) * _texture(rng, size)) * (depth > 0)
    uneven = 1 + rng.uniform(0, 0.3) * smooth_noise(rng, size, 8)
    canvas = (rim * uneven + inside * (1 - rim)) * _per_object(rng, labels, rng.uniform(0, 0.35))
    return canvas + rng.uniform(0, 0.08) * smooth_noise(rng, size, rng.uniform(3, 40))


def _textured(rng: Rng, labels: LabelImage, depth: FloatImage) -> FloatImage:
    size = labels.shape[0]
    strength = np.clip(depth, 0, 2) / 2 * _per_object(rng, labels, 0.2)
    grain = smooth_noise(rng, size, rng.uniform(0.8, 2.5)) * rng.uniform(0.6, 1.0) * strength
    smooth = smooth_noise(rng, size, rng.uniform(8, 25)) * rng.uniform(0.05, 0.2)
    return grain + smooth + rng.uniform(-0.2, 0.2) * (depth > 0)


def _phase(rng: Rng, labels: LabelImage, depth: FloatImage) -> FloatImage:
    size = labels.shape[0]
    inside = depth > 0
    halo = blur(inside.astype(np.float32), rng.uniform(1.5, 5))
    canvas = rng.uniform(0.5, 1.6) * halo * ~inside
    rim = np.exp(-((depth / rng.uniform(1, 3)) ** 2)) * inside
    body = rng.uniform(-0.6, 0.1) + rng.uniform(0.05, 0.25) * _texture(rng, size)
    if rng.random() < 0.3:
        body = body + rng.uniform(0.3, 1.0) * np.clip(depth / rng.uniform(4, 12), 0, 1)
    canvas += inside * body * _per_object(rng, labels, 0.3) - rng.uniform(0.2, 0.9) * rim
    return canvas + rng.uniform(0.02, 0.12) * smooth_noise(rng, size, rng.uniform(1, 20))


def _tissue(rng: Rng, labels: LabelImage, depth: FloatImage) -> FloatImage:
    """Paint stained nuclei on mottled tissue with streaks and empty gaps (inverted: stain is bright)."""
    size = labels.shape[0]
    stroma = smooth_noise(rng, size, rng.uniform(1, 3), _log_stretch(rng))
    ground = rng.uniform(0.06, 0.18) * smooth_noise(rng, size, rng.uniform(3, 14)) + 0.1 * stroma
    holes = np.clip(smooth_noise(rng, size, rng.uniform(6, 25)) - rng.uniform(0.8, 2), 0, 0.3) / 0.3
    nuclei = _profile(rng, depth) * _per_object(rng, labels, rng.uniform(0.1, 0.35))
    nuclei *= 1 + rng.uniform(0.05, 0.3) * smooth_noise(rng, size, rng.uniform(0.8, 3))
    if rng.random() < 0.3:
        nuclei += 0.4 * np.exp(-((depth - 1) ** 2)) * (depth > 0)
    outside = depth == 0
    return outside * (ground - rng.uniform(0.1, 0.7) * holes) + nuclei + 0.3 * ground * ~outside


def _log_stretch(rng: Rng) -> float:
    return float(np.exp(rng.uniform(-1.2, 1.2)))


def _membrane(rng: Rng, labels: LabelImage, depth: FloatImage) -> FloatImage:
    """Paint cells with dark walls and textured cytoplasm with organelles; 1 is dark."""
    size = labels.shape[0]
    near = blur((labels > 0).astype(np.float32), rng.uniform(2, 5)) > 0.12
    outside = labels == 0
    canvas = (outside & near) * (1 + rng.uniform(0, 0.25) * smooth_noise(rng, size, 6)).astype(np.float32)
    canvas += (outside & ~near) * (rng.uniform(0.2, 1.0) + 0.15 * _texture(rng, size)).astype(np.float32)
    cell = _per_object(rng, labels, rng.uniform(0.1, 0.6)) * rng.uniform(0.1, 0.25)
    cell = cell + rng.uniform(0.03, 0.15) * _texture(rng, size)
    spots = smooth_noise(rng, size, rng.uniform(1.5, 6), _log_stretch(rng))
    spots = np.clip(spots - rng.uniform(1.2, 2.2), 0, 0.4) / 0.4 * (depth > 2)
    cell = cell + rng.choice([0.0, rng.uniform(0.2, 0.7)]) * spots
    return canvas + ~outside * cell


def _smooth_regions(rng: Rng, labels: LabelImage, depth: FloatImage) -> FloatImage:
    """Paint smooth regions of different grey, with boundaries that fade out in places."""
    size = labels.shape[0]
    values = rng.choice([-1, 1], labels.max() + 1, p=[0.3, 0.7]) * rng.uniform(0.4, 1.3, labels.max() + 1)
    values[0] = 0
    canvas = blur(values.astype(np.float32)[labels], rng.uniform(0.5, 2))
    if rng.random() < 0.6:
        fade = np.clip(smooth_noise(rng, size, size * rng.uniform(0.06, 0.2)) - rng.uniform(0.2, 1.2), 0, 1)
        canvas += fade * (blur(canvas, rng.uniform(5, 10)) - canvas)
    if rng.random() < 0.3:
        canvas += rng.uniform(0.3, 0.8) * (np.exp(-(((depth - 1) / 1.5) ** 2)) * (depth > 0))
    canvas += rng.uniform(0.05, 0.25) * smooth_noise(rng, size, rng.uniform(6, 40))
    return canvas + rng.uniform(0.03, 0.2) * _texture(rng, size)


PAINTERS: dict[str, Painter] = {
    "fill": _fill,
    "ring": _ring,
    "texture": _textured,
    "phase": _phase,
    "tissue": _tissue,
    "membrane": _membrane,
    "anatomy": _smooth_regions,
}


def _clutter(rng: Rng, size: int, free: Mask) -> FloatImage:
    """Return unlabelled things that do not look like the objects: specks, lines, out-of-focus blobs."""
    canvas = np.zeros((size, size), np.float32)
    if rng.random() < 0.3:
        at = rng.integers(0, size, (2, int(rng.integers(3, 80))))
        canvas[at[0], at[1]] += rng.uniform(0.5, 3, at.shape[1])
    if rng.random() < 0.15:
        for _ in range(int(rng.integers(1, 8))):
            start, heading = rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi)
            path = walk(rng, start, heading, size * rng.uniform(0.1, 1.0), 0.3)
            dense = np.concatenate([path, (path[1:] + path[:-1]) / 2]).astype(int)
            dense = dense[((dense >= 0) & (dense < size)).all(axis=1)]
            canvas[dense[:, 0], dense[:, 1]] += rng.uniform(0.3, 1.2)
    if canvas.any():
        canvas = blur(canvas, rng.uniform(0.4, 0.9)) * free * 2
    if rng.random() < 0.3:
        haze = smooth_noise(rng, size, rng.uniform(12, 30))
        canvas += rng.uniform(0.1, 0.25) * np.clip(haze - rng.uniform(0.5, 1.5), 0, 2)
    return canvas


def _noise(rng: Rng, canvas: FloatImage, limit: float) -> FloatImage:
    """Return the canvas with a mixture of Gaussian, Poisson, speckle and stripe noise."""
    size = canvas.shape[0]
    level = limit * rng.uniform(0, 1) ** 2
    correlation = rng.uniform(0.6, 1.5) if rng.random() < 0.3 else 0.0
    canvas = canvas + level * smooth_noise(rng, size, correlation)
    if rng.random() < 0.35:
        base = canvas - canvas.min() + rng.uniform(0, 0.3)
        canvas = canvas + limit * rng.uniform(0, 0.6) * np.sqrt(base) * smooth_noise(rng, size, 0)
    if rng.random() < 0.1:
        canvas = canvas * (1 + rng.uniform(0.03, 0.5 * limit) * smooth_noise(rng, size, rng.uniform(0, 1.5)))
    if rng.random() < 0.08:
        stripes = rng.normal(0, rng.uniform(0.02, 0.3 * limit), (size, 1)).astype(np.float32)
        canvas = canvas + (stripes if rng.random() < 0.5 else stripes.T)
    return canvas


def _compress(image: FloatImage, coarseness: float) -> FloatImage:
    """Return an image in [0, 1] as blockwise lossy compression leaves it (8 x 8 cosine transform)."""
    size = image.shape[0]
    padded = np.pad(image, (0, -size % 8), mode="edge")
    count = padded.shape[0] // 8
    blocks = padded.reshape(count, 8, count, 8).transpose(0, 2, 1, 3)
    step = coarseness * (1 + np.add.outer(np.arange(8), np.arange(8)).astype(np.float32))
    coded = np.round(fft.dctn(blocks, axes=(2, 3), norm="ortho") / step) * step
    blocks = fft.idctn(coded, axes=(2, 3), norm="ortho")
    return blocks.transpose(0, 2, 1, 3).reshape(padded.shape)[:size, :size]


def _resample(image: FloatImage, factor: float) -> FloatImage:
    """Return the image shrunk by a factor and enlarged again, as a low-resolution detector sees it."""
    size = image.shape[0]
    small = ndi.zoom(image, 1 / factor, order=1, grid_mode=True, mode="nearest")
    return ndi.zoom(small, size / small.shape[0], order=1, grid_mode=True, mode="nearest")


def render(rng: Rng, main: LabelImage, nested: LabelImage, styles: dict[str, float]) -> NDArray[np.uint8]:
    """Return an image of the objects.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    main, nested : ndarray of int32, shape (y, x)
        Labels of the objects, and of objects inside them; 0 is background.
    styles : dict of str to float
        Names of the renderings to choose from (keys of ``PAINTERS``), with their relative weights.

    Returns
    -------
    ndarray of uint8, shape (y, x)
        The image.
    """
    size = main.shape[0]
    weights = np.array(list(styles.values()))
    style = list(styles)[rng.choice(len(weights), p=weights / weights.sum())]
    canvas = PAINTERS[style](rng, main, _depth(main)).astype(np.float32)
    if nested.any():
        soft = blur((nested > 0).astype(np.float32), rng.uniform(0.4, 1))
        sign = -1 if style != "membrane" and rng.random() < 0.4 else 1
        canvas += soft * (sign * rng.uniform(0.4, 0.9) + rng.uniform(0, 0.15) * _texture(rng, size))
    if style != "membrane":
        canvas += _clutter(rng, size, main == 0)
    fine = style in {"texture", "phase"}
    canvas = blur(canvas, rng.uniform(0.3, 0.8 if fine else 1.6))
    flip = rng.random() < (0.9 if style in {"tissue", "membrane"} else 0.25)
    canvas = 1 - canvas if flip else canvas
    if rng.random() < 0.4:
        light = smooth_noise(rng, size, size * rng.uniform(0.25, 0.6))
        canvas = canvas * np.clip(1 + rng.uniform(0, 0.3) * light, 0.4, 2) + rng.uniform(0, 0.1) * light
    limit = 0.15 if fine else 0.35 if style == "membrane" else 0.5
    limit = min(limit, 0.12 + np.sqrt(np.count_nonzero(main) / max(main.max(), 1)) / 60)
    factor = rng.uniform(1.2, 2.2)
    resample, before = rng.random() < 0.12, rng.random() < 0.5
    if resample and not before:
        canvas = _resample(canvas, factor)
    canvas = _noise(rng, canvas, limit)
    if resample and before:
        canvas = _resample(canvas, factor)
    low, high = np.percentile(canvas[::2, ::2], [rng.uniform(0, 1.5), rng.uniform(98.5, 100)])
    if rng.random() < 0.15:
        margin = rng.uniform(0, 1, 2) * (high - low)
        low, high = low - margin[0], high + margin[1]
    gamma = float(np.exp(0.3 * rng.standard_normal()))
    image = np.clip((canvas - low) / max(high - low, 1e-6), 0, 1) ** gamma
    if rng.random() < 0.15:
        image = _compress(image.astype(np.float32), rng.uniform(0.01, 0.05))
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)

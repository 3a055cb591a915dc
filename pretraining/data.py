"""Draw a folder of synthetic scenes, and sample augmented views and prompts from it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from pretraining.scenes import make_scene

SIZE = 256
SMALLEST_OBJECT = 20


@dataclass(frozen=True)
class View:
    """One augmented image with some of its objects and the prompts simulated for them.

    Attributes
    ----------
    image : float32 (y, x), 0 to 255
    masks : bool (n, y, x)
    boxes : float32 (n, 4), jittered, as x0, y0, x1, y1
    clicks : float32 (n, 2), inside the object, as x, y
    """

    image: NDArray[np.float32]
    masks: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    clicks: NDArray[np.float32]


def draw_scenes(folder: Path, count: int, processes: int) -> None:
    """Draw scenes 0 to count - 1 into ``images.npy`` (n, y, x) and ``labels.npy`` (n, 2, y, x)."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (count, SIZE, SIZE))
    labels = np.lib.format.open_memmap(folder / "labels.npy", "w+", np.uint16, (count, 2, SIZE, SIZE))
    with Pool(processes) as pool:
        for index, (image, label) in enumerate(pool.imap(make_scene, range(count), chunksize=16)):
            images[index], labels[index] = image, label
            if index % 500 == 0:
                print(f"{index}/{count} scenes", flush=True)


def views(folder: Path, first: int, last: int, *, size: int, objects: int, rng: np.random.Generator) -> Iterator[View]:
    """Yield random views, size x size pixels, of the scenes first to last - 1, without end."""
    images = np.load(folder / "images.npy", mmap_mode="r")
    labels = np.load(folder / "labels.npy", mmap_mode="r")
    while True:
        index = int(rng.integers(first, last))
        view = make_view(images[index], labels[index], size, objects, rng)
        if view is not None:
            yield view


def make_view(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint16],
    size: int,
    objects: int,
    rng: np.random.Generator,
    augment: bool = True,
) -> View | None:
    """Augment a scene and simulate prompts; returns None if the view holds no object that is large enough."""
    pixels, layers = image.astype(np.float32), np.asarray(labels)
    if augment:
        pixels, layers = _flip(pixels, layers, rng)
        if size < SIZE or rng.random() < 0.4:
            pixels, layers = _zoom(pixels, layers, size, rng)
        pixels = _recolour(pixels, rng)
    found = [
        (layer, number)
        for layer, plane in enumerate(layers)
        for number in np.flatnonzero(np.bincount(plane.ravel()) >= SMALLEST_OBJECT)
        if number
    ]
    if not found:
        return None
    chosen = rng.choice(len(found), objects, replace=len(found) < objects)
    masks = np.stack([layers[found[i][0]] == found[i][1] for i in chosen])
    boxes = np.stack([jittered_box(mask, rng) for mask in masks])
    clicks = np.stack([click_inside(mask, rng, centred=0.7) for mask in masks])
    return View(pixels, masks, boxes, clicks)


def tight_box(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the half-open box of a mask as x0, y0, x1, y1."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def jittered_box(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the box of a mask, each side moved by a normal error of up to 10 % (often 2 %) and 20 pixels."""
    box = tight_box(mask)
    sides = np.tile([box[2] - box[0], box[3] - box[1]], 2)
    error = rng.normal(size=4) * rng.uniform(0, 0.1 if rng.random() < 0.6 else 0.02) * sides
    return (box + np.clip(error, -20, 20)).astype(np.float32)


def click_inside(mask: NDArray[np.bool_], rng: np.random.Generator, centred: float) -> NDArray[np.float32]:
    """Pick a pixel of the mask as x, y: with probability ``centred`` the one farthest from the outline."""
    if rng.random() < centred:
        x0, y0, x1, y1 = tight_box(mask).astype(int)
        depth = ndi.distance_transform_edt(np.pad(mask[y0:y1, x0:x1], 1))[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        return np.array([x + x0, y + y0], np.float32)
    y_all, x_all = np.nonzero(mask)
    pick = int(rng.integers(len(y_all)))
    return np.array([x_all[pick], y_all[pick]], np.float32)


def _flip(
    pixels: NDArray[np.float32], layers: NDArray[np.uint16], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    turns, mirror = int(rng.integers(4)), rng.random() < 0.5
    pixels, layers = np.rot90(pixels, turns), np.rot90(layers, turns, axes=(1, 2))
    return (pixels[:, ::-1], layers[:, :, ::-1]) if mirror else (pixels, layers)


def _zoom(
    pixels: NDArray[np.float32], layers: NDArray[np.uint16], size: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Cut out a square and resize it: enlarged up to three times, or shrunk by up to a quarter."""
    side = min(SIZE, int(size * np.exp(rng.uniform(np.log(0.4), np.log(1.35)))))
    y, x = rng.integers(0, SIZE - side + 1, 2)
    positions = (np.arange(size) + 0.5) * side / size - 0.5
    nearest = np.clip(np.round(positions).astype(int), 0, side - 1)
    low = np.clip(np.floor(positions).astype(int), 0, side - 2)
    share = np.clip(positions - low, 0, 1).astype(np.float32)
    crop = pixels[y : y + side, x : x + side]
    rows = crop[low] * (1 - share[:, None]) + crop[low + 1] * share[:, None]
    scaled = rows[:, low] * (1 - share) + rows[:, low + 1] * share
    return scaled, layers[:, y : y + side, x : x + side][:, nearest][:, :, nearest]


def _recolour(pixels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    unit = np.clip(pixels / 255, 0, 1)
    if rng.random() < 0.15:
        unit = 1 - unit
    if rng.random() < 0.5:
        unit = unit ** np.exp(rng.normal() * 0.3)
    if rng.random() < 0.3:
        unit = unit * rng.uniform(0.5, 1.0) + rng.uniform(0, 0.3)
    if rng.random() < 0.25:
        unit = unit + rng.normal(size=unit.shape) * rng.uniform(0, 0.08)
    return np.clip(unit * 255, 0, 255).astype(np.float32)


def main() -> None:
    """Draw a folder of scenes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=6000)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    draw_scenes(arguments.folder, arguments.count, arguments.processes)


if __name__ == "__main__":
    main()

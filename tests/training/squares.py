"""Planes with square objects, for the tests of snapshots and splits."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora import Preprocessing
from napari_sam_lora.training.data.samples import ObjectRef, Plane, snapshot

Pair = tuple[NDArray[np.uint8], NDArray[np.int64]]
GRID = [(y, x) for y in range(4, 128, 32) for x in range(4, 128, 32)]  # one in each of 4 x 4 regions


def make_pair(seed: int, corners: Iterable[tuple[int, int]], side: int = 8) -> Pair:
    """Make a noise image (128, 128) and square objects, numbered from 1."""
    image = np.random.default_rng(seed).integers(0, 256, (128, 128), np.uint8)
    labels = np.zeros((128, 128), np.int64)
    for number, (y, x) in enumerate(corners, start=1):
        labels[y : y + side, x : x + side] = number
    return image, labels


def make_planes(*pairs: Pair, size: int = 128) -> tuple[Plane, ...]:
    """Snapshot some pairs."""
    return snapshot(pairs, size, 2, Preprocessing())


def names(refs: Iterable[ObjectRef]) -> set[tuple[int, int]]:
    """Return the plane and the label of each object."""
    return {(ref.plane, ref.label) for ref in refs}

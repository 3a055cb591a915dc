"""Planes with two kinds of objects: bright squares and dark discs on grey."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.training.data.samples import TrainingPair

SQUARE, DISC = 4, 9  # ids of the classes
NAMES = {SQUARE: "square", DISC: "disc"}


def two_kinds(seed: int = 0, side: int = 128) -> tuple[NDArray[np.uint8], NDArray[np.int64], dict[int, int]]:
    """Draw one object in each cell of a grid; returns image, labels and the class of each object."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.int64)
    image = np.full((side, side), 110.0)
    y, x = np.mgrid[:side, :side]
    classes: dict[int, int] = {}
    for top in range(0, side, 32):
        for left in range(0, side, 32):
            number = len(classes) + 1
            cy, cx = 16 + top + rng.integers(-3, 4), 16 + left + rng.integers(-3, 4)
            classes[number] = SQUARE if rng.random() < 0.5 else DISC
            is_square = classes[number] == SQUARE
            mask = (np.maximum(abs(y - cy), abs(x - cx)) < 8) if is_square else ((y - cy) ** 2 + (x - cx) ** 2 < 81)
            labels[mask] = number
            image[mask] = 200 if is_square else 30
    noisy = image + rng.normal(0, 6, image.shape)
    return noisy.clip(0, 255).astype(np.uint8), labels, classes


def semantic(labels: NDArray[np.int64], classes: dict[int, int]) -> NDArray[np.int64]:
    """Return the class of each pixel; 0 is background."""
    values = np.zeros(int(labels.max()) + 1, np.int64)
    values[list(classes)] = list(classes.values())
    return values[labels]


def complete_pair(seed: int = 0) -> TrainingPair:
    """Return such a plane, labelled completely, with its classes."""
    image, labels, classes = two_kinds(seed)
    return TrainingPair(image, labels, background=True, classes=classes)

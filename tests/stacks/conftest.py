"""A small model, and a stack of bright discs that move and end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam_lora import Model, load_model


@dataclass(frozen=True, eq=False)
class Discs:
    """A stack and its true labels, (n, y, x) each: disc 1 in all planes, disc 2 in planes 2 to 6."""

    image: NDArray[np.uint8]
    labels: NDArray[np.int64]


def draw_discs(count: int = 9, side: int = 64) -> Discs:
    """Draw disc 1, which moves right by a pixel a plane, and disc 2, which stays."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    labels = np.zeros((count, side, side), np.int64)
    for z in range(count):
        labels[z][(y - 18) ** 2 + (x - 16 - z) ** 2 < 100] = 1
        if 2 <= z <= 6:
            labels[z][(y - 46) ** 2 + (x - 40) ** 2 < 81] = 2
    image = np.where(labels > 0, 190, 40) + rng.integers(-10, 11, labels.shape)
    return Discs(image.astype(np.uint8), labels)


@pytest.fixture(scope="session")
def small() -> Model:
    """Load the bundled model at a small input size."""
    return load_model("sam_nano", device="cpu", input_size=128)


@pytest.fixture(scope="session")
def discs() -> Discs:
    """Draw nine planes."""
    return draw_discs()

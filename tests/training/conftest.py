"""Fixtures of the tests of training."""

from __future__ import annotations

import pytest

from napari_sam_lora import Model, load_model

from .runs import Pair


@pytest.fixture(scope="module")
def small() -> Model:
    """Load the bundled model at an input size that is fast."""
    return load_model("sam_nano", device="cpu", input_size=128)


@pytest.fixture
def quarters(nuclei: Pair) -> list[Pair]:
    """Cut the image of nuclei into four, each with its own objects."""
    image, labels = nuclei
    corners = [(y, x) for y in (0, 128) for x in (0, 128)]
    return [(image[y : y + 128, x : x + 128], labels[y : y + 128, x : x + 128]) for y, x in corners]

"""Pictures of an evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_sam_lora.report import Panel, draw_bars, draw_panels, outlined


def test_outlines_are_coloured_and_the_rest_is_the_image() -> None:
    labels = np.zeros((20, 20), np.int64)
    labels[2:8, 2:8], labels[10:16, 10:16] = 5, 70000
    for image in (np.full((20, 20), 0.5), np.full((20, 20, 3), 51, np.uint8)):
        drawn = outlined(image, labels)
        gray = 0.5 if image.ndim == 2 else 0.2
        assert drawn[4, 4] == pytest.approx(gray)
        assert drawn[0, 0] == pytest.approx(gray)
        first, second = drawn[2, 2], drawn[10, 10]
        assert np.ptp(first) > 0.5
        assert np.ptp(second) > 0.5
        assert (drawn[2, 7] == first).all()
        assert (first != second).any()


def test_an_image_without_labels_is_left_as_it_is_and_not_shared() -> None:
    image = np.full((4, 5), 0.25)
    for labels in (None, np.zeros((4, 5), np.int64)):
        drawn = outlined(image, labels)
        assert (drawn == 0.25).all()
        drawn[:] = 1
    assert (image == 0.25).all()


def test_an_object_that_fills_the_image_is_no_background() -> None:
    assert outlined(np.full((4, 5), 0.25), np.ones((4, 5), np.int64)).shape == (4, 5, 3)


def test_bars_and_panels_are_pictures_and_nothing_else_is_written(tmp_path: Path) -> None:
    draw_bars(
        tmp_path / "bars.png",
        ["a", "b"],
        {"base": [0.2, 0.5], "rank 4": [0.3, 0.9]},
        {"base": [0, 0], "rank 4": [0.1, 0.1]},
    )
    panel = Panel("one", np.full((20, 30, 3), 200, np.uint8), np.eye(20, 30, dtype=int))
    draw_panels(tmp_path / "new" / "panels.png", [[panel, panel], [panel, panel]])
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["bars.png", "panels.png"]
    for path in tmp_path.rglob("*.png"):
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        assert min(pixels.shape[:2]) > 300
        assert pixels.std() > 10

"""The benchmark of the time of Find everything."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.find_time import find_table, mosaic


class _Model:
    """Keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str]] = []
        self.planes: set[bytes] = set()

    def segment_everything(self, plane: Any, method: str) -> None:
        self.asked.append((len(plane), method))
        self.planes.add(plane.tobytes())


def test_every_run_has_a_new_plane_and_clicks_on_large_planes_are_left_out() -> None:
    model: Any = _Model()
    printed = find_table(model, (64, 300), 64, 2)
    first = [(64, "head")]
    assert model.asked == first + [(64, "head")] * 2 + [(64, "clicks")] * 2 + [(300, "head")] * 2
    assert len(model.planes) == 7
    assert "not measured" in printed.splitlines()[-1]
    assert "not measured" not in printed.splitlines()[-2]


def test_mosaics_have_the_size_that_is_asked_for() -> None:
    plane = mosaic(700, np.random.default_rng(0))
    assert plane.shape == (700, 700)
    assert plane.dtype == np.uint8
    assert plane.std() > 5

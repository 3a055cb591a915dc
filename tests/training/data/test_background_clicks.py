"""Clicks on known background."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam_lora import Preprocessing
from napari_sam_lora.training.data.augmentation import TURNS, View, show, turned
from napari_sam_lora.training.data.background_clicks import BackgroundClicks
from napari_sam_lora.training.data.samples import Labelled, Plane, mark_complete, snapshot

from ..squares import GRID, make_pair


def _planes(*pairs: Labelled) -> tuple[Plane, ...]:
    return snapshot(pairs, 128, 2, Preprocessing())


def test_clicks_are_on_known_background_away_from_everything_else() -> None:
    planes = _planes(mark_complete(make_pair(0, GRID)))
    clicks = BackgroundClicks(planes)
    labels = planes[0].labels
    for y, x in clicks.places(0):
        assert not labels[max(0, y - 5) : y + 6, max(0, x - 5) : x + 6].any()
    assert len(clicks.places(0)) > 0.4 * np.count_nonzero(labels == 0)
    assert planes[0].background is not None
    assert np.array_equal(planes[0].background, labels == 0), "what is known stays known"


def test_without_known_background_there_are_no_clicks() -> None:
    clicks = BackgroundClicks(_planes(make_pair(0, GRID)))
    assert clicks.draw(View(0), np.random.default_rng(0)) is None


def test_a_scribble_on_background_is_clicked_and_nothing_else() -> None:
    scribble = np.zeros((128, 128), bool)
    scribble[100, 20:60] = True
    places = BackgroundClicks(_planes((*make_pair(0, GRID[:3]), {}, None, scribble))).places(0)
    assert {(y, x) for y, x in places.tolist()} == {(100, x) for x in range(20, 60)}


def test_a_complete_plane_without_objects_is_clicked_everywhere_and_a_full_one_nowhere() -> None:
    image, labels = make_pair(0, [])
    full = np.ones_like(labels)
    planes = _planes(*map(mark_complete, [(image, labels), (image, full)]))
    clicks = BackgroundClicks(planes)
    assert len(clicks.places(0)) == labels.size
    assert clicks.draw(View(1), np.random.default_rng(0)) is None


@pytest.mark.parametrize("turn", range(TURNS))
def test_clicks_turn_with_their_view(turn: int) -> None:
    image, labels = make_pair(0, [(60, 60)])
    planes = _planes((image[:100], labels[:100], {}, None, np.arange(128)[None] * np.ones((100, 1)) > 90))
    clicks, rng = BackgroundClicks(planes), np.random.default_rng(0)
    expected = turned(planes[0].prepared.pixels, turn)
    background = turned(planes[0].background, turn)  # type: ignore[arg-type]
    assert show(View(0, turn), planes)[0].pixels.shape == expected.shape
    for _ in range(20):
        prompts = clicks.draw(View(0, turn), rng)
        assert prompts is not None
        assert prompts.points is not None
        assert len(prompts) == 2
        for (point,) in prompts.points:
            y, x = point.astype(int)
            assert background[y, x]

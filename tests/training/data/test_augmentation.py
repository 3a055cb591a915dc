"""Training views are what inference sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam_lora import Model, Preprocessing, Prompts
from napari_sam_lora.lora.adapted import predictor_for
from napari_sam_lora.training.data.augmentation import (
    GAMMAS,
    View,
    choose_views,
    show,
    show_prompts,
)
from napari_sam_lora.training.data.samples import Plane, snapshot
from napari_sam_lora.training.prefix_cache import PrefixCache


def _plane(labels: NDArray[Any], pixels: NDArray[np.uint8]) -> Plane:
    return snapshot([(pixels, labels)], max(labels.shape), 2, Preprocessing())[0]


@pytest.fixture(scope="module")
def asymmetric() -> Plane:
    """Make a plane (48, 64) whose red pixels are its labels."""
    labels = np.zeros((48, 64), np.uint8)
    labels[2:12, 5:30] = 60
    labels[20:40, 40:62] = 128
    labels[30:44, 3:9] = 255
    return _plane(labels, np.repeat(labels[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("shape", "preprocessing"),
    [
        ((256, 256), Preprocessing()),
        ((300, 211), Preprocessing(window=(100.0, 30000.0))),
        ((97, 180, 5), Preprocessing(channel=3, percentiles=(1.0, 95.0))),
    ],
)
def test_the_unchanged_view_is_what_inference_encodes(
    nano: Model, shape: tuple[int, ...], preprocessing: Preprocessing
) -> None:
    image = np.random.default_rng(0).integers(0, 2**16, shape, np.uint16)
    labels = np.zeros(shape[:2], np.int64)
    labels[10:40, 10:40] = 1
    sam = nano.loaded.sam
    seen: list[Tensor] = []
    handle = sam.image_encoder.patch_embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        predictor_for(nano.loaded, preprocessing=preprocessing).encode(image)
        planes = snapshot([(image, labels)], 256, 2, preprocessing)
        prepared, _ = show(View(0), planes)
        PrefixCache(sam, 0, 0, half=False).get(View(0), prepared)
    finally:
        handle.remove()
    assert len(seen) == 2
    assert seen[0].shape == (1, 3, 256, 256)
    assert seen[0].std() > 0
    assert torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("turn", range(8))
def test_labels_turn_with_the_pixels(asymmetric: Plane, turn: int) -> None:
    prepared, labels = show(View(0, turn), [asymmetric])
    assert labels.shape == ((48, 64) if turn % 2 == 0 else (64, 48))
    assert np.array_equal(prepared.pixels[..., 0], labels)
    assert prepared.shape == prepared.resized_shape == labels.shape
    assert prepared.input_size == 64


def test_the_eight_turns_are_the_eight_symmetries_of_the_plane(asymmetric: Plane) -> None:
    shown = {show(View(0, turn), [asymmetric])[1].tobytes() for turn in range(8)}
    original = asymmetric.resized_labels
    flips = [original, original[::-1], original[:, ::-1], original[::-1, ::-1]]
    assert shown == {array.tobytes() for flip in flips for array in (flip, flip.T)}
    assert len(shown) == 8


@pytest.mark.parametrize("gamma", [0.7, 1.4])
def test_gamma_changes_the_pixels_alone(asymmetric: Plane, gamma: float) -> None:
    prepared, labels = show(View(0, gamma=gamma), [asymmetric])
    assert np.array_equal(labels, asymmetric.resized_labels)
    for value in (0, 60, 128, 255):
        expected = round(255 * (value / 255) ** gamma)
        assert (prepared.pixels[labels == value] == expected).all()


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (8, 8), (24, 24), (1000, 24)])
def test_views_are_drawn_without_repetition_and_the_plane_itself_is_the_first(count: int, expected: int) -> None:
    views = choose_views(3, count, np.random.default_rng(0))
    assert views[0] == View(3, 0, 1.0)
    assert len(views) == len(set(views)) == expected
    assert all(view.plane == 3 and 0 <= view.turn < 8 and view.gamma in GAMMAS for view in views)


@pytest.mark.parametrize("turn", range(8))
def test_prompts_of_the_user_turn_with_the_pixels(turn: int) -> None:
    labels = np.zeros((24, 32), np.int64)
    labels[4:9, 6:20] = 3
    given = Prompts([[4, 6, 9, 20]], [[[4, 6], [8, 19], [20, 3]]], [[1, 1, 0]], (labels == 3)[None])
    (plane,) = snapshot([(labels.astype(np.uint8), labels, {3: given})], 64, 2, Preprocessing())  # doubled
    view = View(0, turn)
    _, shown = show(view, [plane])
    prompts = show_prompts(view, [plane], 3)
    assert prompts is not None
    assert prompts.boxes is not None
    assert prompts.points is not None
    assert prompts.point_labels is not None
    assert prompts.masks is not None
    rows, columns = np.nonzero(shown == 3)
    assert prompts.boxes[0].tolist() == [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    assert np.array_equal(prompts.masks[0], shown == 3)
    assert prompts.point_labels[0].tolist() == [1, 1, 0]
    inside = [bool(shown[tuple(np.rint(point).astype(int))] == 3) for point in prompts.points[0]]
    assert inside == [True, True, False]


def test_an_object_without_prompts_of_the_user_has_none(asymmetric: Plane) -> None:
    assert show_prompts(View(0), [asymmetric], 60) is None

"""Synthetic scenes for pretraining."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage as ndi

from pretraining.data import SIZE, draw_scenes, make_view, tight_box
from pretraining.scenes import FAMILIES, make_scene

SEEDS = range(12)
Scene = tuple[NDArray[np.uint8], NDArray[np.uint16]]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [make_scene(seed, 128) for seed in SEEDS]


@pytest.mark.parametrize("size", [96, 128, 200])
def test_a_scene_has_the_size_that_was_asked_for(size: int) -> None:
    image, labels = make_scene(3, size)
    assert image.shape == (size, size)
    assert image.dtype == np.uint8
    assert labels.shape == (2, size, size)
    assert labels.dtype == np.uint16


def test_the_same_seed_gives_the_same_scene(scenes: list[Scene]) -> None:
    for seed in (0, 4, 8):
        image, labels = make_scene(seed, 128)
        np.testing.assert_array_equal(image, scenes[seed][0])
        np.testing.assert_array_equal(labels, scenes[seed][1])


def test_drawing_does_not_depend_on_the_global_generator(scenes: list[Scene]) -> None:
    np.random.seed(1)
    np.testing.assert_array_equal(make_scene(5, 128)[0], scenes[5][0])


def test_every_seed_gives_another_scene(scenes: list[Scene]) -> None:
    assert len({image.tobytes() for image, _ in scenes}) == len(scenes)
    assert len({labels.tobytes() for _, labels in scenes}) == len(scenes)


def test_images_have_contrast(scenes: list[Scene]) -> None:
    for image, _ in scenes:
        assert image.std() > 5
        assert len(np.unique(image)) > 20


def test_most_scenes_hold_an_object(scenes: list[Scene]) -> None:
    assert sum(bool(labels[0].any()) for _, labels in scenes) >= 10


def test_the_ids_of_a_layer_run_from_1_without_gaps_and_none_is_a_sliver(scenes: list[Scene]) -> None:
    for _, labels in scenes:
        for layer in labels:
            areas = np.bincount(layer.ravel())[1:]
            assert (areas >= 12).all()


def test_every_object_is_one_connected_part(scenes: list[Scene]) -> None:
    for _, labels in scenes:
        for layer in labels:
            for number in range(1, int(layer.max()) + 1):
                assert ndi.label(layer == number)[1] == 1


def test_nested_objects_lie_inside_one_object(scenes: list[Scene]) -> None:
    seen = 0
    for _, (main, nested) in scenes:
        for number in range(1, int(nested.max()) + 1):
            hosts = np.unique(main[nested == number])
            assert len(hosts) == 1
            assert hosts[0] > 0
            seen += 1
    assert seen > 0


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__.strip("_"))
def test_every_family_of_layouts_draws_objects(family: object) -> None:
    assert callable(family)
    layouts = [family(np.random.default_rng(seed), 128) for seed in range(3)]
    assert any(layout.main.any() for layout in layouts)
    for layout in layouts:
        assert layout.main.shape == layout.nested.shape == (128, 128)
        assert layout.main.min() >= 0
        assert layout.nested.min() >= 0


def test_drawn_scenes_read_back_equal(tmp_path: Path) -> None:
    draw_scenes(tmp_path / "scenes", 3, 1)
    images = np.load(tmp_path / "scenes" / "images.npy")
    labels = np.load(tmp_path / "scenes" / "labels.npy")
    assert images.shape == (3, SIZE, SIZE)
    assert labels.shape == (3, 2, SIZE, SIZE)
    for seed in range(3):
        image, label = make_scene(seed)
        np.testing.assert_array_equal(images[seed], image)
        np.testing.assert_array_equal(labels[seed], label)


def test_prompts_of_a_view_fit_its_masks(scenes: list[Scene]) -> None:
    image, labels = scenes[3]
    view = make_view(image, labels, 128, 5, np.random.default_rng(0), augment=False)
    assert view is not None
    assert view.masks.shape == (5, 128, 128)
    for mask, box, (x, y) in zip(view.masks, view.boxes, view.clicks, strict=True):
        assert mask[int(y), int(x)]
        rows, columns = np.nonzero(mask)
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert tight_box(mask).tolist() == tight
        assert np.abs(box - tight).max() <= 20


def test_a_scene_without_a_large_enough_object_gives_no_view() -> None:
    labels = np.zeros((2, 128, 128), np.uint16)
    labels[0, :3, :3] = 1
    image = np.zeros((128, 128), np.uint8)
    assert make_view(image, labels, 128, 5, np.random.default_rng(0), augment=False) is None

"""Large planes are learned from in crops at the scale at which they are segmented."""

from __future__ import annotations

from functools import partial

import numpy as np

from napari_sam_lora import Model, Prompts, TrainConfig, fine_tune
from napari_sam_lora.images import Preprocessing, to_rgb8
from napari_sam_lora.labels import find_objects
from napari_sam_lora.stacks.tiles import pyramid
from napari_sam_lora.training.data.crops import choose_crops, cut_large
from napari_sam_lora.training.data.samples import snapshot
from napari_sam_lora.training.data.split import list_objects, split_objects


def _plane(places: list[tuple[int, int]], side: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Squares of 20 pixels, numbered from 1."""
    labels = np.zeros((side, side), np.int64)
    for number, (y, x) in enumerate(places, start=1):
        labels[y : y + 20, x : x + 20] = number
    return np.where(labels > 0, 3000, 500).astype(np.uint16), labels


def test_small_planes_stay_as_they_are() -> None:
    image, labels = _plane([(10, 10)], 200)
    ((pair, shown),) = cut_large((image, labels), 128, Preprocessing())
    assert pair[0] is image
    assert pair[1] is labels
    assert shown == Preprocessing()


def test_large_planes_become_crops_that_do_not_overlap_and_hold_whole_objects() -> None:
    rng = np.random.default_rng(0)
    places = [(int(y), int(x)) for y, x in rng.integers(0, 29, (60, 2)) * 30]
    _, labels = _plane(list(dict.fromkeys(places)))
    crops = choose_crops(find_objects(labels), pyramid((900, 900), 128))
    covered = np.zeros(labels.shape, int)
    for tile, objects in crops:
        assert tile.shape == (128, 128)
        covered[tile.slices] += 1
        assert objects
        for found in objects:
            assert np.count_nonzero(labels[tile.slices] == found.label) == found.area
    assert covered.max() == 1
    assert sum(len(objects) for _, objects in crops) > 0.4 * len(np.unique(labels))


def test_prompts_move_with_their_crop_and_intensities_are_those_of_the_plane() -> None:
    image, labels = _plane([(400, 500), (700, 100)])
    image[0, 0] = 60000
    prompts = {1: Prompts(boxes=[[400, 500, 420, 520]], points=[[[410, 510]]])}
    crops = list(cut_large((image, labels, prompts), 128, Preprocessing()))
    assert len(crops) == 2
    (pixels, part, moved, *_), _ = next(crop for crop in crops if (np.asarray(crop[0][1]) == 1).any())  # type: ignore[misc]
    assert np.asarray(pixels).shape == (128, 128)
    y, x = np.argwhere(np.asarray(part) == 1)[0]
    assert moved[1].boxes is not None
    assert moved[1].boxes.tolist() == [[y, x, y + 20, x + 20]]
    assert moved[1].points is not None
    assert moved[1].points[0].tolist() == [[y + 10, x + 10]]
    assert len({to_rgb8(pair[0], shown).max() for pair, shown in crops}) == 1


def test_a_chosen_channel_is_shown_in_its_window_of_the_whole_plane_too() -> None:
    gray, labels = _plane([(400, 500), (700, 100)])
    gray[700:, :200] //= 2
    image = np.stack([*4 * [np.zeros_like(gray)], gray], axis=-1)
    preprocessing = Preprocessing(channel=4)
    planes = snapshot(
        [(image, labels)], 128, 2, preprocessing, cut=partial(cut_large, input_size=128, preprocessing=preprocessing)
    )
    whole = to_rgb8(image, preprocessing)
    assert len(planes) == 2
    for plane in planes:
        assert plane.position is not None
        y, x = plane.position.corner
        assert np.array_equal(plane.prepared.pixels, whole[y : y + 128, x : x + 128])


def test_an_object_larger_than_a_tile_is_learned_from_a_larger_one() -> None:
    image = np.zeros((900, 900), np.uint8)
    labels = np.zeros((900, 900), int)
    labels[200:350, 200:350] = 5
    (((_, part, *_), _),) = cut_large((image, labels), 128, Preprocessing())
    assert np.asarray(part).shape == (512, 512)
    assert np.count_nonzero(part) == 150 * 150


def test_fine_tuning_on_a_large_plane_sees_its_small_objects(nano: Model) -> None:
    rng = np.random.default_rng(0)
    places = [(y, x) for y in range(60, 840, 60) for x in range(60, 840, 60)]
    image, labels = _plane(places)
    image += rng.integers(0, 200, image.shape, np.uint16)
    config = TrainConfig(mode="decoder", steps=1, views=1, objects=2, validation_share=0.2)
    _, report = fine_tune(nano, [(image, labels)], config)
    assert report.base is not None
    assert report.held_out
    assert {score.plane for score in report.base_objects} == {0}, "the number of the pair"
    assert "objects-too-small" not in {warning.code for warning in report.warnings}


def test_what_is_held_out_of_a_large_plane_stays_so_when_labels_are_added() -> None:
    rng = np.random.default_rng(0)
    places = [(y, x) for y in range(40, 860, 40) for x in range(40, 860, 40)]
    image, labels = _plane(places)
    image += rng.integers(0, 200, image.shape, np.uint16)
    few = np.where(rng.random(len(places) + 1)[labels] < 0.2, labels, 0)
    held: list[set[int]] = []
    earlier: tuple[str, ...] = ()
    for part in (few, labels):
        cut = partial(cut_large, input_size=128, preprocessing=Preprocessing())
        planes = snapshot([(image, part)], 128, 2, Preprocessing(), cut=cut)
        split = split_objects(list_objects(planes, earlier), 0.25, earlier, planes)
        earlier = split.held_out
        held.append({ref.label for ref in split.test})
        trained = {ref.label for ref in split.train}
        assert not trained & held[0]
    assert held[0]
    assert held[1]

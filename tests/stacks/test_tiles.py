"""Large planes: tiles cover them, each object comes whole from one tile, and as in a crop."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from error_codes import raises
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam_lora import EverythingConfig, Model, Prompts, TilingConfig
from napari_sam_lora.errors import InputError
from napari_sam_lora.labels import find_objects
from napari_sam_lora.model.automatic import records_to_labels
from napari_sam_lora.model.embeddings import EmbeddingCache
from napari_sam_lora.model.predictor import Predictor
from napari_sam_lora.overlap import mask_iou
from napari_sam_lora.prompts import ObjectPrompts
from napari_sam_lora.stacks.everything import find_everything
from napari_sam_lora.stacks.plane_decoder import ImageDecoder
from napari_sam_lora.stacks.tiles import Tile, level_for, pyramid, starts

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.mark.parametrize(
    ("length", "side", "overlap"), [(4000, 256, 0.5), (1001, 128, 0.25), (300, 256, 0.5), (90, 128, 0.5)]
)
def test_tiles_cover_an_axis_with_the_overlap(length: int, side: int, overlap: float) -> None:
    places = starts(length, side, overlap)
    assert places[0] == 0
    assert places[-1] + side >= length
    assert all(after - before <= side * (1 - overlap) + 1 for before, after in itertools.pairwise(places))


def test_small_planes_are_shown_as_a_whole_and_large_ones_at_several_scales() -> None:
    assert [level.side for level in pyramid((512, 300), 256)] == [512]
    assert [level.side for level in pyramid((4000, 1000), 256)] == [256, 512, 1024, 2048, 4000]
    assert [level.side for level in pyramid((4000, 1000), 256, TilingConfig(tile_size=0))] == [4000]
    (tile,) = pyramid((4000, 1000), 256)[-1].tiles()
    assert tile == Tile(0, 0, 4000, 1000)


@pytest.mark.parametrize("side", [10, 60, 300, 900])
def test_an_object_anywhere_is_whole_in_its_tile_with_something_around_it(side: int) -> None:
    rng = np.random.default_rng(0)
    levels = pyramid((3000, 2000), 256)
    for _ in range(50):
        y, x = (float(rng.uniform(0, length - side)) for length in (3000, 2000))
        box = (y, x, y + side, x + side)
        level = levels[level_for(levels, box)]
        tile = level.around(box)
        assert not tile.cuts(box, (3000, 2000))
        assert tile.y0 <= y <= tile.y1 - side
        assert tile.x0 <= x <= tile.x1 - side
        assert side <= level.side / 3 or level.is_whole


@pytest.mark.parametrize("wrong", [{"tile_size": 5}, {"tile_overlap": 0.9}, {"tile_above": 0.5}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with raises(InputError, f"{next(iter(wrong))}-out-of-range"):
        TilingConfig(**wrong)  # type: ignore[arg-type]


def large(nuclei: Pair, y: int = 700, x: int = 350) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Place the nuclei somewhere in a dark plane of 1200 x 1000 pixels."""
    image = np.full((1200, 1000), int(np.median(nuclei[0])), np.uint8)
    labels = np.zeros(image.shape, np.int64)
    image[y : y + 256, x : x + 256], labels[y : y + 256, x : x + 256] = nuclei
    return image, labels


def test_small_cells_in_a_large_plane_are_segmented_as_in_a_crop(nano: Model, nuclei: Pair) -> None:
    image, labels = large(nuclei)
    objects = [one for one in find_objects(labels, 100) if not _at_edge(one.box)]
    masks = nano.segment_large(image, Prompts(boxes=[one.box for one in objects]))
    inside = [np.subtract(one.box, (700, 350, 700, 350)) for one in objects]
    crop = nano.segment(nano.encode(nuclei[0]), Prompts(boxes=inside))
    tiled, cropped, shrunk = [], [], []
    whole = nano.segment(nano.encode(image), Prompts(boxes=[one.box for one in objects]))
    for row, one in enumerate(objects):
        mask = masks[row].region().to_mask((1200, 1000))
        tiled.append(mask_iou(mask, labels == one.label))
        cropped.append(mask_iou(crop.masks[row], nuclei[1] == one.label))
        shrunk.append(mask_iou(whole.masks[row], labels == one.label))
    assert np.mean(tiled) > np.mean(cropped) - 0.05
    assert np.mean(tiled) > np.mean(shrunk)


def test_an_object_larger_than_a_tile_is_one_mask_as_if_untiled(nano: Model) -> None:
    image = np.full((1200, 1200), 30, np.uint8)
    y, x = np.mgrid[:1200, :1200]
    disc = (y - 560) ** 2 + (x - 610) ** 2 < 300**2
    image[disc] = 200
    boxes = [[260, 310, 861, 911]]
    (tile_mask,) = nano.segment_large(image, Prompts(boxes=boxes))
    untiled = nano.segment(nano.encode(image), Prompts(boxes=boxes)).masks[0]
    assert mask_iou(tile_mask.region().to_mask(image.shape), untiled) > 0.95


def test_only_tiles_with_prompts_are_encoded_and_the_cache_is_bounded(nano: Model, nuclei: Pair) -> None:
    cache = EmbeddingCache(budget=3 * nano.encode(nuclei[0]).tensor.nbytes)
    predictor = replace(nano.predictor, cache=cache)
    decoder = ImageDecoder(predictor, large(nuclei)[0])
    rows = ObjectPrompts.from_prompts(Prompts(boxes=[[710, 360, 740, 390], [712, 362, 738, 388]]))
    list(decoder.decode(rows))
    assert len(cache) <= 2
    spread = [[y, x, y + 20, x + 20] for y in range(0, 1100, 150) for x in range(0, 900, 300)]
    list(decoder.decode(ObjectPrompts.from_prompts(Prompts(boxes=spread))))
    assert len(cache) <= 3


def test_everything_in_a_large_plane_has_no_seams(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a model that finds all that is bright in what it is shown, each object is found once and whole."""
    image, y, x = np.full((900, 700), 40, np.uint8), *np.mgrid[:900, :700]
    places = [
        (30, 36, 9),
        (128, 128, 12),
        (96, 260, 12),
        (190, 60, 40),
        (330, 400, 120),
        (640, 330, 170),
        (880, 690, 15),
    ]
    discs = [(y - cy) ** 2 + (x - cx) ** 2 < radius**2 for cy, cx, radius in places]
    for disc in discs:
        image[disc] = 190
    shown: list[tuple[int, ...]] = []

    def find(predictor: Predictor, part: NDArray[Any], config: EverythingConfig, progress: Any) -> list[dict[str, Any]]:
        shown.append(part.shape)
        progress(1, 1)
        components, count = ndi.label(part > 100)
        masks = [components == number for number in range(1, count + 1)]
        return [{"segmentation": mask, "predicted_iou": 0.9, "area": int(mask.sum())} for mask in masks]

    monkeypatch.setattr("napari_sam_lora.stacks.everything.everything", find)
    seen: list[tuple[int, int]] = []
    found = small.segment_everything(image, method="clicks", progress=lambda *at: seen.append(at))
    assert found.max() == len(discs)
    for disc in discs:
        (label,) = np.unique(found[disc])
        assert label
        assert np.array_equal(found == label, disc)
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    # Empty tiles are passed over.
    assert 10 < shown.count((128, 128)) < 60


def test_a_plane_that_is_not_tiled_is_searched_as_before(nano: Model, nuclei: Pair) -> None:
    config = EverythingConfig(points_per_side=8)
    labels = nano.segment_everything(nuclei[0], config, smallest=30)
    records = nano.segment_everything_records(nuclei[0], config)
    assert np.array_equal(labels, records_to_labels(records, (256, 256), 30))
    found = find_everything(nano.predictor, nuclei[0], config)
    assert [one.score for one in found] == [record["predicted_iou"] for record in records]


def _at_edge(box: tuple[int, int, int, int]) -> bool:
    return box[0] <= 700 or box[1] <= 350 or box[2] >= 956 or box[3] >= 606

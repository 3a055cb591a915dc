"""Prompts in large planes: only tiles around them are encoded."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam_lora import Model
from napari_sam_lora.labels import click_at_centre, find_objects
from napari_sam_lora.overlap import mask_iou
from napari_sam_lora.session import ArraySource, ArrayStore, MaskOptions, PlaneKey, Session
from napari_sam_lora.session.plane_key import Box
from napari_sam_lora.stacks.tiles import pyramid

from ..helpers import SOON

PLANE = PlaneKey.of("large", 2)
SHAPE = (900, 800)
CORNER = (500, 300)


@pytest.fixture
def large(small: Model, nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> Iterator[Session]:
    """Open a large plane with the nuclei somewhere in it."""
    image = np.full(SHAPE, int(np.median(nuclei[0])), np.uint8)
    image[500:756, 300:556] = nuclei[0]
    made = Session(small)
    made.add_image("large", ArraySource(image))
    made.labels.add("cells", ArrayStore(np.zeros(SHAPE, np.int32)))
    yield made
    assert made.close(SOON)


def test_each_kind_of_prompt_gives_the_mask_in_its_place(
    large: Session, nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    found = max(find_objects(nuclei[1]), key=lambda one: one.area)
    truth = np.zeros(SHAPE, np.bool_)
    truth[500:756, 300:556] = nuclei[1] == found.label
    y, x = click_at_centre(truth)
    box = np.add(found.box, (*CORNER, *CORNER))
    for kind, data in (
        ("box", box),
        ("mask", truth),
        ("lasso", [[box[0], box[1]], [box[0], box[3]], box[2:], [box[2], box[1]]]),
    ):
        large.prompts.add(PLANE, kind, data)  # type: ignore[arg-type]
        large.prompts.add(PLANE, "point", [y, x])
        large.prompts.add(PLANE, "point", [3, 3], positive=False)
        preview = large.prompts.preview(PLANE).result(SOON)
        (mask,) = preview.masks
        assert len(mask.candidates) == 3
        assert mask_iou(mask.region.to_mask(SHAPE), truth) > 0.6, kind
        large.prompts.clear(PLANE)


def test_a_large_plane_is_not_encoded_before_a_prompt_and_then_only_in_part(large: Session) -> None:
    assert large.models.model is not None
    cache = large.models.model.predictor.cache
    cache.clear()
    large.prompts.embed([PLANE])
    large.prompts.add(PLANE, "box", [520, 320, 545, 350])
    large.prompts.preview(PLANE).result(SOON)
    assert 1 <= len(cache) <= 2


def test_an_object_larger_than_a_tile_is_whole(large: Session) -> None:
    y, x = np.mgrid[:900, :800]
    disc = (y - 450) ** 2 + (x - 400) ** 2 < 260**2
    large.add_image("large", ArraySource(np.where(disc, 200, 40).astype(np.uint8)))
    large.prompts.add(PLANE, "box", [190, 140, 711, 661])
    preview = large.prompts.preview(PLANE).result(SOON)
    assert mask_iou(preview.masks[0].region.to_mask(SHAPE), disc) > 0.8


def test_without_a_positive_prompt_there_is_no_mask(large: Session) -> None:
    large.prompts.add(PLANE, "point", [30, 30], positive=False)
    assert len(large.prompts.preview(PLANE).result(SOON)) == 0


def test_only_tiles_are_read_and_each_is_hashed_once(large: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, ...]] = []
    hashed: list[int] = []

    class Counting(ArraySource):
        def read(self, plane: PlaneKey, box: Box | None = None) -> NDArray[Any]:
            pixels = super().read(plane, box)
            read.append(pixels.shape)
            return pixels

    class Hash:
        def __init__(self, digest_size: int) -> None:
            hashed.append(digest_size)
            self._hash = blake2b(digest_size=digest_size)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._hash, name)

    monkeypatch.setattr("napari_sam_lora.images.hashlib.blake2b", Hash)
    large.add_image("large", Counting(large.images["large"].data))  # type: ignore[attr-defined]
    large.prompts.add(PLANE, "box", [520, 320, 545, 350])
    for _ in range(3):
        large.prompts.preview(PLANE).result(SOON)
    assert read[0] == SHAPE, "once, for the intensity window that all tiles share"
    assert set(read[1:]) == {(128, 128)}
    assert len(hashed) == len(read) - 1


def test_options_apply_in_a_tile_as_in_a_whole_plane(large: Session) -> None:
    """The tile is cut out of the plane as an image of its own, with the same intensity window."""
    image = large.images["large"].read(PLANE)
    window = (float(image.min()), float(image.max()))
    box = (550, 350, 580, 385)
    shown = pyramid(SHAPE, 128)[0].around(box)
    large.add_image("tile", ArraySource(image[shown.slices]))
    tile = PlaneKey.of("tile", 2)
    for options in (
        MaskOptions(window=window),
        MaskOptions(candidate=2, window=window),
        MaskOptions(threshold=1.5, window=window),
        MaskOptions(threshold=-4.0, fill_holes=True, smallest=20, window=window),
    ):
        found = []
        for plane, (y, x) in ((PLANE, (0, 0)), (tile, (shown.y0, shown.x0))):
            large.prompts.clear(plane)
            large.prompts.add(plane, "box", np.subtract(box, (y, x, y, x)))
            (mask,) = large.prompts.preview(plane, options).result(SOON).masks
            found.append((mask.region.moved(y, x), mask.score, [one.area for one in mask.candidates]))
        (here, score, areas), (there, *other) = found
        assert here.box == there.box
        assert np.array_equal(here.crop, there.crop)
        assert [score, areas] == other

"""Dense maps of planes of any size, and the objects in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora import Model
from napari_sam_lora.errors import InputError
from napari_sam_lora.model.dense.dense_model import DenseModel
from napari_sam_lora.model.dense.head import new_dense_head
from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.stacks.dense import dense_maps, find_instances, refined

from .conftest import Discs


@pytest.fixture(scope="module")
def headed(small: Model) -> Model:
    """The small model with a head of random weights."""
    return Model(replace(small.loaded, dense=DenseModel(new_dense_head(small.loaded.sam))))


def _texture(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("shape", [(128, 128), (50, 70), (90, 128), (128, 200), (60, 300), (260, 150), (1, 3)])
def test_maps_have_the_shape_of_the_plane_and_are_probabilities(headed: Model, shape: tuple[int, int]) -> None:
    maps = dense_maps(headed.predictor, _texture(shape))
    assert maps.shape == (2, *shape)
    assert maps.dtype == np.float32
    assert maps.min() >= 0
    assert maps.max() <= 1


def test_a_small_plane_is_mapped_as_a_whole(headed: Model) -> None:
    image = _texture((128, 128))
    maps = headed.maps(image)
    assert headed.predictor.dense is not None
    sam = headed.loaded.sam
    shown = sam.preprocess(
        torch.from_numpy(np.repeat(headed.encode(image).prepared.pixels[None, ..., :1], 3, -1)).permute(0, 3, 1, 2)
    )
    with torch.no_grad():
        expected = headed.predictor.dense.head(headed.encode(image).tensor, shown)[0].sigmoid()
    np.testing.assert_allclose(maps, expected.numpy(), atol=1e-5)


def test_tiles_leave_no_seams(headed: Model) -> None:
    """A plane that repeats itself with the step of the tiles looks the same to all of them."""
    image = np.tile(_texture((96, 96)), (4, 4))
    maps = dense_maps(headed.predictor, image)
    inner = maps[:, 96:-96, 96:-96]
    jumps = np.abs(np.diff(inner, axis=1)).mean((0, 2))
    # No row between two pixels has more of a jump than the same row of the next period.
    np.testing.assert_allclose(jumps[:95], jumps[96:191], rtol=0.2)


def test_progress_counts_the_tiles(headed: Model) -> None:
    seen: list[tuple[int, int]] = []
    dense_maps(headed.predictor, _texture((200, 300)), lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]


def test_without_a_head_there_are_no_maps(small: Model) -> None:
    model = Model(replace(small.loaded, dense=None))
    with raises(InputError, "no-dense-head"):
        model.maps(_texture((64, 64)))
    with raises(InputError, "no-dense-head"):
        model.segment_everything(_texture((64, 64)), method="head")
    with raises(InputError, "unknown-method"):
        model.segment_everything(_texture((64, 64)), method="magic")  # type: ignore[arg-type]


def test_the_head_is_used_where_there_is_one(headed: Model, discs: Discs, monkeypatch: pytest.MonkeyPatch) -> None:
    image, labels = discs.image[4], discs.labels[4]
    maps = np.stack([labels > 0, labels > 0]).astype(np.float32)
    monkeypatch.setattr("napari_sam_lora.stacks.dense.dense_maps", lambda *_: maps)
    found = headed.segment_everything(image)
    assert np.array_equal(found > 0, labels > 0)
    assert headed.segment_everything(image, smallest=10**6).max() == 0
    assert headed.segment_everything(image, instances=InstanceConfig(sensitivity=0.001, smallest=0)).max() == 2
    assert not np.array_equal(headed.segment_everything(image, method="clicks"), found)


def test_maps_that_are_there_are_taken(headed: Model, discs: Discs) -> None:
    maps = np.stack([discs.labels[4] > 0] * 2).astype(np.float32)
    found = find_instances(headed.predictor, discs.image[4], maps, refine=False)
    assert found.max() == 2


def test_refining_prompts_with_boxes_and_deepest_pixels(small: Model, discs: Discs) -> None:
    wanted = discs.labels[4].astype(np.int32)
    box = np.zeros_like(wanted)
    for label in (1, 2):
        rows, columns = np.nonzero(wanted == label)
        box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = label
    found = refined(small.predictor, discs.image[4], box)
    agreement = [
        np.count_nonzero((found == label) & (wanted == label)) / np.count_nonzero((found == label) | (wanted == label))
        for label in (1, 2)
    ]
    assert min(agreement) > 0.8  # of a disc in its box it is 0.79
    assert refined(small.predictor, discs.image[4], box, smallest=10**6).max() == 0
    assert refined(small.predictor, discs.image[4], np.zeros_like(box)).max() == 0

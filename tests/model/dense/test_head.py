"""The dense head: which models it fits, what it reads, and its file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from error_codes import raises
from numpy.typing import NDArray
from segment_anything.modeling import Sam

from napari_sam_lora import Model
from napari_sam_lora.errors import CheckpointError, InputError
from napari_sam_lora.model.dense.dense_model import DenseModel, read_dense_model, write_dense_model
from napari_sam_lora.model.dense.head import DenseHead, DenseHeadConfig, load_dense_head, new_dense_head
from napari_sam_lora.model.dense.instances import maps_to_labels
from napari_sam_lora.model.families.mobile import build_mobile_sam
from napari_sam_lora.model.input_size import at_input_size
from napari_sam_lora.parameters.instances import InstanceConfig

from ..conftest import Twins


@torch.no_grad()
def _maps(sam: Sam, head: DenseHead) -> torch.Tensor:
    pixels = torch.randn(1, 3, sam.image_encoder.img_size, sam.image_encoder.img_size)
    return head(sam.image_encoder(pixels), pixels)


def test_maps_of_sam_nano_have_the_resolution_of_its_input(nano: Model) -> None:
    sam = nano.loaded.sam
    assert _maps(sam, new_dense_head(sam)).shape == (1, 2, 256, 256)
    assert _maps(at_input_size(sam, 128), new_dense_head(sam)).shape == (1, 2, 128, 128)


def test_maps_of_larger_models_have_half_of_it(vit_b: Twins, tiny_sam: Sam) -> None:
    assert _maps(vit_b.fused, new_dense_head(vit_b.fused)).shape == (1, 2, 128, 128)
    assert _maps(tiny_sam, new_dense_head(tiny_sam)).shape == (1, 2, 64, 64)
    mobile = at_input_size(build_mobile_sam().eval(), 256)
    assert _maps(mobile, new_dense_head(mobile)).shape == (1, 2, 128, 128)


def test_classes_are_channels_behind_the_maps(tiny_sam: Sam) -> None:
    assert _maps(tiny_sam, new_dense_head(tiny_sam, classes=3)).shape == (1, 5, 64, 64)


def test_a_head_is_small_and_the_same_for_the_same_seed(nano: Model, vit_b: Twins) -> None:
    for sam in (nano.loaded.sam, vit_b.fused):
        tensors = DenseModel(new_dense_head(sam, seed=1)).tensors()
        assert sum(2 * value.numel() for value in tensors.values()) < 2 * 10**6
        again, other = (DenseModel(new_dense_head(sam, seed=seed)).tensors() for seed in (1, 2))
        assert all(torch.equal(again[name], value) for name, value in tensors.items())
        assert not all(torch.equal(other[name], value) for name, value in tensors.items())


def test_the_head_reads_tokens_detail_and_pixels(nano: Model) -> None:
    head = new_dense_head(nano.loaded.sam)
    embedding = torch.randn(1, 256, 8, 8, requires_grad=True)
    pixels = torch.randn(1, 3, 64, 64, requires_grad=True)
    head(embedding, pixels).square().sum().backward()
    assert embedding.grad is not None
    assert pixels.grad is not None
    assert embedding.grad[:, :128].abs().amax() > 0
    assert embedding.grad[:, 128:].abs().amax() > 0
    assert pixels.grad.abs().amax() > 0


def test_a_map_far_from_a_change_stays_as_it_is(tiny_sam: Sam) -> None:
    """Nothing is normalised over the plane, so that tiles agree where they overlap."""
    head = new_dense_head(tiny_sam)
    embedding, pixels = torch.randn(1, 32, 16, 16), torch.randn(1, 3, 256, 256)
    changed = pixels.clone()
    changed[..., :16] += 5
    with torch.no_grad():
        before, after = head(embedding, pixels), head(embedding, changed)
    assert not torch.equal(before[..., :8], after[..., :8])
    assert torch.equal(before[..., 100:], after[..., 100:])


@pytest.mark.parametrize(
    "values",
    [
        {"tokens": 0},
        {"tokens": 128, "detail": 5},
        {"tokens": 128, "reduction": 3},
        {"tokens": 128, "classes": -1},
        {"tokens": 1.5},
        {"tokens": 128, "unknown": 1},
        {},
    ],
)
def test_a_description_that_makes_no_sense_is_refused(values: dict[str, int]) -> None:
    with raises(CheckpointError, "bad-dense-head"):
        DenseHeadConfig.from_dict(values)


def test_tensors_that_do_not_fit_or_are_not_finite_are_refused(tiny_sam: Sam) -> None:
    head = new_dense_head(tiny_sam)
    state = head.state_dict()
    with raises(CheckpointError, "bad-dense-head"):
        load_dense_head(replace(head.config, tokens=16), state)
    name = next(iter(state))
    with raises(CheckpointError, "not-finite", match=name):
        load_dense_head(head.config, state | {name: torch.full_like(state[name], torch.nan)})


def test_a_saved_head_comes_back(tiny_sam: Sam, tmp_path: Path) -> None:
    model = DenseModel(new_dense_head(tiny_sam), InstanceConfig(separation=0.3, smallest=7), refine=True)
    path = tmp_path / "head.safetensors"
    write_dense_model(model, path)
    again = read_dense_model(path)
    assert again.describe() == model.describe()
    assert all(torch.equal(again.tensors()[name], value) for name, value in model.tensors().items())
    with raises(CheckpointError, "wrong-hash"):
        read_dense_model(path, "xxh128:" + "0" * 32)
    path.write_bytes(path.read_bytes()[:-10])
    with raises(CheckpointError, "bad-dense-head"):
        read_dense_model(path)


@pytest.mark.parametrize(
    "change",
    [
        {"head": None},
        {"instances": {"separation": 2}},
        {"instances": {"separation": "much"}},
        {"instances": {"unknown": 1}},
        {"refine": 1},
    ],
)
def test_a_damaged_description_is_refused(tiny_sam: Sam, change: dict[str, object]) -> None:
    model = DenseModel(new_dense_head(tiny_sam))
    with raises(CheckpointError, "bad-dense-head"):
        DenseModel.from_parts(model.describe() | change, model.tensors())


def _two_discs(gap: float) -> NDArray[np.float32]:
    """Maps of two discs of radius 10 whose centres lie 20 + gap apart."""
    y, x = np.mgrid[:64, :64]
    depth = np.maximum(
        10 - np.hypot(y - 32, x - 22 + gap / 2),
        10 - np.hypot(y - 32, x - 42 - gap / 2),
    )
    return np.stack([depth > 0, np.clip(depth / 10, 0, 1)]).astype(np.float32)


def test_touching_objects_are_cut_apart_where_the_distance_says_so() -> None:
    labels = maps_to_labels(_two_discs(-2))
    assert labels.dtype == np.int32
    assert labels.max() == 2
    assert set(labels[32, [22, 42]].tolist()) == {1, 2}
    assert maps_to_labels(_two_discs(-2), InstanceConfig(separation=0.05)).max() == 1


def test_sensitivity_and_smallest_decide_what_is_an_object() -> None:
    maps = _two_discs(4)
    maps[0] *= 0.6
    assert maps_to_labels(maps).max() == 2
    assert maps_to_labels(maps, InstanceConfig(sensitivity=0.3)).max() == 0
    assert maps_to_labels(maps, InstanceConfig(smallest=1000)).max() == 0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_empty_and_full_planes_are_no_problem(value: float) -> None:
    labels = maps_to_labels(np.full((2, 30, 40), value, np.float32))
    assert labels.shape == (30, 40)
    assert set(np.unique(labels)) == {int(value)}


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"sensitivity": 0.0}, "sensitivity-out-of-range"),
        ({"separation": 1.0}, "separation-out-of-range"),
        ({"separation": float("nan")}, "separation-out-of-range"),
        ({"smallest": -1}, "smallest-out-of-range"),
        ({"smoothing": -1.0}, "smoothing-out-of-range"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(values: dict[str, float], code: str) -> None:
    with raises(InputError, code):
        InstanceConfig(**values)  # type: ignore[arg-type]


def test_many_objects_are_told_apart() -> None:
    labels = maps_to_labels(np.tile(_two_discs(2), (1, 8, 8)))
    assert labels.max() == 128


@pytest.mark.parametrize(("dip", "count"), [(0.15, 1), (0.25, 2)])
@pytest.mark.parametrize("height", [0.5, 0.9])
def test_the_dip_between_two_peaks_decides_whatever_their_height(dip: float, count: int, height: float) -> None:
    """Two plateaus of the same height with a valley between them; a separation of 0.8 asks for a dip of 0.2."""
    maps = np.zeros((2, 40, 80), np.float32)
    maps[0, 4:36, 4:76] = 1
    maps[1, 4:36, 4:76] = height
    maps[1, :, 36:44] = np.minimum(maps[1, :, 36:44], height - dip)
    labels = maps_to_labels(maps, InstanceConfig(smoothing=0.0))
    assert labels.max() == count
    assert maps_to_labels(maps, InstanceConfig(smoothing=0.0, separation=0.95)).max() == 2
    assert np.array_equal(labels > 0, maps[0] > 0)


def test_joined_basins_keep_the_higher_peak() -> None:
    """Of three peaks, the middle one is joined to the left one; together they are as high as the left one."""
    profile = np.interp(np.arange(90), [0, 15, 30, 45, 60, 75, 89], [0.3, 1.0, 0.5, 0.6, 0.3, 0.55, 0.3])
    maps = np.ones((2, 20, 90), np.float32)
    maps[1] = profile
    labels = maps_to_labels(maps, InstanceConfig(smoothing=0.0))
    assert labels.max() == 2
    assert labels[10, 15] == labels[10, 45] != labels[10, 75]


def test_weak_peaks_are_no_objects_unless_sensitivity_is_high() -> None:
    maps = _two_discs(4)
    maps[1, :, 32:] *= 0.4
    assert maps_to_labels(maps).max() == 1
    assert maps_to_labels(maps, InstanceConfig(sensitivity=0.6)).max() == 2

"""micro-sam's decoder: its keys, its maps against equations and torch-em, and the objects that are cut out of them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from error_codes import raises
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.segmentation import watershed
from torch import Tensor
from unetr_states import random_state

from napari_sam_lora.errors import CheckpointError, InputError
from napari_sam_lora.model.dense.dense_model import DenseModel
from napari_sam_lora.model.dense.instances import maps_to_labels
from napari_sam_lora.model.dense.published_decoders import DEFAULT_RECIPE, RECIPES, published_head
from napari_sam_lora.model.dense.unetr_decoder import OUTPUTS, UnetrConfig, UnetrDecoder, load_unetr_decoder
from napari_sam_lora.model.registry import MODELS
from napari_sam_lora.parameters.instances import InstanceConfig

TRANSPOSED = pytest.mark.parametrize("transposed", [False, True], ids=["interpolated", "transposed"])


def _reference(state: dict[str, Tensor], x: Tensor, transposed: bool) -> Tensor:
    """The published logits, from the equations in ``torch_em/model/unetr.py`` and ``unet.py``, by names of keys."""

    def enlarge(key: str, x: Tensor) -> Tensor:
        if transposed:
            return functional.conv_transpose2d(x, state[f"{key}.block.weight"], state[f"{key}.block.bias"], stride=2)
        x = functional.interpolate(x, scale_factor=2, mode="bilinear")
        return functional.conv2d(x, state[f"{key}.conv.weight"], state[f"{key}.conv.bias"])

    def step(key: str, x: Tensor) -> Tensor:
        x = enlarge(f"{key}.block.0", x)
        x = functional.conv2d(x, state[f"{key}.block.1.block.weight"], state[f"{key}.block.1.block.bias"], padding=1)
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, unbiased=False)
        gain, bias = (state[f"{key}.block.2.{name}"][:, None, None] for name in ("weight", "bias"))
        return ((x - mean) / (variance + 1e-5).sqrt() * gain + bias).relu()

    def block(key: str, x: Tensor) -> Tensor:
        for number in (1, 4):
            mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, unbiased=False)
            x = (x - mean) / (variance + 1e-5).sqrt()
            weight, bias = state[f"{key}.block.{number}.weight"], state[f"{key}.block.{number}.bias"]
            x = functional.conv2d(x, weight, bias, padding=1).relu()
        return x

    z9 = step("deconv1", x)
    z6 = step("deconv2", z9)
    z3 = step("deconv3", z6)
    z0 = step("deconv4", z3)
    x = block("base", x)
    for number, beside in enumerate((z9, z6, z3)):
        x = enlarge(f"decoder.samplers.{number}", x)
        middle = slice(beside.shape[1] // 4, beside.shape[1] - beside.shape[1] // 4)  # it is cropped to the shape of x
        x = block(f"decoder.blocks.{number}", torch.cat([x, beside[:, middle]], 1))
    x = block("decoder_head", torch.cat([enlarge("deconv_out", x), z0], 1))
    return functional.conv2d(x, state["out_conv.weight"], state["out_conv.bias"])


@TRANSPOSED
def test_keys_and_shapes_are_those_of_the_published_files(transposed: bool) -> None:
    state = random_state(256, 64, transposed)
    found = UnetrDecoder(UnetrConfig(is_transposed=transposed)).state_dict()
    assert {name: value.shape for name, value in found.items()} == {name: value.shape for name, value in state.items()}
    megabytes = sum(value.numel() * value.element_size() for value in state.values()) / 1e6
    assert MODELS["vit_b_lm"].decoder is not None
    assert megabytes == pytest.approx(MODELS["vit_b_lm"].decoder.megabytes, rel=0.12)


@TRANSPOSED
def test_maps_are_those_of_the_equations(transposed: bool) -> None:
    state = random_state(transposed=transposed)
    decoder = load_unetr_decoder(state)
    assert not any(module.training for module in decoder.modules())
    assert not any(parameter.requires_grad for parameter in decoder.parameters())
    embedding = torch.randn(2, 256, 5, 7)
    with torch.no_grad():
        found = decoder.published_logits(embedding)
        torch.testing.assert_close(found, _reference(state, embedding, transposed), atol=1e-4, rtol=1e-4)
        maps = decoder(embedding, torch.randn(2, 3, 80, 112)).sigmoid()
    assert maps.shape == (2, len(OUTPUTS), 80, 112)
    foreground, centre, boundary = found.sigmoid().unbind(1)
    torch.testing.assert_close(maps, torch.stack([foreground, 1 - boundary, 1 - centre], 1))


# torch-em brings some 13 packages for this one comparison, so it is no development dependency; the tests above
# check the same equations everywhere. With `pip install torch-em` the two comparisons run.
@TRANSPOSED
def test_maps_are_those_of_torch_em(transposed: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """As ``micro_sam.instance_segmentation.DecoderAdapter`` runs it: its own blocks, never put in evaluation mode."""
    unetr = pytest.importorskip("torch_em.model.unetr", reason="torch-em is not installed")
    encoder = torch.nn.Module()
    encoder.neck = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Identity(), torch.nn.Conv2d(256, 256, 1))
    encoder.in_chans = 3  # type: ignore[assignment]
    theirs = unetr.UNETR(
        encoder=encoder, out_channels=3, use_sam_stats=True, use_skip_connection=False, use_conv_transpose=transposed
    )
    state = random_state(256, 64, transposed)
    left = theirs.load_state_dict(state, strict=False)
    assert not left.unexpected_keys
    assert all(name.startswith("encoder.") for name in left.missing_keys)
    embedding = torch.randn(1, 256, 6, 6)
    with torch.no_grad():
        z9 = theirs.deconv1(embedding)
        z6 = theirs.deconv2(z9)
        z3 = theirs.deconv3(z6)
        x = theirs.decoder(theirs.base(embedding), encoder_inputs=[z9, z6, z3])
        expected = theirs.out_conv(theirs.decoder_head(torch.cat([theirs.deconv_out(x), theirs.deconv4(z3)], 1)))
        found = load_unetr_decoder(state).published_logits(embedding)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_another_state_is_refused() -> None:
    state = random_state()
    for name in ("out_conv.bias", "deconv4.block.1.block.weight", "base.block.1.weight", "deconv1.block.2.running_var"):
        with raises(CheckpointError, "bad-decoder", match=name):
            load_unetr_decoder({key: value for key, value in state.items() if key != name})
    for changed in (
        {"encoder.pos_embed": torch.zeros(1)},
        {"out_conv.weight": torch.zeros(2, 4, 1, 1), "out_conv.bias": torch.zeros(2)},
        {"base.block.1.weight": torch.zeros(())},
        {"base.block.1.weight": torch.empty(8, 10**9, 1, 1, device="meta")},
    ):
        with raises(CheckpointError, "bad-decoder"):
            load_unetr_decoder(state | changed)
    with raises(CheckpointError, "not-finite", match=r"out_conv\.bias"):
        load_unetr_decoder(state | {"out_conv.bias": torch.full((3,), torch.nan)})
    with raises(CheckpointError, "bad-decoder"):
        load_unetr_decoder({})


def test_a_published_decoder_is_no_head_to_train_or_store() -> None:
    model = published_head(random_state())
    assert model.trainable is None
    with raises(CheckpointError, "published-decoder"):
        model.describe()


def test_every_decoder_has_a_recipe_of_its_own() -> None:
    assert set(RECIPES) == {name for name, info in MODELS.items() if info.decoder is not None}
    assert published_head(random_state(), "vit_b_lm").instances == RECIPES["vit_b_lm"]
    assert published_head(random_state(), "mine.pt").instances == DEFAULT_RECIPE
    # micro_sam/_model_settings.py: centre distances below 0.4, boundary distances below 0.5
    assert RECIPES["vit_b_lm"] == InstanceConfig(
        separation=0.5, smallest=100, smoothing=2.0, centre_separation=0.6, foreground_smoothing=1.0
    )


def _cells(side: int = 128, count: int = 14) -> NDArray[np.float32]:
    """Maps of discs, some of which touch, with noise."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:side, :side]
    maps = np.zeros((3, side, side))
    for _ in range(count):
        cy, cx, radius = *rng.uniform(8, side - 8, 2), rng.uniform(6, 14)
        near = np.clip(1 - np.hypot(y - cy, x - cx) / radius, 0, 1)
        maps = np.maximum(maps, np.stack([near > 0, near, near**0.7]))
    return np.clip(maps * 0.9 + rng.normal(0, 0.05, maps.shape), 0, 1).astype(np.float32)


def _published_recipe(
    foreground: NDArray[Any], centre: NDArray[Any], boundary: NDArray[Any], below: tuple[float, float], sigma: float
) -> NDArray[Any]:
    """micro-sam's steps in its own terms, without its size filter."""
    inside = ndi.gaussian_filter(foreground, 1.0) > 0.5
    centre, boundary = ndi.gaussian_filter(centre, sigma), ndi.gaussian_filter(boundary, sigma)
    seeds = ndi.label((centre < below[0]) & (boundary < below[1]) & inside, np.ones((3, 3)))[0]
    return np.asarray(watershed(boundary, seeds, mask=inside))


@pytest.mark.parametrize(("name", "below", "sigma"), [("vit_b_lm", (0.4, 0.5), 2.0), ("vit_l_lm", (0.4, 0.4), 1.6)])
def test_objects_are_those_of_the_published_recipe(name: str, below: tuple[float, float], sigma: float) -> None:
    maps = _cells()
    found = maps_to_labels(maps, RECIPES[name])
    expected = _published_recipe(maps[0], 1 - maps[2], 1 - maps[1], below, sigma)
    areas = np.bincount(expected.ravel())
    expected[areas[expected] < 100] = 0
    assert found.max() == len(np.unique(expected)) - 1 >= 5
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == found.max() + 1  # one to one
    assert np.array_equal(found > 0, expected > 0)


# See above: only where torch-em is installed.
def test_objects_are_those_of_torch_em() -> None:
    """Its Gaussians end elsewhere than scipy's, which may move an outline by a pixel."""
    theirs = pytest.importorskip("torch_em.util.segmentation", reason="torch-em is not installed")
    filters = sys.modules["bioimage_cpp"].filters
    maps = _cells()
    expected = theirs.watershed_from_center_and_boundary_distances(
        center_distances=np.ascontiguousarray(1 - maps[2]),
        boundary_distances=np.ascontiguousarray(1 - maps[1]),
        foreground_map=filters.gaussian_smoothing(np.ascontiguousarray(maps[0]), sigma=1.0),
        min_size=100,
    )
    found = maps_to_labels(maps, DEFAULT_RECIPE)
    assert found.max() == len(np.unique(expected)) - 1
    for label in range(1, found.max() + 1):
        other = np.bincount(expected[found == label]).argmax()
        both = np.count_nonzero((found == label) & (expected == other))
        assert both / np.count_nonzero((found == label) | (expected == other)) > 0.97


def test_an_object_with_two_deep_points_and_one_centre_is_one() -> None:
    """A dumb-bell: by distance to the outline alone it would be cut at its waist."""
    y, x = np.mgrid[:64, :96]
    deep = np.maximum(12 - np.hypot(y - 32, x - 34), 12 - np.hypot(y - 32, x - 62)).clip(0) / 12
    deep = np.maximum(deep, 0.35 * ((abs(y - 32) < 4) & (abs(x - 48) < 14)))
    centre = np.clip(1 - np.hypot(y - 32, x - 48) / 40, 0, 1)
    maps = np.stack([deep > 0, deep, centre]).astype(np.float32)
    by_distance = InstanceConfig(separation=0.5)
    assert maps_to_labels(maps, by_distance).max() == 2
    with_centre = InstanceConfig(separation=0.2, centre_separation=0.6, smoothing=1.6)
    assert maps_to_labels(maps, with_centre).max() == 1


def test_maps_without_centres_and_parameters_that_need_them_are_told_apart() -> None:
    with raises(InputError, "no-centre-map"):
        maps_to_labels(_cells()[:2], DEFAULT_RECIPE)
    for values, code in (
        ({"centre_separation": 1.0}, "centre_separation-out-of-range"),
        ({"foreground_smoothing": -1.0}, "foreground_smoothing-out-of-range"),
    ):
        with raises(InputError, code):
            InstanceConfig(**values)  # type: ignore[arg-type]
    assert InstanceConfig.from_dict(DEFAULT_RECIPE.as_dict()) == DEFAULT_RECIPE


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_empty_and_full_planes_are_no_problem(value: float) -> None:
    labels = maps_to_labels(np.full((3, 30, 40), value, np.float32), DEFAULT_RECIPE)
    assert set(np.unique(labels)) == {int(value)}


def test_a_narrow_decoder_is_recognised_by_its_state() -> None:
    config = UnetrConfig.of_state(random_state(32, 2, True))
    assert config == UnetrConfig(32, 2, True)
    assert isinstance(published_head(random_state(32, 2)), DenseModel)

"""Low-rank layers against y = W x + b + (alpha / r) B A x in numpy."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_sam_lora.lora.layers import LoRAConv2d, LoRALinear, LoRAQKV, LowRank

WIDTH = 6
SUBSETS = [subset for size in (1, 2, 3) for subset in combinations("qkv", size)]


def _array(value: Tensor) -> NDArray[np.float64]:
    return value.detach().double().numpy()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, WIDTH)


def test_the_addition_of_a_low_rank_map_is_alpha_over_r_times_b_a_x(x: Tensor) -> None:
    layer = LowRank(WIDTH, 5, rank=2, alpha=3.0)
    nn.init.normal_(layer.b)
    assert layer.a.shape == (2, WIDTH)
    assert layer.b.shape == (5, 2)
    expected = 3 / 2 * _array(x) @ _array(layer.a).T @ _array(layer.b).T
    np.testing.assert_allclose(_array(layer(x)), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(_array(layer.delta()), 1.5 * _array(layer.b) @ _array(layer.a), rtol=1e-5, atol=1e-6)


def test_a_linear_layer_gains_the_addition(x: Tensor) -> None:
    base = nn.Linear(WIDTH, 4)
    layer = LoRALinear(base, rank=3, alpha=1.5)
    nn.init.normal_(layer.lora.b)
    weight = _array(base.weight) + 0.5 * _array(layer.lora.b) @ _array(layer.lora.a)
    expected = _array(x) @ weight.T + _array(base.bias)
    np.testing.assert_allclose(_array(layer(x)), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(_array(layer.merged_weight()), weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (1, 1)])
def test_a_convolution_gains_filters_of_low_rank(size: int, stride: int) -> None:
    base = nn.Conv2d(WIDTH, 4, size, stride, padding=size // 2)
    layer = LoRAConv2d(base, rank=2, alpha=3.0)
    image = torch.randn(2, WIDTH, 9, 8)
    torch.testing.assert_close(layer(image), base(image), rtol=0, atol=0)
    nn.init.normal_(layer.lora.b)
    weight = base.weight + (1.5 * layer.lora.b @ layer.lora.a).view(4, WIDTH, size, size)
    expected = nn.functional.conv2d(image, weight, base.bias, stride, size // 2)
    assert (layer(image) - base(image)).abs().max() > 0.1
    torch.testing.assert_close(layer(image), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.merged_weight(), weight)


@pytest.mark.parametrize("targets", SUBSETS, ids="".join)
def test_only_the_chosen_parts_of_a_fused_projection_change(x: Tensor, targets: tuple[str, ...]) -> None:
    base = nn.Linear(WIDTH, 3 * WIDTH)
    layer = LoRAQKV(base, rank=2, alpha=1.0, targets=targets)
    assert sorted(layer.lora) == sorted(targets)
    weight = _array(base.weight)
    for index, part in enumerate("qkv"):
        if part in targets:
            low_rank = layer.get_submodule(f"lora.{part}")
            assert isinstance(low_rank, LowRank)
            nn.init.normal_(low_rank.b)
            weight[index * WIDTH : (index + 1) * WIDTH] += 0.5 * _array(low_rank.b) @ _array(low_rank.a)
    expected = _array(x) @ weight.T + _array(base.bias)
    np.testing.assert_allclose(_array(layer(x)), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(_array(layer.merged_weight()), weight, rtol=1e-5, atol=1e-6)


def test_new_layers_add_exactly_nothing(x: Tensor) -> None:
    linear, fused = nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 3 * WIDTH)
    assert LowRank(WIDTH, 4, 2, 1.0).a.abs().min() > 0
    assert torch.equal(LowRank(WIDTH, 4, 2, 1.0)(x), torch.zeros(2, 3, 4))
    assert torch.equal(LoRALinear(linear, 2, 1.0)(x), linear(x))
    assert torch.equal(LoRAQKV(fused, 2, 1.0, ("q", "k", "v"))(x), fused(x))
    assert torch.equal(LoRALinear(linear, 2, 1.0).merged_weight(), linear.weight)
    assert torch.equal(LoRAQKV(fused, 2, 1.0).merged_weight(), fused.weight)


def test_dropout_acts_on_the_addition_in_training_only(x: Tensor) -> None:
    layer = LoRALinear(nn.Linear(WIDTH, 4), rank=2, alpha=1.0, dropout=0.999999)
    nn.init.normal_(layer.lora.b)
    assert torch.equal(layer.train()(x), layer.base_layer(x))
    assert not torch.equal(layer.eval()(x), layer.base_layer(x))


@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_below_one_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match="rank"):
        LowRank(WIDTH, WIDTH, rank, 1.0)


@pytest.mark.parametrize("targets", [(), ("q", "x"), ("mlp",)])
def test_unknown_parts_of_a_fused_projection_are_refused(targets: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="Targets"):
        LoRAQKV(nn.Linear(WIDTH, 3 * WIDTH), 2, 1.0, targets)


@pytest.mark.parametrize(("rank", "alpha"), [(4, 1.0), (8, 2.0), (3, 6.0)])
def test_the_scale_is_a_true_quotient_also_where_alpha_is_less_than_the_rank(
    x: Tensor, rank: int, alpha: float
) -> None:
    layer = LowRank(WIDTH, 4, rank, alpha)
    nn.init.normal_(layer.b)
    expected = alpha / rank * _array(x) @ _array(layer.a).T @ _array(layer.b).T
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(_array(layer(x)), expected, rtol=1e-5, atol=1e-6)

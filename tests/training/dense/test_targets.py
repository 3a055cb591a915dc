"""Test targets of the dense head: maps, known pixels, and no gradient from anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi

from napari_sam_lora.training.dense.loss import DenseLoss
from napari_sam_lora.training.dense.targets import MARGIN, RING, dense_targets, distance_map, known_pixels


def _squares() -> NDArray[np.int64]:
    labels = np.zeros((40, 60), np.int64)
    labels[5:16, 5:16] = 3
    labels[5:16, 16:27] = 7  # touches the first
    labels[30:, 40:] = 9  # reaches the corner
    return labels


def test_the_distance_is_one_in_the_middle_and_small_at_outlines() -> None:
    distance = distance_map(_squares())
    assert distance.dtype == np.float32
    assert distance[10, 10] == distance[10, 21] == 1
    assert distance[10, 15] == distance[10, 16] == pytest.approx(1 / 6)  # where they touch
    assert distance[5, 10] == pytest.approx(1 / 6)
    assert distance[20, 20] == 0


def test_the_edge_of_the_plane_is_no_outline() -> None:
    distance = distance_map(_squares())
    assert distance[39, 59] == distance.max() == 1
    assert distance[30, 59] == pytest.approx(1 / 10, abs=0.02)


def test_full_and_empty_planes_have_targets() -> None:
    assert not dense_targets(np.zeros((8, 9), np.int64)).any()
    full = dense_targets(np.ones((8, 9), np.int64))
    assert (full[0] == 1).all()
    assert np.isfinite(full).all()


def test_only_objects_and_a_thin_ring_are_known_at_first() -> None:
    labels = _squares()
    known = known_pixels(labels, [9])
    far = ndi.distance_transform_edt(labels != 9)
    other = ndi.distance_transform_edt((labels != 3) & (labels != 7)) <= MARGIN
    assert np.array_equal(known, (far <= RING) & ~other)


def test_background_that_the_user_vouches_for_is_known() -> None:
    labels = _squares()
    scribble = np.zeros(labels.shape, bool)
    scribble[20:24, :] = True
    known = known_pixels(labels, [3, 7, 9], scribble)
    assert known[20:24].all()
    assert not known[19, 30]
    assert known_pixels(labels, [3, 7, 9], background=True).all()


def test_clicks_outside_an_object_are_background() -> None:
    known = known_pixels(_squares(), [3], outside=np.array([[23, 50], [10, 20], [99, 99]]))
    assert known[22:25, 49:52].all()
    assert not known[10, 20]  # the click lies on another object


def test_objects_that_are_not_learned_from_are_unknown_with_a_margin() -> None:
    labels = _squares()
    known = known_pixels(labels, [3, 9], background=True)
    near = ndi.distance_transform_edt(labels != 7) <= MARGIN
    inside = np.isin(labels, [3, 9])
    assert np.array_equal(known, ~near | inside)


def _case(seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "logits": torch.randn(2, 2, 8, 8, generator=generator, requires_grad=True),
        "target": torch.rand(2, 2, 8, 8, generator=generator),
        "known": (torch.rand(2, 1, 8, 8, generator=generator) > 0.5).float(),
    }


def test_unknown_pixels_have_no_gradient_and_known_ones_have_one() -> None:
    case = _case()
    DenseLoss()(**case).backward()
    gradient = case["logits"].grad
    unknown = (case["known"] == 0).expand_as(gradient)
    assert (gradient[unknown] == 0).all()
    assert (gradient[~unknown] != 0).all()


def test_what_is_unknown_changes_nothing() -> None:
    case = _case()
    before = DenseLoss()(**case)
    hidden = case["known"] == 0
    moved = case | {
        "logits": torch.where(hidden, 9.0, case["logits"]),
        "target": torch.where(hidden, 0.3, case["target"]),
    }
    torch.testing.assert_close(DenseLoss()(**moved), before)


def test_the_loss_is_least_at_the_target_and_nothing_known_gives_zero() -> None:
    case = _case()
    right = {"logits": torch.logit(case["target"], 1e-4), "target": case["target"], "known": case["known"]}
    best = DenseLoss()(**right)
    for shift in (-0.5, 0.5):
        assert DenseLoss()(**right | {"logits": right["logits"] + shift}) > best
    nothing = DenseLoss()(**case | {"known": torch.zeros_like(case["known"])})
    nothing.backward()
    assert nothing == 0
    assert (case["logits"].grad == 0).all()


def test_classes_behind_the_maps_are_not_looked_at() -> None:
    case = _case()
    more = case | {"logits": torch.cat([case["logits"], torch.randn(2, 3, 8, 8)], 1)}
    torch.testing.assert_close(DenseLoss()(**more), DenseLoss()(**case))

"""Losses against the same sums in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_sam_lora.overlap import mask_iou
from napari_sam_lora.training.losses import MaskLoss

WEIGHTS = {True: (0.3, 1.0), False: (1.0, 0.3)}


def _mask_loss(logits: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Dice loss and cross-entropy of one mask."""
    p = 1 / (1 + np.exp(-logits))
    dice = 1 - 2 * (p * target).sum() / (p.sum() + target.sum())
    entropy = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    return float(dice + entropy)


def _iou(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    return float((found & wanted).sum() / max(1, (found | wanted).sum()))


@pytest.mark.parametrize("ambiguous", [True, False])
def test_the_loss_of_objects_is_the_weighted_sum_of_its_parts(ambiguous: bool) -> None:
    rng = np.random.default_rng(0)
    logits, predicted = rng.normal(size=(2, 4, 3, 5)), rng.random((2, 4))
    target = (rng.random((2, 1, 3, 5)) > 0.5).astype(float)
    single_weight, candidate_weight = WEIGHTS[ambiguous]
    expected = 0.0
    for n in range(2):
        masks = [_mask_loss(logits[n, m], target[n, 0]) for m in range(4)]
        errors = [(predicted[n, m] - _iou(logits[n, m] > 0, target[n, 0] > 0)) ** 2 for m in range(4)]
        expected += single_weight * masks[0] + candidate_weight * min(masks[1:]) + float(np.mean(errors))
    tensors = [torch.from_numpy(value).float() for value in (logits, predicted, target)]
    got = MaskLoss()(tensors[0], tensors[1], tensors[2], ambiguous)
    assert got.item() == pytest.approx(expected, rel=1e-4)


def test_only_the_single_mask_and_the_best_candidate_are_corrected() -> None:
    target = torch.zeros(1, 1, 4, 4)
    target[..., :2, :] = 1
    logits = torch.zeros(1, 4, 4, 4)
    logits[0, 2] = torch.where(target[0, 0] > 0, 2.0, -2.0)
    logits.requires_grad_()
    MaskLoss()(logits, torch.zeros(1, 4), target, True).backward()
    assert logits.grad is not None
    assert [bool(part.any()) for part in logits.grad[0]] == [True, False, True, False]


def test_a_perfect_prediction_costs_next_to_nothing_and_the_opposite_much() -> None:
    target = torch.zeros(1, 1, 8, 8)
    target[..., 2:6, 2:6] = 1
    sure = (40 * target - 20).expand(1, 4, 8, 8)
    assert MaskLoss()(sure, torch.ones(1, 4), target, False).item() == pytest.approx(0, abs=1e-4)
    assert MaskLoss()(-sure, torch.ones(1, 4), target, False).item() > 20


def test_the_error_of_the_predicted_iou_trains_the_prediction_alone() -> None:
    logits = torch.randn(1, 4, 4, 4)
    target = (torch.rand(1, 1, 4, 4) > 0.5).float()
    predicted = torch.rand(1, 4, requires_grad=True)
    MaskLoss()(logits, predicted, target, False).backward()
    assert predicted.grad is not None
    expected = 2 * (predicted - mask_iou(logits > 0, target > 0.5)) / 4
    torch.testing.assert_close(predicted.grad, expected.detach())

"""Training objective of sam_nano: masks, their outlines, and the predicted IoU that selects a candidate."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from napari_sam_lora.overlap import mask_iou

_OUTLINE = 5  # side of the square structuring element of the band along an outline, in mask pixels
_TEMPERATURE = 0.05  # of the soft choice among candidates, in IoU


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return Dice + BCE + 5 focal + 0.2 class-balanced BCE + 0.5 BCE along the outline of each mask.

    Parameters
    ----------
    logits : Tensor
        (n, m, h, w).
    target : Tensor
        0 or 1, (n, 1, h, w).

    Returns
    -------
    Tensor
        (n, m).
    """
    probability = logits.sigmoid()
    bce = functional.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
    focal = (1 - torch.exp(-bce)) ** 2 * bce
    inside = target.sum((2, 3))
    dice = 1 - (2 * (probability * target).sum((2, 3)) + 1) / (probability.sum((2, 3)) + inside + 1)
    outside = target[0, 0].numel() - inside
    bce_inside, bce_all = (bce * target).sum((2, 3)), bce.sum((2, 3))
    balanced = 0.5 * (bce_inside / (inside + 1) + (bce_all - bce_inside) / (outside + 1))
    band = outline_band(target)
    along = (bce * band).sum((2, 3)) / (band.sum((2, 3)) + 1)
    return dice + bce.mean((2, 3)) + 5 * focal.mean((2, 3)) + 0.2 * balanced + 0.5 * along


def outline_band(target: Tensor) -> Tensor:
    """Return 1 within two pixels of the outline of masks (n, 1, h, w), else 0."""
    wide = functional.max_pool2d(target, _OUTLINE, stride=1, padding=_OUTLINE // 2)
    narrow = -functional.max_pool2d(-target, _OUTLINE, stride=1, padding=_OUTLINE // 2)
    return wide - narrow


def true_iou(logits: Tensor, target: Tensor) -> Tensor:
    """Return the IoU (n, m) of thresholded masks (n, m, h, w) with the target (n, 1, h, w)."""
    return mask_iou(logits > 0, target > 0.5)


def round_loss(logits: Tensor, iou: Tensor, target: Tensor, ambiguous: bool) -> Tensor:
    """Return the loss of one prompting round.

    For a lone click the candidates weigh more: mostly the best of them, partly the one that the model would choose,
    and the IoU lost by that choice. For other prompts the single mask weighs more.

    Parameters
    ----------
    logits : Tensor
        (n, 4, h, w): the single mask first.
    iou : Tensor
        Predicted IoU (n, 4).
    target : Tensor
        0 or 1, (n, 1, h, w).
    """
    losses, reached = mask_loss(logits, target), true_iou(logits, target)
    best = losses[:, 1:].min(1).values.mean()
    error = functional.mse_loss(iou, reached)
    if not ambiguous:
        return losses[:, 0].mean() + 0.3 * best + error
    choice = (iou[:, 1:] / _TEMPERATURE).softmax(1)
    lost = (reached[:, 1:].amax(1) - (choice * reached[:, 1:]).sum(1)).mean()
    chosen = losses[:, 1:].gather(1, iou[:, 1:].argmax(1, keepdim=True)).mean()
    return 0.3 * losses[:, 0].mean() + 0.6 * best + 0.4 * chosen + error + lost


def best_candidate(logits: Tensor, iou: Tensor) -> Tensor:
    """Return the candidate (n, 1, h, w) with the highest predicted IoU."""
    return logits[torch.arange(len(logits)), 1 + iou[:, 1:].argmax(1)][:, None]

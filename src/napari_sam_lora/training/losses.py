"""Losses of prompted masks and of their predicted IoU."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as functional
from monai.losses import DiceLoss
from numpy.typing import NDArray
from torch import Tensor

from napari_sam_lora.overlap import mask_iou

# Weights of (single mask, best candidate): candidates matter for a single click, the single mask otherwise.
_WEIGHTS = {True: (0.3, 1.0), False: (1.0, 0.3)}


class MaskLoss:
    """Dice and binary cross-entropy of the masks, plus the squared error of the predicted IoU.

    Only the best of SAM's three candidates gets a gradient (arXiv 2304.02643, section 3), so that the candidates stay
    different interpretations of a click.
    """

    def __init__(self) -> None:
        self._dice = DiceLoss(sigmoid=True, reduction="none")

    def __call__(self, logits: Tensor, predicted_iou: Tensor, target: Tensor, ambiguous: bool) -> Tensor:
        """Sum the losses of n objects.

        Parameters
        ----------
        logits : Tensor
            (n, 4, h, w): the single mask, then the candidates.
        predicted_iou : Tensor
            (n, 4).
        target : Tensor
            float (n, 1, h, w) of 0 and 1.
        ambiguous : bool
            The prompts are single points.
        """
        count, masks = logits.shape[:2]
        expanded = target.expand_as(logits).flatten(0, 1)[:, None]
        flat = logits.flatten(0, 1)[:, None]
        entropy = functional.binary_cross_entropy_with_logits(flat, expanded, reduction="none").mean((1, 2, 3))
        losses = (self._dice(flat, expanded).flatten() + entropy).view(count, masks)
        single, candidates = losses[:, 0], losses[:, 1:].min(1).values
        weight_single, weight_candidates = _WEIGHTS[ambiguous]
        error = functional.mse_loss(predicted_iou, mask_iou(logits > 0, target > 0.5), reduction="none").mean(1)
        return (weight_single * single + weight_candidates * candidates + error).sum()


def background_loss(predicted_iou: Tensor) -> Tensor:
    """Sum the squared errors of the predicted IoU (n, 4) of clicks on background, where no mask is right.

    So the score rejects clicks of a grid that hit no object, as in CellSeg1 (github.com/Nuisal/cellseg1).
    """
    return predicted_iou.square().mean(1).sum()


def mask_targets(masks: NDArray[np.bool_], size: int, stride: int) -> Tensor:
    """Reduce masks (n, h, w) to the resolution of the decoder's output, float (n, 1, m, m) of 0 and 1.

    Parameters
    ----------
    size : int
        Side of the square model input.
    stride : int
        Input pixels per pixel of the output.
    """
    drawn = torch.from_numpy(np.ascontiguousarray(masks)).float()[:, None]
    padded = functional.pad(drawn, (0, size - masks.shape[2], 0, size - masks.shape[1]))
    return (functional.avg_pool2d(padded, stride) >= 0.5).float()

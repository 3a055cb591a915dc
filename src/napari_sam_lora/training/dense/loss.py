"""The losses of the dense head over the pixels that are known."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from monai.losses import DiceLoss
from torch import Tensor

from napari_sam_lora.model.dense.head import OUTPUTS


class DenseLoss:
    """Binary cross-entropy + Dice of foreground and distance maps; unknown pixels have no gradient.

    Dice has squared denominators (V-Net, arXiv 1606.04797): its minimum is at the target for soft targets too.
    """

    def __init__(self) -> None:
        self._dice = DiceLoss(squared_pred=True, smooth_nr=1.0, smooth_dr=1.0, reduction="none")

    def __call__(self, logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
        """Return the mean loss of some views.

        Parameters
        ----------
        logits : Tensor
            (b, 2 or more, h, w); further channels than those of `OUTPUTS` are not used, see `class_loss`.
        target : Tensor
            (b, 2, h, w), from 0 to 1.
        known : Tensor
            (b, 1, h, w): 1 where the target is known, otherwise 0.

        Returns
        -------
        Tensor
            A number; 0 without gradients if nothing is known.
        """
        logits = logits[:, : len(OUTPUTS)]
        entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        entropy = (entropy * known).sum((2, 3)) / known.sum((2, 3)).clamp(min=1)
        overlap = self._dice(logits.sigmoid() * known, target * known).flatten(1)
        seen = (known.flatten(1).sum(1) > 0).to(logits).unsqueeze(1)
        return ((entropy + overlap) * seen).sum() / (seen.sum() * len(OUTPUTS)).clamp(min=1)


def class_loss(logits: Tensor, numbers: Tensor) -> Tensor:
    """Return the cross-entropy of classes, in which all classes that occur in the views weigh the same.

    Parameters
    ----------
    logits : Tensor
        (b, classes, h, w).
    numbers : Tensor
        (b, h, w): number of the class of a pixel, counted from 1; 0 where it is not known or background, which have
        no gradient.

    Returns
    -------
    Tensor
        A number; 0 if there is no class.
    """
    classes = numbers.round().long() - 1
    areas = torch.bincount(classes[classes >= 0], minlength=logits.shape[1])
    entropy = functional.cross_entropy(
        logits, classes, 1 / areas.clamp(min=1).to(logits), ignore_index=-1, reduction="sum"
    )
    return entropy / (areas > 0).sum().clamp(min=1)

"""The loss of the dense head over the pixels that are known."""

from __future__ import annotations

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
            (b, 2 or more, h, w); further channels than those of `OUTPUTS` are not used.
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

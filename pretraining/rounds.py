"""Simulated rounds of prompts: a click or a box, then corrective clicks on the errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from scipy import ndimage as ndi
from segment_anything.modeling import Sam
from torch import Tensor

from pretraining.data import View, click_inside
from pretraining.objective import best_candidate, round_loss, true_iou

MASK_STRIDE = 2  # input pixels per pixel of the low-resolution mask
# Probabilities of 0, 1, 2, … corrections before the round that has gradients: after a first click, and after a box.
_AFTER_CLICK = (0.45, 0.15, 0.12, 0.10, 0.10, 0.08)
_AFTER_BOX = (0.70, 0.15, 0.10, 0.05)
_MASK_ALONE = 0.12  # share of uncorrected boxes that are replaced by their mask as the only prompt
_RANDOM_CLICKS = 0.25  # share of corrective clicks anywhere in the wrong region, not in its middle
_CORRECTIONS = 3  # corrective clicks in validation


@dataclass
class Prompted:
    """Objects with the same kinds of prompts; clicks and an earlier mask are added round by round.

    Attributes
    ----------
    owner : int64 (n,)
        Index of the image of each object.
    target : (n, 1, h, w)
        0 or 1, at the resolution of the low-resolution mask.
    points, labels : (n, k, 2) and (n, k), or None
        x, y in pixels of the model input; 1 positive, 0 negative.
    boxes : (n, 4), or None
    previous : (n, 1, h, w), or None
        Logits.
    """

    owner: Tensor
    target: Tensor
    points: Tensor | None = None
    labels: Tensor | None = None
    boxes: Tensor | None = None
    previous: Tensor | None = None

    @property
    def lone_click(self) -> bool:
        """Return whether the only prompt of each object is its first click."""
        return self.points is not None and self.points.shape[1] == 1 and self.boxes is None

    def correct(self, logits: Tensor, rng: np.random.Generator | None) -> None:
        """Add the masks (n, 1, h, w) and a corrective click on each to the prompts."""
        points, labels = corrective_clicks(logits, self.target, rng)
        self.points = points if self.points is None else torch.cat([self.points, points], 1)
        self.labels = labels if self.labels is None else torch.cat([self.labels, labels], 1)
        self.previous = logits


def decode(sam: Sam, embeddings: Tensor, prompted: Prompted) -> tuple[Tensor, Tensor]:
    """Decode the prompts of objects of several images in one pass.

    Parameters
    ----------
    embeddings : Tensor
        (b, c, h, w).
    prompted : Prompted

    Returns
    -------
    logits : Tensor
        (n, 4, 4 h, 4 w): the single mask first, then the three candidates.
    iou : Tensor
        Predicted IoU (n, 4).
    """
    clicks = None
    if prompted.points is not None and prompted.labels is not None:
        clicks = (prompted.points, prompted.labels)
    sparse, dense = sam.prompt_encoder(points=clicks, boxes=prompted.boxes, masks=prompted.previous)
    logits, iou = sam.mask_decoder.predict_masks(
        image_embeddings=embeddings[prompted.owner],
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
    )
    return logits.float(), iou.float()


def shown(logits: Tensor, iou: Tensor, prompted: Prompted) -> Tensor:
    """Return the mask (n, 1, h, w) that a user would see: the best candidate of a lone click, else the single mask."""
    return best_candidate(logits, iou) if prompted.lone_click else logits[:, :1]


def corrective_clicks(logits: Tensor, target: Tensor, rng: np.random.Generator | None) -> tuple[Tensor, Tensor]:
    """Click the middle of the largest wrong region of each mask, or, with a generator, sometimes another part of it.

    Parameters
    ----------
    logits, target : Tensor
        (n, 1, h, w) at mask resolution.
    rng : Generator, optional

    Returns
    -------
    points : Tensor
        (n, 1, 2) as x, y in pixels of the model input.
    labels : Tensor
        (n, 1): 1 where the pixel is missing in the mask, 0 where it does not belong to the object.
    """
    found, truth = (logits[:, 0] > 0).numpy(), (target[:, 0] > 0.5).numpy()
    points = np.stack([_click(wrong, true_mask, rng) for wrong, true_mask in zip(found != truth, truth, strict=True)])
    pixels = points.astype(int)
    labels = truth[np.arange(len(pixels)), pixels[:, 1], pixels[:, 0]].astype(np.float32)
    in_input = torch.from_numpy(points * MASK_STRIDE + (MASK_STRIDE - 1) / 2)
    return in_input[:, None], torch.from_numpy(labels)[:, None]


def _click(wrong: NDArray[np.bool_], truth: NDArray[np.bool_], rng: np.random.Generator | None) -> NDArray[np.float32]:
    regions, count = ndi.label(wrong)
    region = regions == 1 + np.bincount(regions.ravel())[1:].argmax() if count else truth
    if not region.any():  # the object is thinner than a mask pixel
        return np.array([truth.shape[1] // 2, truth.shape[0] // 2], np.float32)
    return click_inside(region, rng or np.random.default_rng(0), centred=1 - _RANDOM_CLICKS if rng else 1)


def encode(sam: Sam, batch: list[View]) -> Tensor:
    """Encode views to embeddings (b, c, h, w)."""
    images = torch.from_numpy(np.stack([view.image for view in batch]))[:, None].expand(-1, 3, -1, -1)
    return sam.image_encoder((images - sam.pixel_mean) / sam.pixel_std)


def targets(view: View) -> Tensor:
    """Return the masks of a view at the resolution of the low-resolution mask, (n, 1, h, w)."""
    return (functional.avg_pool2d(torch.from_numpy(view.masks).float()[:, None], MASK_STRIDE) >= 0.5).float()


def batch_loss(sam: Sam, batch: list[View], rng: np.random.Generator) -> Tensor:
    """Return the loss of a batch: half of the objects get a box, half a click, then both some corrections.

    Corrections run without gradients; only the last round has gradients.
    """
    embeddings = encode(sam, batch)
    half = len(batch[0].boxes) // 2
    boxes = Prompted(
        torch.arange(len(batch)).repeat_interleave(half),
        torch.cat([targets(view)[:half] for view in batch]),
        boxes=torch.from_numpy(np.concatenate([view.boxes[:half] for view in batch])),
    )
    rest = len(batch[0].clicks) - half
    clicks = Prompted(
        torch.arange(len(batch)).repeat_interleave(rest),
        torch.cat([targets(view)[half:] for view in batch]),
        points=torch.from_numpy(np.concatenate([view.clicks[half:] for view in batch]))[:, None],
        labels=torch.ones(len(batch) * rest, 1),
    )
    loss = embeddings.new_zeros(())
    for prompted, chances in ((boxes, _AFTER_BOX), (clicks, _AFTER_CLICK)):
        rounds = int(rng.choice(len(chances), p=chances))
        with torch.no_grad():
            for _ in range(rounds):
                prompted.correct(shown(*decode(sam, embeddings, prompted), prompted), rng)
            if not rounds and prompted is boxes and rng.random() < _MASK_ALONE:
                prompted.previous = decode(sam, embeddings, prompted)[0][:, :1]
                prompted.boxes = None
        logits, iou = decode(sam, embeddings, prompted)
        loss = loss + round_loss(logits, iou, prompted.target, prompted.lone_click)
    return loss


@torch.no_grad()
def validate(sam: Sam, batch: list[View]) -> dict[str, float]:
    """Return mean IoUs on fixed views: from a box, a click (chosen and best candidate), and after corrections."""
    sam.eval()
    scores: dict[str, list[Tensor]] = {"box": [], "click": [], "best candidate": [], "corrected": []}
    for view in batch:
        embeddings = encode(sam, [view])
        target = targets(view)
        owner = torch.zeros(len(target), dtype=torch.long)
        by_box = Prompted(owner, target, boxes=torch.from_numpy(view.boxes))
        scores["box"].append(true_iou(decode(sam, embeddings, by_box)[0][:, :1], target))
        points = torch.from_numpy(view.clicks)[:, None]
        clicked = Prompted(owner, target, points=points, labels=torch.ones(len(target), 1))
        logits, iou = decode(sam, embeddings, clicked)
        scores["click"].append(true_iou(best_candidate(logits, iou), target))
        scores["best candidate"].append(true_iou(logits[:, 1:], target).amax(1))
        for _ in range(_CORRECTIONS):
            clicked.correct(shown(logits, iou, clicked), None)
            logits, iou = decode(sam, embeddings, clicked)
        scores["corrected"].append(true_iou(logits[:, :1], target))
    return {name: float(torch.cat([row.flatten() for row in rows]).mean()) for name, rows in scores.items()}

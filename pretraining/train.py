"""Train sam_nano from scratch on drawn scenes; stop and go on at any moment.

    python -m pretraining.data scenes --count 6000
    python -m pretraining.train scenes run --steps 5000

Running the second line again goes on from the last checkpoint in ``run``. The first half of the steps sees views of
128 x 128 pixels, which cost a quarter, the rest 256 x 256. The learning rate is constant after a short warm-up and
falls linearly to zero over the last quarter of the steps; the weights that are kept are an exponential moving
average.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from safetensors.torch import load_file, save_file
from segment_anything.modeling import Sam
from torch import Tensor

from napari_sam_lora.model.allocator import keep_freed_memory
from napari_sam_lora.model.input_size import set_input_size
from napari_sam_lora.model.nano import INPUT_SIZE, build_sam_nano
from pretraining.data import View, make_view, views

VALIDATION_SCENES = 100
RATE = 8e-4
BATCHES = {INPUT_SIZE // 2: (8, 6), INPUT_SIZE: (4, 8)}  # images a step and objects an image, by input size
MASK_STRIDE = 2  # input pixels to a pixel of the low-resolution mask


def decode(
    sam: Sam,
    embeddings: Tensor,
    owner: Tensor,
    clicks: tuple[Tensor, Tensor] | None,
    boxes: Tensor | None,
    masks: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Decode prompts of several images in one pass.

    The decoder adds its one image embedding to every dense prompt embedding, so a zero embedding and the sum
    in the place of the dense prompt give each object the image that it belongs to.

    Parameters
    ----------
    embeddings : Tensor
        (b, d, h, w).
    owner : Tensor
        Index of the image of each object, int64 (n,).

    Returns
    -------
    logits : Tensor
        (n, 4, 4 h, 4 w): the single mask first, then the three candidates.
    iou : Tensor
        Predicted IoU (n, 4).
    """
    sparse, dense = sam.prompt_encoder(points=clicks, boxes=boxes, masks=masks)
    return sam.mask_decoder.predict_masks(
        image_embeddings=torch.zeros_like(embeddings[:1]),
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense + embeddings[owner],
    )


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Dice + BCE + 5 focal + 0.2 class-balanced BCE of each mask.

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
    target = target.expand_as(logits)
    probability = logits.sigmoid()
    bce = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    focal = (1 - torch.exp(-bce)) ** 2 * bce
    inside = target.sum((2, 3))
    dice = 1 - (2 * (probability * target).sum((2, 3)) + 1) / (probability.sum((2, 3)) + inside + 1)
    outside = target[0, 0].numel() - inside
    balanced = 0.5 * ((bce * target).sum((2, 3)) / (inside + 1) + (bce * (1 - target)).sum((2, 3)) / (outside + 1))
    return dice + bce.mean((2, 3)) + 5 * focal.mean((2, 3)) + 0.2 * balanced


def true_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU of each thresholded mask (n, m, h, w) with the target (n, 1, h, w), as (n, m)."""
    found, wanted = logits > 0, target > 0.5
    return (found & wanted).sum((2, 3)) / (found | wanted).sum((2, 3)).clamp(min=1)


def round_loss(logits: Tensor, iou: Tensor, target: Tensor, ambiguous: bool) -> Tensor:
    """Loss of one prompting round; the candidates weigh more for a lone click, the single mask otherwise."""
    losses = mask_loss(logits, target)
    single, candidates = losses[:, 0].mean(), losses[:, 1:].min(1).values.mean()
    weights = (0.3, 1.0) if ambiguous else (1.0, 0.3)
    error = functional.mse_loss(iou, true_iou(logits, target).float())
    return weights[0] * single + weights[1] * candidates + error


def corrective_clicks(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Click a random wrong pixel of each mask.

    Parameters
    ----------
    logits, target : Tensor
        (n, 1, h, w) at mask resolution.

    Returns
    -------
    points : Tensor
        (n, 1, 2) as x, y in pixels of the model input.
    labels : Tensor
        (n, 1): 1 where the pixel was missed, 0 where it was too much.
    """
    wrong = ((logits > 0) != (target > 0.5)).flatten(1)
    wanted = (target > 0.5).flatten(1)
    weights = torch.where(wrong.any(1, keepdim=True), wrong, wanted).float() + 1e-9
    pick = torch.multinomial(weights, 1)[:, 0]
    width = logits.shape[-1]
    points = torch.stack([pick % width, pick // width], 1) * MASK_STRIDE + (MASK_STRIDE - 1) / 2
    labels = wanted.gather(1, pick[:, None]).float()
    return points[:, None], labels


def best_candidate(logits: Tensor, iou: Tensor) -> Tensor:
    """The candidate (n, 1, h, w) with the highest predicted IoU."""
    return logits[torch.arange(len(logits)), 1 + iou[:, 1:].argmax(1)][:, None]


def batch_loss(sam: Sam, batch: list[View], rng: np.random.Generator) -> Tensor:
    """Loss of a batch: half of the objects are prompted by a box, half by a click, most corrected once."""
    images = torch.from_numpy(np.stack([view.image for view in batch]))[:, None].expand(-1, 3, -1, -1)
    embeddings = sam.image_encoder((images - sam.pixel_mean) / sam.pixel_std)
    masks = torch.from_numpy(np.stack([view.masks for view in batch])).float()
    target = (functional.avg_pool2d(masks, MASK_STRIDE) >= 0.5).float()
    half = target.shape[1] // 2
    by_box, by_click = slice(0, half), slice(half, None)

    def part(arrays: list[np.ndarray], which: slice) -> Tensor:
        return torch.from_numpy(np.stack([array[which] for array in arrays])).flatten(0, 1)

    def owners(count: int) -> Tensor:
        return torch.arange(len(batch)).repeat_interleave(count)

    boxes, box_target = part([v.boxes for v in batch], by_box), target[:, by_box].flatten(0, 1)[:, None]
    clicks, click_target = part([v.clicks for v in batch], by_click), target[:, by_click].flatten(0, 1)[:, None]
    box_owner, click_owner = owners(half), owners(target.shape[1] - half)
    points = (clicks[:, None], torch.ones(len(clicks), 1))

    box_logits, box_iou = decode(sam, embeddings, box_owner, None, boxes, None)
    loss = round_loss(box_logits, box_iou, box_target, ambiguous=False)
    click_logits, click_iou = decode(sam, embeddings, click_owner, points, None, None)
    loss = loss + round_loss(click_logits, click_iou, click_target, ambiguous=True)

    if rng.random() < 0.6:
        previous = best_candidate(click_logits, click_iou).detach()
        more, signs = corrective_clicks(previous, click_target)
        both = (torch.cat([points[0], more], 1), torch.cat([points[1], signs], 1))
        logits, iou = decode(sam, embeddings, click_owner, both, None, previous)
        loss = loss + round_loss(logits, iou, click_target, ambiguous=False)
        if rng.random() < 0.3:
            previous = logits[:, :1].detach()
            more, signs = corrective_clicks(previous, click_target)
            both = (torch.cat([both[0], more], 1), torch.cat([both[1], signs], 1))
            logits, iou = decode(sam, embeddings, click_owner, both, None, previous)
            loss = loss + round_loss(logits, iou, click_target, ambiguous=False)
    choice = rng.random()
    if choice < 0.25:  # the earlier mask alone
        logits, iou = decode(sam, embeddings, box_owner, None, None, box_logits[:, :1].detach())
        loss = loss + round_loss(logits, iou, box_target, ambiguous=False)
    elif choice < 0.5:
        more, signs = corrective_clicks(box_logits[:, :1].detach(), box_target)
        logits, iou = decode(sam, embeddings, box_owner, (more, signs), boxes, box_logits[:, :1].detach())
        loss = loss + round_loss(logits, iou, box_target, ambiguous=False)
    return loss


@torch.no_grad()
def validate(sam: Sam, batch: list[View]) -> tuple[float, float]:
    """Mean box IoU and first-click IoU (the candidate that the model prefers) on fixed views."""
    sam.eval()
    box, click = [], []
    for view in batch:
        image = torch.from_numpy(view.image)[None, None].expand(-1, 3, -1, -1)
        embedding = sam.image_encoder((image - sam.pixel_mean) / sam.pixel_std)
        masks = torch.from_numpy(view.masks).float()
        target = (functional.avg_pool2d(masks, MASK_STRIDE) >= 0.5).float()[:, None]
        owner = torch.zeros(len(target), dtype=torch.long)
        logits, _ = decode(sam, embedding, owner, None, torch.from_numpy(view.boxes), None)
        box.append(true_iou(logits[:, :1], target).mean().item())
        points = (torch.from_numpy(view.clicks)[:, None], torch.ones(len(target), 1))
        logits, iou = decode(sam, embedding, owner, points, None, None)
        click.append(true_iou(best_candidate(logits, iou), target).mean().item())
    return float(np.mean(box)), float(np.mean(click))


def rate_at(step: int, steps: int) -> float:
    """Learning rate: linear warm-up over 200 steps, constant, linear to zero over the last quarter."""
    return RATE * min(1.0, (step + 1) / 200, max(0.0, (steps - step) / (steps / 4)))


class Run:
    """A training run with everything that a checkpoint holds."""

    def __init__(self, scenes: Path, folder: Path, steps: int, start: Path | None = None, small: float = 0.5) -> None:
        self.folder, self.steps, self.small = folder, steps, small
        self.sam = build_sam_nano()
        if start is not None:
            self.sam.load_state_dict({name: value.float() for name, value in load_file(start).items()})
        self.average = deepcopy(self.sam)
        self.optimizer = torch.optim.AdamW(self.sam.parameters(), lr=RATE, weight_decay=0.02, betas=(0.9, 0.98))
        self.step = 0
        self.checkpoint = folder / "checkpoint.pt"
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=True)
            self.sam.load_state_dict(state["sam"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]
        count = len(np.load(scenes / "images.npy", mmap_mode="r"))
        # Seeded by the step: a run that goes on does not repeat the views it began with.
        self.rng = np.random.default_rng([1, self.step])
        torch.manual_seed(self.step)
        self.views: dict[int, Iterator[View]] = {
            size: views(scenes, VALIDATION_SCENES, count, size=size, objects=objects, rng=self.rng)
            for size, (_, objects) in BATCHES.items()
        }
        self.validation = _validation_views(scenes)

    def train_step(self) -> float:
        """One optimisation step; returns the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.step, self.steps)
        self.sam.train()
        size = INPUT_SIZE // 2 if self.step < self.small * self.steps else INPUT_SIZE
        set_input_size(self.sam, size)
        loss = batch_loss(self.sam, [next(self.views[size]) for _ in range(BATCHES[size][0])], self.rng)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.sam.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return loss.item()

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(0.998, (1 + self.step) / (10 + self.step))
        now = self.sam.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(now[name], 1 - keep)
            else:
                value.copy_(now[name])

    def save(self) -> None:
        """Write the checkpoint and the averaged weights, each in one atomic step."""
        state = {
            "sam": self.sam.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        torch.save(state, self.checkpoint.with_suffix(".new"))
        os.replace(self.checkpoint.with_suffix(".new"), self.checkpoint)
        weights = {
            name: (value.half() if value.is_floating_point() else value).contiguous()
            for name, value in self.average.state_dict().items()
        }
        save_file(weights, self.folder / "sam_nano.new")
        os.replace(self.folder / "sam_nano.new", self.folder / "sam_nano.safetensors")


def _validation_views(scenes: Path) -> list[View]:
    rng = np.random.default_rng(0)
    images, labels = (np.load(scenes / f"{name}.npy", mmap_mode="r") for name in ("images", "labels"))
    made = (make_view(images[i], labels[i], INPUT_SIZE, 8, rng, augment=False) for i in range(VALIDATION_SCENES))
    return [view for view in made if view is not None]


def main() -> None:
    """Train, or go on training, sam_nano."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--every", type=int, default=250, help="steps between checkpoints")
    parser.add_argument("--start", type=Path, help="weights (.safetensors) to begin with instead of random ones")
    parser.add_argument("--small", type=float, default=0.5, help="share of the steps at 128 pixels")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    run = Run(arguments.scenes, arguments.folder, arguments.steps, arguments.start, arguments.small)
    losses: list[float] = []
    begun = time.monotonic()
    while run.step < arguments.steps:
        losses.append(run.train_step())
        if run.step % 25 == 0:
            seconds, begun = time.monotonic() - begun, time.monotonic()
            print(f"step {run.step}  loss {np.mean(losses[-25:]):.3f}  {seconds / 25:.2f} s a step", flush=True)
        if run.step % arguments.every == 0 or run.step == arguments.steps:
            run.save()
            box, click = validate(run.average, run.validation)
            print(f"step {run.step}  box IoU {box:.3f}  click IoU {click:.3f}", flush=True)
            with (arguments.folder / "log.csv").open("a", newline="") as log:
                csv.writer(log).writerow([run.step, f"{np.mean(losses):.4f}", f"{box:.4f}", f"{click:.4f}"])
            losses.clear()


if __name__ == "__main__":
    main()

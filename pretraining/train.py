"""Train sam_nano on synthetic scenes, from scratch or from given weights; a run can be interrupted and resumed.

    python -m pretraining.data scenes --count 6000
    python -m pretraining.train scenes run --steps 5000

The second line, run again, resumes from the last checkpoint in ``run``. In the first half, three of four steps use
views of 128 x 128 pixels, at a quarter of the cost; all others use 256 x 256. The learning rate is constant after a
short warm-up and falls linearly to zero over the last third of the steps. The saved weights are an exponential moving
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
from safetensors.torch import load_file, save_file
from segment_anything.modeling import Sam
from torch import nn

from napari_sam_lora.model.allocator import keep_freed_memory
from napari_sam_lora.model.families.nano import INPUT_SIZE, build_sam_nano
from napari_sam_lora.model.input_size import set_input_size
from pretraining.data import View, make_view, views
from pretraining.rounds import batch_loss, validate

HELD_OUT_SCENES = 100
VALIDATION = (32, 6)  # held-out scenes in validation, and objects in each
RATE = 2e-3
OLD_RATE = 3e-4  # rate of parameters that start from given weights
WARM_UP = 100
BATCHES = {INPUT_SIZE // 2: (10, 6), INPUT_SIZE: (4, 6)}  # images a step and objects an image, by input size
COLUMNS = ("box", "click", "best candidate", "corrected")


def rate_factor(step: int, steps: int) -> float:
    """Return the factor of the learning rate: linear warm-up, constant, linear to zero over the last third."""
    return min(1.0, (step + 1) / WARM_UP, max(0.0, (steps - step) / (steps / 3)))


class Run:
    """A training run, resumed from its checkpoint if there is one.

    Parameters
    ----------
    scenes : Path
        Folder written by `pretraining.data`.
    folder : Path
        Folder of checkpoint, weights and log.
    steps : int
    start : Path, optional
        Initial weights. They get a low learning rate; the newest layers of the model, which they may lack, a high one.
    small : float
        Share of the steps in which small views are used.
    bfloat16 : bool
        Compute in bfloat16 where that is safe, on processors that support it.
    """

    def __init__(
        self,
        scenes: Path,
        folder: Path,
        steps: int,
        start: Path | None = None,
        small: float = 0.5,
        bfloat16: bool = False,
    ) -> None:
        self.folder, self.steps, self.small, self.bfloat16 = folder, steps, small, bfloat16
        self.sam = build_sam_nano()
        self.started = start is not None
        initial = {} if start is None else {name: value.float() for name, value in load_file(start).items()}
        self.sam.load_state_dict({**self.sam.state_dict(), **initial})
        self.average = deepcopy(self.sam)
        self.optimizer = torch.optim.AdamW(self._groups(), weight_decay=0.02, betas=(0.9, 0.98))
        self.step = 0
        self.checkpoint = folder / "checkpoint.pt"
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=True)
            self.sam.load_state_dict(state["sam"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]
        count = len(np.load(scenes / "images.npy", mmap_mode="r"))
        # Seeded by the step, so that a resumed run does not repeat its first views.
        self.rng = np.random.default_rng([1, self.step])
        torch.manual_seed(self.step)
        self.views: dict[int, Iterator[View]] = {
            size: views(scenes, HELD_OUT_SCENES, count, size=size, objects=objects, rng=self.rng)
            for size, (_, objects) in BATCHES.items()
        }
        self.validation = _validation_views(scenes)

    def _groups(self) -> list[dict[str, object]]:
        """Return the parameter groups of the optimizer, each with its rate."""
        new: list[nn.Parameter] = []
        old: list[nn.Parameter] = []
        for name, value in self.sam.named_parameters():
            recent = not self.started or name.startswith(("mask_decoder.refiner.", "image_encoder.patch_embed.detail."))
            (new if recent else old).append(value)
        return [{"params": new, "rate": RATE, "lr": RATE}, {"params": old, "rate": OLD_RATE, "lr": OLD_RATE}]

    def train_step(self) -> float:
        """Run one optimisation step; returns the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * rate_factor(self.step, self.steps)
        self.sam.train()
        if self.started:  # statistics of a few images are worse than the stored ones
            for module in self.sam.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        size = INPUT_SIZE // 2 if self.step < self.small * self.steps and self.step % 4 else INPUT_SIZE
        set_input_size(self.sam, size)
        batch = [next(self.views[size]) for _ in range(BATCHES[size][0])]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            loss = batch_loss(self.sam, batch, self.rng)
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
        save_weights(self.average, self.folder / "sam_nano.safetensors")

    def measure(self) -> dict[str, float]:
        """Return the figures of the averaged weights on held-out scenes."""
        return validate(self.average, self.validation)


def save_weights(sam: Sam, path: Path) -> None:
    """Write weights as float16, in one atomic step."""
    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in sam.state_dict().items()
    }
    save_file(weights, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def _validation_views(scenes: Path) -> list[View]:
    rng = np.random.default_rng(0)
    images, labels = (np.load(scenes / f"{name}.npy", mmap_mode="r") for name in ("images", "labels"))
    count, objects = VALIDATION
    made = (make_view(images[i], labels[i], INPUT_SIZE, objects, rng, augment=False) for i in range(HELD_OUT_SCENES))
    return [view for view in made if view is not None][:count]


def _format_figures(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {figures[name]:.3f}" for name in COLUMNS)


def main() -> None:
    """Train sam_nano, or resume its training."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--every", type=int, default=250, help="steps between checkpoints")
    parser.add_argument("--start", type=Path, help="weights (.safetensors) to begin with instead of random ones")
    parser.add_argument(
        "--small", type=float, default=0.5, help="share of the steps in which most views have 128 pixels"
    )
    parser.add_argument("--bfloat16", action="store_true", help="compute in bfloat16 where that is safe")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    run = Run(
        arguments.scenes,
        arguments.folder,
        arguments.steps,
        arguments.start,
        arguments.small,
        arguments.bfloat16,
    )
    print(f"step {run.step}  {_format_figures(run.measure())}", flush=True)
    losses: list[float] = []
    started_at = time.monotonic()
    while run.step < arguments.steps:
        losses.append(run.train_step())
        if run.step % 25 == 0:
            seconds, started_at = time.monotonic() - started_at, time.monotonic()
            print(f"step {run.step}  loss {np.mean(losses[-25:]):.3f}  {seconds / 25:.2f} s a step", flush=True)
        if run.step % arguments.every == 0 or run.step == arguments.steps:
            run.save()
            figures = run.measure()
            print(f"step {run.step}  {_format_figures(figures)}", flush=True)
            with (arguments.folder / "log.csv").open("a", newline="") as log:
                row = [run.step, f"{np.mean(losses):.4f}", *(f"{figures[name]:.4f}" for name in COLUMNS)]
                csv.writer(log).writerow(row)
            losses.clear()
            started_at = time.monotonic()


if __name__ == "__main__":
    main()

"""Train the dense head of sam_nano over its frozen encoder, on synthetic scenes and optionally on labelled images.

    python -m pretraining.data pretraining/scenes-2400 --count 2400
    python -m pretraining.dense pretraining/scenes-2400 pretraining/runs/head.safetensors --minutes 20
    python -m pretraining.dense pretraining/scenes-2400 pretraining/runs/mixed.safetensors --minutes 25 \
        --start pretraining/runs/head.safetensors --images path/to/bbbc038_train --share 0.4

Each crop is shown at another scale, from half to more than twice that of its image, because with one scale a head
learns the size of its objects. Five of six steps see crops of half the input size of the model, which cost a quarter.
The learning rate follows the clock: a warm-up and a cosine.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from PIL import Image
from segment_anything.modeling import Sam
from torch import Tensor

from napari_sam_lora.api import load_model
from napari_sam_lora.images import to_rgb8
from napari_sam_lora.model.dense.dense_model import DenseModel, read_dense_model, write_dense_model
from napari_sam_lora.model.dense.head import DenseHead, new_dense_head
from napari_sam_lora.model.dense.instances import maps_to_labels
from napari_sam_lora.training.dense.loss import DenseLoss
from napari_sam_lora.training.dense.targets import dense_targets
from napari_sam_lora.training.evaluation.instance_matching import Matches, match_objects

HELD_OUT_SCENES = 100  # as `pretraining.train`
HELD_OUT_IMAGES = 10  # each tenth of the labelled images
VALIDATION = 24  # of each kind
RATE = 3e-3
OLD_RATE = 2e-3  # with --start
WARM_UP = 60
SCALES = (0.45, 2.3)
BATCHES = ((128, 5), (256, 1))  # side of the crops, and their number per step
LARGE_EVERY = 6


@dataclass(frozen=True, eq=False)
class Example:
    """An image with its dense targets.

    Attributes
    ----------
    pixels : uint8 (y, x, 3)
    targets : uint8 (2, y, x)
        Those of `dense_targets`, times 255.
    labels : int (y, x)
    kind : str
        Of the image, such as its stain.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.uint8]
    labels: NDArray[np.int64]
    kind: str = "scene"


class Scenes(Sequence[Example]):
    """Synthetic scenes ``first`` to ``last - 1`` of a folder. Targets are made once."""

    def __init__(self, folder: Path, first: int, last: int | None = None) -> None:
        self._images, self._labels = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "labels"))
        self._numbers = range(len(self._images))[first:last]
        self._targets: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        number = self._numbers[index]
        labels = np.asarray(self._labels[number, 0], np.int64)
        if number not in self._targets:
            self._targets[number] = _as_bytes(labels)
        return Example(np.repeat(self._images[number][..., None], 3, -1), self._targets[number], labels)


def read_images(folder: Path) -> Iterator[Example]:
    """Read labelled images of a folder with ``images/`` and ``labels/`` in PNG; names begin with their kind and _."""
    for path in sorted((folder / "images").glob("*.png")):
        with Image.open(path) as file, Image.open(folder / "labels" / path.name) as drawn:
            labels = np.asarray(drawn).astype(np.int64)
            yield Example(to_rgb8(np.asarray(file)), _as_bytes(labels), labels, path.name.partition("_")[0])


def _as_bytes(labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.rint(255 * dense_targets(labels)).astype(np.uint8)


def make_crop(example: Example, side: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Cut pixels (3, side, side), 0 to 255, and targets (2, side, side) of a random part at a random scale."""
    shortest = min(example.labels.shape)
    scale = math.exp(rng.uniform(*np.log(SCALES)))
    taken = max(16, min(shortest, round(side / scale)))
    y, x = (int(rng.integers(length - taken + 1)) for length in example.labels.shape)
    pixels = torch.from_numpy(example.pixels[y : y + taken, x : x + taken].astype(np.float32)).permute(2, 0, 1) / 255
    targets = torch.from_numpy(example.targets[:, y : y + taken, x : x + taken].astype(np.float32)) / 255
    both = functional.interpolate(
        torch.cat([pixels, targets])[None], (side, side), mode="bilinear", align_corners=False, antialias=True
    )[0]
    both = torch.rot90(both, int(rng.integers(4)), (1, 2))
    both = both.flip(2) if rng.random() < 0.5 else both
    return 255 * _recoloured(both[:3], rng), both[3:].clamp(0, 1)


def _recoloured(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Change colours, contrast, gamma and noise; sometimes make it gray or inverted."""
    coloured = bool((pixels[0] != pixels[1]).any())
    if coloured and rng.random() < 0.3:
        pixels = pixels.mean(0, keepdim=True).expand(3, -1, -1)
    elif coloured and rng.random() < 0.7:
        pixels = pixels * torch.tensor(rng.uniform(0.8, 1.15, (3, 1, 1)), dtype=torch.float32)
    pixels = pixels.clamp(1e-4, 1)
    if rng.random() < 0.12:
        pixels = 1 - pixels
    if rng.random() < 0.6:
        pixels = pixels.clamp(1e-4, 1) ** math.exp(rng.normal() * 0.35)
    if rng.random() < 0.3:
        pixels = pixels * rng.uniform(0.4, 1.0) + rng.uniform(0, 0.3)
    if rng.random() < 0.3:
        noise = rng.normal(size=pixels.shape[1:]).astype(np.float32) * np.float32(rng.uniform(0, 0.08))
        pixels = pixels + torch.from_numpy(noise)
    return pixels.clamp(0, 1)


class Run:
    """A training run of the head.

    Parameters
    ----------
    sam : Sam
        Frozen.
    head : DenseHead
        Trained in place.
    scenes, images : sequence of Example
        A kind of images is drawn in proportion to the square root of their number.
    share : float
        Share of the crops that are from images.
    rate : float
    """

    def __init__(
        self, sam: Sam, head: DenseHead, scenes: Sequence[Example], images: Sequence[Example], share: float, rate: float
    ) -> None:
        self.sam, self.head = sam, head.train().requires_grad_(True)
        self.scenes, self.images, self.share, self.rate = scenes, images, share if images else 0.0, rate
        self.optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.01)
        self.loss = DenseLoss()
        counts = Counter(image.kind for image in images)
        weights = np.array([counts[image.kind] ** -0.5 for image in images])
        self._odds = weights / weights.sum()
        self.rng = np.random.default_rng(0)
        self.step = 0

    def train_step(self, passed: float) -> float:
        """Do one step at a share of the time that has passed, and return the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(1, (self.step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * passed))
        side, count = BATCHES[self.step % LARGE_EVERY == 0]
        crops = [make_crop(self._draw(), side, self.rng) for _ in range(count)]
        pixels = normalise(self.sam, torch.stack([pixels for pixels, _ in crops]))
        targets = torch.stack([target for _, target in crops])
        with torch.no_grad():
            embedding = self.sam.image_encoder(pixels)
        loss = self.loss(self.head(embedding, pixels), targets, torch.ones_like(targets[:, :1]))
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.head.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return loss.item()

    def _draw(self) -> Example:
        if self.rng.random() < self.share:
            return self.images[int(self.rng.choice(len(self.images), p=self._odds))]
        return self.scenes[int(self.rng.integers(len(self.scenes)))]


def normalise(sam: Sam, pixels: Tensor) -> Tensor:
    """Return the model input of pixels (b, 3, h, w) from 0 to 255."""
    return (pixels - sam.pixel_mean) / sam.pixel_std


@torch.no_grad()
def validate(sam: Sam, head: DenseHead, examples: Sequence[Example]) -> float:
    """Return the average precision at IoU 0.5 in the first 256 x 256 pixels of each example."""
    head.eval()
    found = Matches()
    for example in examples:
        pixels, labels = example.pixels[:256, :256], example.labels[:256, :256]
        padded = np.pad(pixels, [(0, 256 - pixels.shape[0]), (0, 256 - pixels.shape[1]), (0, 0)], mode="symmetric")
        shown = normalise(sam, torch.from_numpy(padded.astype(np.float32)).permute(2, 0, 1)[None])
        maps = head(sam.image_encoder(shown), shown)[0].sigmoid().numpy()
        found += match_objects(maps_to_labels(maps[:, : labels.shape[0], : labels.shape[1]]), labels)
    head.train()
    return found.average_precision


def save_head(head: DenseHead, path: Path) -> None:
    """Write the weights as float16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dense_model(DenseModel(head), path)


def main() -> None:
    """Train the dense head of sam_nano."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("output", type=Path, help="weights (.safetensors)")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", type=Path, help="weights to begin with")
    parser.add_argument("--images", type=Path, help="folder with labelled images to mix in")
    parser.add_argument("--share", type=float, default=0.4, help="share of the crops that are from --images")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    sam = load_model("sam_nano", device="cpu").loaded.sam
    start = read_dense_model(options.start).trainable if options.start else None
    head = new_dense_head(sam) if start is None else start
    images = list(read_images(options.images)) if options.images else []
    kept = [image for number, image in enumerate(images) if number % HELD_OUT_IMAGES]
    aside = images[::HELD_OUT_IMAGES][:: max(1, len(images) // HELD_OUT_IMAGES // VALIDATION)][:VALIDATION]
    run = Run(
        sam,
        head,
        Scenes(options.scenes, HELD_OUT_SCENES),
        kept,
        options.share,
        OLD_RATE if options.start else RATE,
    )
    held_out = list(Scenes(options.scenes, 0, VALIDATION))
    begun, losses = time.monotonic(), list[float]()
    while (passed := (time.monotonic() - begun) / (60 * options.minutes)) < 1:
        losses.append(run.train_step(passed))
        if run.step % 100 == 0:
            line = f"{run.step} {60 * passed * options.minutes:.0f} s loss {np.mean(losses[-100:]):.4f}"
            if run.step % 500 == 0:
                save_head(head, options.output)
                line += f" AP scenes {validate(sam, head, held_out):.3f} images {validate(sam, head, aside):.3f}"
            print(line, flush=True)
    save_head(head, options.output)
    figures = [validate(sam, head, examples) for examples in (held_out, aside)]
    print(f"{run.step} steps; AP scenes {figures[0]:.3f}, images {figures[1]:.3f}")


if __name__ == "__main__":
    main()

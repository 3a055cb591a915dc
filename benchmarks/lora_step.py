"""Time and memory of a LoRA step on ViT-B, compared with a step of the usual training scripts at 1024 pixels.

    python -m benchmarks.lora_step

Reference: low-rank layers of rank 8 on q and v of all blocks, one image, one box, no cache, segment-anything's own
encoder, default settings. Ours: ``late`` with four blocks, eight objects, cached prefix. Each runs in its own process
with random weights. Corrective rounds and the encoding of a prefix are reported separately.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.workers import peak_megabytes, random_checkpoint, run_worker, seconds

SIDE, OBJECTS, RANK = 1024, 8, 8


class _ClassicalQKV(nn.Module):
    """The usual LoRA wrapper, which adds to the query and value columns of the fused projection."""

    def __init__(self, qkv: nn.Linear) -> None:
        super().__init__()
        width = qkv.in_features
        self.qkv, self.width = qkv, width
        self.a_q, self.a_v = nn.Linear(width, RANK, bias=False), nn.Linear(width, RANK, bias=False)
        self.b_q, self.b_v = nn.Linear(RANK, width, bias=False), nn.Linear(RANK, width, bias=False)
        nn.init.zeros_(self.b_q.weight)
        nn.init.zeros_(self.b_v.weight)

    def forward(self, x: Tensor) -> Tensor:
        out = self.qkv(x)
        out[..., : self.width] += self.b_q(self.a_q(x))
        out[..., -self.width :] += self.b_v(self.a_v(x))
        return out


def _scene() -> tuple[np.ndarray, np.ndarray]:
    """Draw a plane uint8 (y, x) with eight discs, and their labels."""
    y, x = np.mgrid[:SIDE, :SIDE]
    labels = np.zeros((SIDE, SIDE), np.int32)
    for number in range(OBJECTS):
        middle = (200 + 600 * (number // 4), 128 + 256 * (number % 4))
        labels[(y - middle[0]) ** 2 + (x - middle[1]) ** 2 < 90**2] = number + 1
    noise = np.random.default_rng(0).normal(0, 20, labels.shape)
    return np.clip(80 + 80 * (labels > 0) + noise, 0, 255).astype(np.uint8), labels


def _reference(checkpoint: str) -> dict[str, float]:
    from segment_anything import sam_model_registry  # noqa: PLC0415

    image, labels = _scene()
    sam = sam_model_registry["vit_b"](checkpoint)
    sam.requires_grad_(False)
    for block in sam.image_encoder.blocks:
        block.attn.qkv = _ClassicalQKV(block.attn.qkv)
    optimizer = torch.optim.Adam([value for value in sam.parameters() if value.requires_grad], 1e-4)
    pixels = torch.from_numpy(np.repeat(image[None, None], 3, 1)).float()
    rows, columns = np.nonzero(labels == 1)
    box = torch.tensor([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]).float()
    target = torch.from_numpy(labels[None, None, ::4, ::4] == 1).float()

    def step() -> None:
        embedding = sam.image_encoder(sam.preprocess(pixels))
        sparse, dense = sam.prompt_encoder(points=None, boxes=box, masks=None)
        logits, _ = sam.mask_decoder(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, False)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()
    return {"step": statistics.median(seconds(step) for _ in range(3)), "megabytes": peak_megabytes()}


def _ours(checkpoint: str, input_size: int) -> dict[str, float]:
    from napari_sam_lora import TrainConfig, load_model  # noqa: PLC0415
    from napari_sam_lora.images import Preprocessing  # noqa: PLC0415
    from napari_sam_lora.model.input_size import mask_stride  # noqa: PLC0415
    from napari_sam_lora.training.data.samples import snapshot  # noqa: PLC0415
    from napari_sam_lora.training.data.split import list_objects  # noqa: PLC0415
    from napari_sam_lora.training.loop import Trainer  # noqa: PLC0415

    sam = load_model(checkpoint, device="cpu", input_size=input_size).loaded.sam
    planes = snapshot([_scene()], input_size, mask_stride(sam), Preprocessing())

    def trainer(corrections: int, cache: Any = None) -> Trainer:
        config = TrainConfig(
            mode="late", late_blocks=4, rank=RANK, objects=OBJECTS, views=1, corrections=corrections, box_share=1.0
        )
        return Trainer(sam, planes, list_objects(planes), config, cache)

    plain = trainer(0)
    first = seconds(plain.step)
    steps = [seconds(plain.step) for _ in range(5)]
    peak = peak_megabytes()
    corrected = trainer(1, plain.cache)
    with_corrections = statistics.mean(seconds(corrected.step) for _ in range(6))
    return {
        "step": statistics.median(steps),
        "prefix": first - steps[0],
        "corrected": with_corrections,
        "megabytes": peak,
    }


_WORKERS = ("reference", "1024", "512")


def _table(found: dict[str, dict[str, float]]) -> None:
    reference = found["reference"]
    print("| run | s a step | ratio | ratio an object | peak MB | ratio | prefix s | with corrections, s |")
    print("|---|---|---|---|---|---|---|---|")
    print(f"| classical, 1024 | {reference['step']:.2f} | 1 | 1 | {reference['megabytes']:.0f} | 1 | | |")
    for which in _WORKERS[1:]:
        ours = found[which]
        ratio = ours["step"] / reference["step"]
        memory = ours["megabytes"] / reference["megabytes"]
        print(
            f"| late, {which} | {ours['step']:.2f} | {ratio:.3f} | {ratio / OBJECTS:.4f} | {ours['megabytes']:.0f} "
            f"| {memory:.2f} | {ours['prefix']:.2f} | {ours['corrected']:.2f} |"
        )


def main() -> None:
    """Print a table of seconds and megabytes, and the ratios to the reference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", nargs=2, metavar=("WHICH", "CHECKPOINT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        which, checkpoint = options.worker
        print(json.dumps(_reference(checkpoint) if which == "reference" else _ours(checkpoint, int(which))))
        return
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(random_checkpoint(Path(folder)))
        found = {which: run_worker("benchmarks.lora_step", "--worker", which, checkpoint) for which in _WORKERS}
    _table(found)


if __name__ == "__main__":
    main()

"""Time from a box to its mask on an encoded 512 x 512 plane with ViT-B, compared with prompt encoder and mask decoder.

    python -m benchmarks.prompt [--runs 30]

Both alternate in one process, with random weights; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.workers import random_checkpoint, seconds
from napari_sam_lora import Prompts, load_model


def main() -> None:
    """Print a table and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(random_checkpoint(Path(folder)), device="cpu")
    sam = model.loaded.sam
    embedding = model.encode(np.random.default_rng(0).integers(0, 256, (512, 512), np.uint8))
    prompts = Prompts(boxes=[[100, 120, 260, 300]])
    box = torch.tensor([[240.0, 200.0, 600.0, 520.0]])

    @torch.no_grad()
    def alone() -> None:
        sparse, dense = sam.prompt_encoder(points=None, boxes=box, masks=None)
        sam.mask_decoder(embedding.tensor, sam.prompt_encoder.get_dense_pe(), sparse, dense, False)

    alone()
    model.segment(embedding, prompts)
    times = [(seconds(alone), seconds(lambda: model.segment(embedding, prompts))) for _ in range(options.runs)]
    reference, ours = (statistics.median(column) for column in zip(*times, strict=True))
    print("| | median ms |\n|---|---|")
    print(f"| prompt encoder and mask decoder alone | {1000 * reference:.1f} |\n| prompt to mask | {1000 * ours:.1f} |")
    print(f"ratio {ours / reference:.3f}")


if __name__ == "__main__":
    main()

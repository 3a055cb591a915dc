"""Time of encoding a plane and decoding one prompt with sam_nano at several input sizes.

    python -m benchmarks.nano [--input-sizes 256 512] [--threads 1] [--runs 30]

Each run encodes a new plane of 256 x 256 pixels, and then decodes the mask of a box on it; the figures are medians.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import numpy as np
import torch

from benchmarks.workers import seconds
from napari_sam_lora import Model, Prompts, load_model


def measure(model: Model, runs: int) -> tuple[float, float]:
    """Return median milliseconds of encoding a plane, and from a box on it to the mask."""
    planes = np.random.default_rng(0).integers(0, 256, (runs + 1, 256, 256), np.uint8)
    prompts = Prompts(boxes=[[100, 120, 160, 190]])
    times = []
    for plane in planes:
        encoding = seconds(partial(model.encode, plane))
        embedding = model.encode(plane)  # from the cache
        times.append((encoding, seconds(partial(model.segment, embedding, prompts))))
    encode, prompt = (1000 * statistics.median(column) for column in zip(*times[1:], strict=True))  # the first warms up
    return encode, prompt


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input-sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| input size | encode a plane, ms | prompt to mask, ms |\n|---|---|---|")
    for size in options.input_sizes:
        encode, prompt = measure(load_model("sam_nano", device="cpu", input_size=size), options.runs)
        print(f"| {size} | {encode:.0f} | {prompt:.0f} |", flush=True)


if __name__ == "__main__":
    main()

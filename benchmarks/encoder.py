"""Time and memory of encoding a 1024 x 1024 plane with ViT-B, compared with segment-anything's own encoder.

    python -m benchmarks.encoder [--runs 5]

Each run is its own process with default settings: random weights from a checkpoint file, one plane to warm up, one
plane timed. Reference and ours alternate; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.workers import peak_megabytes, random_checkpoint, run_worker, seconds


def _reference(checkpoint: str) -> dict[str, float]:
    from segment_anything import SamPredictor, sam_model_registry  # noqa: PLC0415

    predictor = SamPredictor(sam_model_registry["vit_b"](checkpoint))
    predictor.model.eval()
    first, second = _planes()
    predictor.set_image(first)
    return {"seconds": seconds(lambda: predictor.set_image(second)), "megabytes": peak_megabytes()}


def _ours(checkpoint: str) -> dict[str, float]:
    from napari_sam_lora import load_model  # noqa: PLC0415

    model = load_model(checkpoint, device="cpu")
    first, second = _planes()
    model.encode(first)
    return {"seconds": seconds(lambda: model.encode(second)), "megabytes": peak_megabytes()}


def _planes() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 1024, 1024, 3), np.uint8)


def main() -> None:
    """Print a table and the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--worker", nargs=2, metavar=("WHICH", "CHECKPOINT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        which, checkpoint = options.worker
        print(json.dumps((_ours if which == "ours" else _reference)(checkpoint)))
        return
    found: dict[str, list[dict[str, float]]] = {"reference": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(random_checkpoint(Path(folder)))
        for _ in range(options.runs):
            for which, runs in found.items():
                runs.append(run_worker("benchmarks.encoder", "--worker", which, checkpoint))
                print(f"{which}: {runs[-1]['seconds']:.2f} s", flush=True)
    median = {
        which: {key: statistics.median(run[key] for run in runs) for key in ("seconds", "megabytes")}
        for which, runs in found.items()
    }
    print("| encoder | median seconds | peak MB |\n|---|---|---|")
    for which, values in median.items():
        print(f"| {which} | {values['seconds']:.2f} | {values['megabytes']:.0f} |")
    print(f"ratio {median['ours']['seconds'] / median['reference']['seconds']:.3f}")


if __name__ == "__main__":
    main()

"""Time of Find everything by plane size, with the dense head and with clicks; and of training with the dense head.

    python -m benchmarks.find_time [--sides 256 512 2048] [--skip-clicks-above 512] [--runs 3] [--steps 100]

Planes are mosaics of the bundled images of nuclei, another one for each run, so that nothing is in the cache; a first
run warms up. Clicks on large planes take minutes and are left out above a side: figures are measured, never scaled from
smaller planes. Training is a run on two of these images that are labelled completely, with the dense head and without,
in turn. A step is the median of the steps after the first thirty, in which most views of the images are encoded.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.workers import seconds
from napari_sam_lora.api import Method, Model, iter_fine_tune, load_model
from napari_sam_lora.io.samples import NUCLEI_COUNT, nuclei_pair
from napari_sam_lora.parameters.training import TrainConfig

SIDES = (256, 512, 2048)
LARGEST_WITH_CLICKS = 512
RUNS = 3
STEPS = 100
WARMING_UP = 30


def mosaic(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a plane uint8 (side, side): a random cut from bundled images in random order, turned at random."""
    images = [nuclei_pair(number)[0] for number in range(1, NUCLEI_COUNT + 1)]
    length = images[0].shape[0]
    tiles = range(-(-side // length) + 1)
    rows = [[np.rot90(images[rng.integers(len(images))], int(rng.integers(4))) for _ in tiles] for _ in tiles]
    top, left = rng.integers(length, size=2)
    return np.ascontiguousarray(np.block(rows)[top : top + side, left : left + side])


def plane_seconds(model: Model, method: Method, side: int, runs: int, rng: np.random.Generator) -> float:
    """Return the median seconds of finding everything in a new plane."""
    planes = [mosaic(side, rng) for _ in range(runs)]
    return statistics.median(seconds(partial(model.segment_everything, plane, method=method)) for plane in planes)


def training_seconds(model: Model, config: TrainConfig) -> tuple[float, float]:
    """Return the median seconds of a step, and the seconds of the whole run with its check."""
    run = iter_fine_tune(model, [nuclei_pair(1), nuclei_pair(2)], config)
    at = [0.0, *(report.seconds for report in run)]
    steps = np.diff(at)[WARMING_UP : config.steps]
    _, report = run.result()
    return statistics.median(steps.tolist()), report.seconds


def find_table(model: Model, sides: Sequence[int], largest: int, runs: int) -> str:
    """Return a table of the seconds that a plane takes with the head and with clicks, and their ratio."""
    rng = np.random.default_rng(0)
    plane_seconds(model, "head", sides[0], 1, rng)
    lines = ["| plane | head, s | clicks, s | clicks / head |", "|---|---|---|---|"]
    for side in sides:
        head = plane_seconds(model, "head", side, runs, rng)
        clicks = plane_seconds(model, "clicks", side, runs, rng) if side <= largest else None
        cells = (f"{head:.2f}", "not measured" if clicks is None else f"{clicks:.2f}")
        lines.append(f"| {side}² | {' | '.join(cells)} | {'' if clicks is None else f'{clicks / head:.1f}'} |")
    return "\n".join(lines)


def training_table(model: Model, steps: int, runs: int) -> str:
    """Return a table of the seconds of training with and without the dense head, and their ratio."""
    kinds = [TrainConfig(complete=True, steps=steps, dense=dense) for dense in (False, True)]
    measured = [[training_seconds(model, config) for config in kinds] for _ in range(runs)]
    step, whole = (
        [statistics.median(run[kind][figure] for run in measured) for kind in range(2)] for figure in range(2)
    )
    lines = ["| training | without head, s | with head, s | ratio |", "|---|---|---|---|"]
    for name, (without, with_head) in (("a step", step), (f"a run of {steps} steps with its check", whole)):
        lines.append(f"| {name} | {without:.2f} | {with_head:.2f} | {with_head / without:.2f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="sides of the planes in pixels")
    parser.add_argument("--skip-clicks-above", type=int, default=LARGEST_WITH_CLICKS, metavar="SIDE")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of a training run, more than thirty")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default="sam_nano", help="name or path of the base model, with a dense head")
    options = parser.parse_args(arguments)
    if options.steps <= WARMING_UP:
        parser.error(f"--steps must be more than {WARMING_UP}, not {options.steps}")
    torch.set_num_threads(options.threads)
    model = load_model(options.model, device="cpu")
    print(find_table(model, options.sides, options.skip_clicks_above, options.runs) + "\n", flush=True)
    print(training_table(model, options.steps, options.runs))


if __name__ == "__main__":
    main()

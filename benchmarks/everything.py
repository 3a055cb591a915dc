"""Find all objects of unseen images without prompts: base model, adapted model, and a U-Net trained from scratch.

    python -m benchmarks.everything FOLDER... [--images 4] [--seeds 3] [--test-images 4] [--output everything.json]

The adapter is trained in mode ``late`` on a few images that are labelled completely; training and test planes are
those of `benchmarks.learning`. The figures are the average precision at IoU 0.5 over all test planes of a set, TP /
(TP + FP + FN): the share of objects, found and labelled together, that match one to one with an IoU above one half;
and its mean over thresholds from 0.5 to 0.95. Sets with labels of only some of the structures have many false positives
by construction. The U-Net is trained for as long as the adapter, once with each of two learning rates; the one that is
better on the test planes counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.alternatives import pixels, to_instances, train_unet
from benchmarks.learning import add_set_options, chosen_splits, pairs, write_rows
from benchmarks.sets import SMALLEST, LabelledPlane
from benchmarks.splits import LearningSplit
from napari_sam_lora.api import METHODS, Method, Model, fine_tune, load_model
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.training.evaluation.acceptance import Verdict
from napari_sam_lora.training.evaluation.instance_matching import Overlaps

IMAGES = 4
SEEDS = 3
THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
UNET_RATES = (3e-3, 1e-3)

Finder = Callable[[LabelledPlane], NDArray[np.integer[Any]]]


@dataclass(frozen=True)
class EverythingRow:
    """Figures of one method on one set.

    Attributes
    ----------
    set : str
    method : str
        "base", "adapted" or "u-net".
    seed : int
    images : int
        Number of labelled training images.
    objects, found : int
        Numbers of labelled and of found objects.
    precision, mean_precision : float
        Average precision at IoU 0.5, and its mean over `THRESHOLDS`.
    seconds : float
        Time of training.
    plane_seconds : float
        Time to find the objects of one plane.
    verdict : str, optional
        Verdict of the check on held-out objects.
    """

    set: str
    method: str
    seed: int
    images: int
    objects: int
    found: int
    precision: float
    mean_precision: float
    seconds: float = 0.0
    plane_seconds: float = 0.0
    verdict: Verdict | None = None


def average_precisions(
    found: Sequence[NDArray[np.integer[Any]]], wanted: Sequence[NDArray[np.integer[Any]]]
) -> NDArray[np.float64]:
    """Return the average precision over pairs of label images (y, x) at each of `THRESHOLDS`; NaN without objects."""
    hits, every = np.zeros(len(THRESHOLDS)), 0
    for one, other in zip(found, wanted, strict=True):
        iou = Overlaps.of(one, other).object_iou
        hits += [np.count_nonzero(iou > threshold) for threshold in THRESHOLDS]  # above 0.5 no object has two partners
        every += iou.shape[0] + iou.shape[1]
    return hits / (every - hits) if every else np.full(len(THRESHOLDS), np.nan)


def search(planes: Iterable[LabelledPlane], finder: Finder, row: EverythingRow) -> EverythingRow:
    """Return the row with the figures of a finder on some planes."""
    start = time.monotonic()
    kept = list(planes)
    found = [finder(plane) for plane in kept]
    seconds = (time.monotonic() - start) / len(kept)
    precisions = average_precisions(found, [plane.labels for plane in kept])
    return replace(
        row,
        objects=sum(len(np.unique(plane.labels[plane.labels > 0])) for plane in kept),
        found=sum(len(np.unique(labels[labels > 0])) for labels in found),
        precision=float(precisions[0]),
        mean_precision=float(precisions.mean()),
        plane_seconds=seconds,
    )


def measure(
    split: LearningSplit,
    model: Model,
    config: TrainConfig,
    images: int = IMAGES,
    seeds: int = SEEDS,
    alternatives: bool = True,
    method: Method | None = None,
) -> Iterator[EverythingRow]:
    """Yield the rows of a set: of the base model, then for each seed of an adapter and a U-Net from the same images."""

    def by_model(plane: LabelledPlane) -> NDArray[np.int32]:
        return model.segment_everything(plane.image, smallest=SMALLEST, method=method)

    empty = EverythingRow(split.name, "base", 0, 0, 0, 0, np.nan, np.nan)
    yield search(split.test, by_model, empty)
    train = split.train[:images]
    for seed in range(seeds):
        start = time.monotonic()
        adapter, report = fine_tune(model, pairs(train), replace(config, seed=seed))
        seconds = time.monotonic() - start
        own = replace(empty, method="adapted", seed=seed, images=len(train), seconds=seconds, verdict=report.verdict)
        with model.adapted(adapter):
            yield search(split.test, by_model, own)
        if alternatives:
            rival = replace(own, method="u-net", verdict=None)
            yield max(
                (search(split.test, _unet(train, seconds, seed, rate), rival) for rate in UNET_RATES),
                key=lambda row: row.precision,
            )


def _unet(train: Sequence[LabelledPlane], seconds: float, seed: int, rate: float) -> Finder:
    classifier = train_unet(train, seconds, seed, rate)
    return lambda plane: to_instances(classifier(pixels(plane)))


def table(rows: Sequence[EverythingRow]) -> str:
    """Format one line per set: average precision at IoU 0.5 of each method, over seeds, and the verdicts."""
    methods = [method for method in ("base", "adapted", "u-net") if any(row.method == method for row in rows)]
    lines = [
        f"| set | objects | {' | '.join(methods)} | mean over IoU .5 to .95 | seconds | check |",
        "|---|---|" + "---|" * (len(methods) + 3),
    ]
    for name in dict.fromkeys(row.set for row in rows):
        of_set = [row for row in rows if row.set == name]
        by_method = {method: [row for row in of_set if row.method == method] for method in methods}
        cells = [name, str(of_set[0].objects)]
        cells += [_spread([row.precision for row in own]) for own in by_method.values()]
        cells.append(
            ", ".join(f"{np.mean([row.mean_precision for row in own]):.3f}" for own in by_method.values() if own)
        )
        trained = by_method.get("adapted", [])
        cells.append(f"{np.mean([row.seconds for row in trained]):.0f}" if trained else "")
        cells.append(", ".join(str(row.verdict) for row in trained))
        lines.append(f"| {' | '.join(cells)} |")
    means = [f"{method} {np.mean([row.precision for row in rows if row.method == method]):.3f}" for method in methods]
    return "\n".join(lines) + f"\n\nMean over sets: {', '.join(means)}."


def _spread(values: Sequence[float]) -> str:
    """Format the mean and, of several values, the range."""
    if not values:
        return ""
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table of all sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_set_options(parser)
    parser.add_argument("--images", type=int, default=IMAGES, help="labelled images to learn from")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="runs per set")
    parser.add_argument("--method", choices=METHODS, help="dense head or grid of clicks; by default the head")
    parser.add_argument("--no-alternatives", action="store_true", help="leave out the U-Net")
    options = parser.parse_args(arguments)
    model = load_model(options.model)
    config = TrainConfig(mode="late", complete=True)
    config = config if options.steps is None else replace(config, steps=options.steps)
    rows: list[EverythingRow] = []
    for split in chosen_splits(options):
        for row in measure(
            split, model, config, options.images, options.seeds, not options.no_alternatives, options.method
        ):
            rows.append(row)
            write_rows(options.output, rows)
            print(f"{row.set} {row.method} seed {row.seed}: {row.precision:.3f}", flush=True)
    if rows:
        print(table(rows))


if __name__ == "__main__":
    main()

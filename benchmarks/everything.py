"""Find all objects of unseen images without prompts: base model, adapted model, U-Net and random forest.

    python -m benchmarks.everything FOLDER... --counts 1 2 4 8 --seeds 3 --test-images 4 --output everything.json
    python -m benchmarks.everything FOLDER... --counts 4 --seeds 3 --labelled-share 0.25 --output quarter.json

Training and test planes are those of `benchmarks.learning`. Adapters are trained in mode ``late``. The U-Net is trained
for as long as the adapter of the same images and seed, once with each of two learning rates; the one that is better on
the test planes counts. Figures are the average precision at IoU 0.5 over all test planes of a set, TP / (TP + FP + FN):
the share of objects, found and labelled together, that match one to one with an IoU above one half; and its mean over
thresholds from 0.5 to 0.95.

Images are labelled completely, or with ``--labelled-share`` in part, see `benchmarks.partial_labels`. In sets with
incomplete labels (`benchmarks.sets.INCOMPLETE` and ``--incomplete``) no background is known, so that adapters keep the
head of the base model; of these sets only the share of the labelled objects that are found is given. They and sets of
parts of one organ (`benchmarks.sets.SEMANTIC`) do not count in the means.

Each row is written to ``--output`` when it is measured, and rows that are there already are not measured again: the
same command continues an interrupted run, and ``--methods`` measures some of the methods now and others later.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.alternatives import Classifier, pixels, to_instances, train_forest, train_unet
from benchmarks.everything_tables import METHODS, UNTRAINED, EverythingRow, Key, Method, tables
from benchmarks.learning import add_set_options, chosen_splits
from benchmarks.partial_labels import label_partly, training_pairs
from benchmarks.row_files import append_rows, read_rows
from benchmarks.sets import SMALLEST, LabelledPlane, annotation_of
from benchmarks.splits import LearningSplit
from napari_sam_lora.api import Model, fine_tune, load_model
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.text import pluralize
from napari_sam_lora.training.evaluation.instance_matching import Overlaps

COUNTS = (4,)
SEEDS = 3
DEFAULT_METHODS: tuple[Method, ...] = ("base", "adapted", "u-net", "forest")
THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
UNET_RATES = (3e-3, 1e-3)

Finder = Callable[[LabelledPlane], NDArray[np.integer[Any]]]


@dataclass(frozen=True)
class EverythingPlan:
    """Runs to do; the options of the command.

    Attributes
    ----------
    config : TrainConfig
        Settings of fine-tuning; the seed is that of the run.
    methods : tuple of str
        See `EverythingRow`.
    counts : tuple of int
        Numbers of labelled images; those that exceed the size of a set are skipped.
    seeds : int
        Runs of each.
    labelled_share : float
        Share of the objects in the training images that are labelled.
    unet_seconds : float, optional
        Training time of a U-Net; by default that of the adapter.
    incomplete : tuple of str
        Names of further sets with incomplete labels.
    settings : str
        Settings that all rows share.
    """

    config: TrainConfig
    methods: tuple[Method, ...] = DEFAULT_METHODS
    counts: tuple[int, ...] = COUNTS
    seeds: int = SEEDS
    labelled_share: float = 1.0
    unet_seconds: float | None = None
    incomplete: tuple[str, ...] = ()
    settings: str = ""

    def rows(self, split: LearningSplit) -> Iterator[EverythingRow]:
        """Yield what is to be measured on a set, still without figures."""
        empty = EverythingRow(
            split.name, "base", annotation=annotation_of(split.name, self.incomplete), settings=self.settings
        )
        yield from (replace(empty, method=method) for method in self.methods if method in UNTRAINED)
        for count in (count for count in self.counts if count <= len(split.train)):
            for seed in range(self.seeds):
                run = replace(empty, seed=seed, images=count, labelled_share=self.labelled_share)
                yield from (replace(run, method=method) for method in self.methods if method not in UNTRAINED)


def average_precisions(
    found: Sequence[NDArray[np.integer[Any]]], wanted: Sequence[NDArray[np.integer[Any]]]
) -> NDArray[np.float64]:
    """Return the average precision over pairs of label images (y, x) at each of `THRESHOLDS`; NaN without objects."""
    hits, every = _hits(found, wanted)
    return hits / (every - hits) if every else np.full(len(THRESHOLDS), np.nan)


def _hits(
    found: Sequence[NDArray[np.integer[Any]]], wanted: Sequence[NDArray[np.integer[Any]]]
) -> tuple[NDArray[np.float64], int]:
    """Count the pairs of objects that match at each of `THRESHOLDS`, and all objects, found and wanted."""
    hits, every = np.zeros(len(THRESHOLDS)), 0
    for one, other in zip(found, wanted, strict=True):
        iou = Overlaps.of(one, other).object_iou
        hits += [np.count_nonzero(iou > threshold) for threshold in THRESHOLDS]  # above 0.5 no object has two partners
        every += iou.shape[0] + iou.shape[1]
    return hits, every


def search(planes: Iterable[LabelledPlane], finder: Finder, row: EverythingRow) -> EverythingRow:
    """Return the row with the figures of a finder on some planes."""
    start = time.monotonic()
    kept = list(planes)
    found = [finder(plane) for plane in kept]
    seconds = (time.monotonic() - start) / len(kept)
    wanted = [plane.labels for plane in kept]
    precisions = average_precisions(found, wanted)
    is_known = row.annotation != "incomplete"
    return replace(
        row,
        objects=sum(len(np.unique(labels[labels > 0])) for labels in wanted),
        found=sum(len(np.unique(labels[labels > 0])) for labels in found),
        matched=int(_hits(found, wanted)[0][0]),
        precision=float(precisions[0]) if is_known else None,
        mean_precision=float(precisions.mean()) if is_known else None,
        plane_seconds=seconds,
    )


def measure(
    split: LearningSplit, model: Model, plan: EverythingPlan, earlier: Sequence[EverythingRow] = ()
) -> Iterator[EverythingRow]:
    """Yield the rows of a set that are not among the earlier ones."""
    done = {row.key: row for row in earlier}
    for row in plan.rows(split):
        if row.key not in done:
            measured = _measured(split, model, plan, row, done)
            if measured is not None:
                done[row.key] = measured
                yield measured


def _measured(
    split: LearningSplit, model: Model, plan: EverythingPlan, row: EverythingRow, done: dict[Key, EverythingRow]
) -> EverythingRow | None:
    """Return the row with its figures; None for a U-Net whose training time is not known."""
    if row.method in UNTRAINED:
        return search(split.test, head_finder(model) if row.method == "base" else click_finder(model), row)
    train = labelled(split.train[: row.images], row)
    if row.method == "adapted":
        return _adapted(train, split.test, model, plan, row)
    if row.method == "forest":
        start = time.monotonic()
        forest = train_forest(train, row.seed)
        return search(split.test, _finder(forest), replace(row, seconds=time.monotonic() - start))
    adapted = done.get(replace(row, method="adapted").key)
    seconds = plan.unet_seconds if adapted is None or plan.unet_seconds is not None else adapted.seconds
    if seconds is None:
        print(f"Left out: {row.set} u-net seed {row.seed}, because its training time is that of the adapted row.")
        return None
    trained = replace(row, seconds=seconds)
    candidates = (
        search(split.test, _finder(train_unet(train, seconds, row.seed, rate)), trained) for rate in UNET_RATES
    )
    return max(candidates, key=lambda candidate: candidate.figure)


def labelled(planes: Sequence[LabelledPlane], row: EverythingRow) -> list[LabelledPlane]:
    """Return training planes with what the user of a run knows of them."""
    if row.labelled_share < 1:
        rngs = [np.random.default_rng((row.seed, number)) for number in range(len(planes))]
        planes = [label_partly(plane, row.labelled_share, rng) for plane, rng in zip(planes, rngs, strict=True)]
    if row.annotation == "incomplete":  # scribbles could lie on objects without a label
        planes = [replace(plane, background=False) for plane in planes]
    return list(planes)


def _adapted(
    train: Sequence[LabelledPlane],
    test: Sequence[LabelledPlane],
    model: Model,
    plan: EverythingPlan,
    row: EverythingRow,
) -> EverythingRow:
    start = time.monotonic()
    adapter, report = fine_tune(model, training_pairs(train), replace(plan.config, seed=row.seed))
    seconds = time.monotonic() - start
    own = replace(row, seconds=seconds, verdict=report.verdict, own_head=adapter.dense is not None)
    with model.adapted(adapter):
        return search(test, head_finder(model), own)


def head_finder(model: Model) -> Finder:
    """Return *Find everything* with the model's dense head; with clicks if it has none."""
    return lambda plane: model.segment_everything(plane.image, smallest=SMALLEST)


def click_finder(model: Model) -> Finder:
    """Return *Find everything* with a grid of clicks."""
    return lambda plane: model.segment_everything(plane.image, smallest=SMALLEST, method="clicks")


def _finder(classifier: Classifier) -> Finder:
    return lambda plane: to_instances(classifier(pixels(plane)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_set_options(parser)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="labelled images to learn from")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="runs of each")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=DEFAULT_METHODS, help="only these methods")
    parser.add_argument("--labelled-share", type=float, default=1.0, help="share of the objects that are labelled")
    parser.add_argument("--unet-seconds", type=float, help="training time of a U-Net, instead of the adapter's")
    parser.add_argument("--incomplete", nargs="+", default=(), metavar="NAME", help="sets with incomplete labels")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of all sets."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not 0 < options.labelled_share <= 1:
        parser.error(f"--labelled-share must be above 0 and at most 1, not {options.labelled_share}")
    if "forest" in options.methods and find_spec("sklearn") is None:
        parser.error('the forest needs scikit-learn, which comes with the extra "benchmark"')
    config = TrainConfig(mode="late")
    config = config if options.steps is None else replace(config, steps=options.steps)
    plan = EverythingPlan(
        config,
        tuple(options.methods),
        tuple(options.counts),
        options.seeds,
        options.labelled_share,
        options.unet_seconds,
        tuple(options.incomplete),
        f"{options.model}, {config.steps} steps, {options.test_images} test images",
    )
    try:
        rows = read_rows(options.output, EverythingRow, plan.settings)
    except ValueError as error:
        parser.error(str(error))
    model = load_model(options.model)
    for split in chosen_splits(options):
        for row in measure(split, model, plan, rows):
            rows = append_rows(options.output, rows, [row])
            print(
                f"{row.set}, {pluralize(row.images, 'image')}, {row.method}, seed {row.seed}: {row.figure:.3f}",
                flush=True,
            )
    if rows:
        print("\n" + tables(rows))


if __name__ == "__main__":
    main()

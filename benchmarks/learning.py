"""Gain of fine-tuning with 1, 2, 4 or 8 labelled images, compared with a U-Net and a random forest.

    python -m benchmarks.learning FOLDER... [--counts 4] [--modes late] [--test-images 4] [--output learning.json]

Each folder is a set, see `benchmarks.sets`; all runs of a set are tested on the same planes, see `benchmarks.splits`.
The tables show the verdict of the check before activation beside the true gain of the adapter on the test planes. The
U-Net is trained for as long as the ``late`` run with the same images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from benchmarks.alternatives import score, train_forest, train_unet
from benchmarks.learning_tables import LearningRow, set_table, summary_table
from benchmarks.row_files import write_rows
from benchmarks.sets import LabelledPlane
from benchmarks.splits import LearningSplit, split_folders
from napari_sam_lora import FineTuneReport
from napari_sam_lora.api import Evaluation, Model, evaluate, fine_tune, load_model
from napari_sam_lora.parameters.training import MODES, Mode, TrainConfig

COUNTS = (1, 2, 4, 8)
TEST_IMAGES = 8
# Training time of a U-Net if no mode of fine-tuning is run.
UNET_SECONDS = 60.0


@dataclass(frozen=True)
class LearningPlan:
    """Runs to do; the options of the command.

    Attributes
    ----------
    model : str
        Name or path.
    counts : tuple of int
        Numbers of labelled images; those that exceed the size of a set are skipped.
    modes : tuple of str
    alternatives : bool
        Whether the U-Net and the forest are trained too.
    steps : int, optional
        Steps of training, instead of the default of `TrainConfig`.
    """

    model: str = "sam_nano"
    counts: tuple[int, ...] = COUNTS
    modes: tuple[Mode, ...] = MODES
    alternatives: bool = True
    steps: int | None = None

    def config(self, mode: Mode) -> TrainConfig:
        """Return default settings, except for the mode, and for the steps if they are chosen."""
        return TrainConfig(mode=mode) if self.steps is None else TrainConfig(mode=mode, steps=self.steps)


def measure(split: LearningSplit, plan: LearningPlan) -> Iterator[LearningRow]:
    """Yield the rows of one set, beginning with that of the base model."""
    model = load_model(plan.model)
    (base,) = evaluate(model, pairs(split.test))
    yield _tuned_row(split, "base", 0, base)
    for count in plan.counts:
        if count > len(split.train):
            continue
        seconds: dict[str, float] = {}
        for mode in plan.modes:
            row = _fine_tuned(model, split, count, mode, plan)
            seconds[mode] = row.seconds
            yield row
        if plan.alternatives:
            budget = seconds.get("late", max(seconds.values(), default=UNET_SECONDS))
            yield from _alternatives(split, count, base, budget)


def pairs(planes: Sequence[LabelledPlane]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return planes as pairs of image and labels, for training and evaluation."""
    return [(plane.image, plane.labels) for plane in planes]


def _fine_tuned(model: Model, split: LearningSplit, count: int, mode: Mode, plan: LearningPlan) -> LearningRow:
    adapter, report = fine_tune(model, pairs(split.train[:count]), plan.config(mode))
    (evaluation,) = evaluate(model, pairs(split.test), [adapter])
    return _tuned_row(split, mode, count, evaluation, report)


def _tuned_row(
    split: LearningSplit, method: str, images: int, evaluation: Evaluation, report: FineTuneReport | None = None
) -> LearningRow:
    figures = evaluation.figures
    return LearningRow(
        set=split.name,
        method=method,
        images=images,
        objects=figures.count,
        box_iou=figures.box_iou,
        click_iou=figures.click_iou,
        clicks=figures.clicks_to_good,
        seconds=0.0 if report is None else report.seconds,
        verdict=None if report is None else report.verdict,
    )


def _alternatives(split: LearningSplit, count: int, base: Evaluation, budget: float) -> Iterator[LearningRow]:
    """Yield the rows of U-Net and forest, on the objects that the base model was tested on."""
    objects = [(scored.plane, scored.label) for scored in base.objects]
    train = split.train[:count]
    trainers = {"u-net": lambda: train_unet(train, budget), "forest": lambda: train_forest(train)}
    for method, trainer in trainers.items():
        start = time.monotonic()
        classifier = trainer()
        seconds = time.monotonic() - start
        scores = score(classifier, split.test, objects)
        yield LearningRow(
            set=split.name,
            method=method,
            images=count,
            objects=len(objects),
            box_iou=scores.box_iou,
            click_iou=scores.click_iou,
            seconds=seconds,
        )


def add_set_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that the benchmarks on labelled sets share."""
    parser.add_argument("folders", type=Path, nargs="+", help="sets: folders with images/ and labels/")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="only the folders of these names")
    parser.add_argument("--test-images", type=int, default=TEST_IMAGES, help="largest number of test planes")
    parser.add_argument("--model", default="sam_nano", help="name or path of the base model")
    parser.add_argument("--steps", type=int, help="optimisation steps, instead of the default")
    parser.add_argument("--output", type=Path, help="write all figures to this JSON file")


def chosen_splits(options: argparse.Namespace) -> Iterator[LearningSplit]:
    """Yield the splits of the sets that the options name."""
    folders = [folder for folder in options.folders if not options.sets or folder.name in options.sets]
    return split_folders(folders, options.test_images)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each set, then the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_set_options(parser)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="labelled images to learn from")
    parser.add_argument("--modes", nargs="*", choices=MODES, default=MODES, help="modes of fine-tuning")
    parser.add_argument("--no-alternatives", action="store_true", help="leave out the U-Net and the forest")
    options = parser.parse_args(arguments)
    plan = LearningPlan(
        model=options.model,
        counts=tuple(options.counts),
        modes=tuple(options.modes),
        alternatives=not options.no_alternatives,
        steps=options.steps,
    )
    rows: list[LearningRow] = []
    for split in chosen_splits(options):
        of_set = list(measure(split, plan))
        rows += of_set
        print(set_table(of_set) + "\n", flush=True)
        # After each set, so that an interrupted run keeps its results.
        write_rows(options.output, rows)
    if rows:
        print(f"### All sets\n\n{summary_table(rows)}")


if __name__ == "__main__":
    main()

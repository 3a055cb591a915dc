"""Everything mode on unseen images: base model compared with adapted model.

    python -m benchmarks.everything FOLDER... [--test-images 4] [--output everything.json]

The adapter is trained in mode ``late`` on four labelled images; training and test planes are those of
`benchmarks.learning`. The figure is the average precision at IoU 0.5 over all test planes of a set, TP / (TP + FP +
FN): the share of objects, found and labelled together, that match one to one with an IoU above one half. Sets with
labels of only some of the structures have many false positives by construction.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.learning import add_set_options, chosen_splits, pairs, write_rows
from benchmarks.sets import SMALLEST, LabelledPlane
from benchmarks.splits import LearningSplit
from napari_sam_lora.api import Model, fine_tune, load_model
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.training.evaluation.acceptance import Verdict
from napari_sam_lora.training.evaluation.instance_matching import Matches, match_objects

IMAGES = 4


@dataclass(frozen=True)
class EverythingRow:
    """Figures of one set."""

    set: str
    objects: int
    base: Matches
    adapted: Matches
    verdict: Verdict


def search(model: Model, planes: Iterable[LabelledPlane]) -> Matches:
    """Run everything mode on planes with the active adapter of the model, if any."""
    found = (match_objects(model.segment_everything(plane.image, smallest=SMALLEST), plane.labels) for plane in planes)
    return sum(found, start=Matches())


def measure(split: LearningSplit, model: Model, config: TrainConfig) -> EverythingRow:
    """Train on the first images of a set, and search its test planes before and after."""
    adapter, report = fine_tune(model, pairs(split.train[:IMAGES]), config)
    base = search(model, split.test)
    with model.adapted(adapter):
        adapted = search(model, split.test)
    objects = base.true_positives + base.false_negatives
    return EverythingRow(split.name, objects, base, adapted, report.verdict)


def table(rows: Sequence[EverythingRow]) -> str:
    """Format one line per set, and the number of sets that are better."""
    lines = ["| set | objects | base: found | AP | adapted: found | AP | check |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        cells = [row.set, str(row.objects)]
        for matches in (row.base, row.adapted):
            found = matches.true_positives + matches.false_positives
            cells += [str(found), f"{matches.average_precision:.3f}"]
        lines.append(f"| {' | '.join(cells)} | {row.verdict} |")
    better = sum(row.adapted.average_precision > row.base.average_precision for row in rows)
    return "\n".join(lines) + f"\n\nBetter on {better} of {len(rows)} sets."


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table of all sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_set_options(parser)
    options = parser.parse_args(arguments)
    model = load_model(options.model)
    config = TrainConfig(mode="late") if options.steps is None else TrainConfig(mode="late", steps=options.steps)
    rows: list[EverythingRow] = []
    for split in chosen_splits(options):
        rows.append(measure(split, model, config))
        write_rows(options.output, rows)
    if rows:
        print(table(rows))


if __name__ == "__main__":
    main()

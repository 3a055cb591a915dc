"""The user's work to label all objects of a set, with and without fine-tuning on the images that are finished.

    python -m benchmarks.effort FOLDER... --seeds 3 --test-images 4 --output effort.json

Images come one after the other, in another order for each seed. For each, *Find everything* proposes objects, and a
simulated user works on them until all are right:

- a proposal without a labelled object of its own (no IoU of 0.5, or a second one for the same object) is dropped: one
  action;
- a proposal with an IoU of 0.8 is kept: no action;
- one with less is corrected with clicks, each in the middle of the largest error, until its IoU is 0.8; an object that
  was not proposed is added with clicks, the first in its middle: one action a click;
- if six clicks are not enough, the object is drawn by hand: ten more actions.

After 1, 2, 4 and 8 images, the model is fine-tuned on all finished ones, which are labelled completely. It starts from
the base model, and holds out what earlier runs held out. The adapter is used for proposals and clicks if it is judged
"better"; otherwise the earlier one stays active, as in napari. Comparisons: the base model all along; and proposals of
a U-Net that is trained on the same images for as long as the fine-tuning, with one learning rate, because nothing is
left to choose one on. Its proposals are corrected with clicks on the base model. Before the first training, these are
all the base model. The last comparison has no proposals: each object is added with clicks on the base model, which is
less work than to drop many wrong proposals.

Finished images are trained on with the labels of the set, not with masks of the simulated user. Sets with incomplete
labels are left out, because nobody knows which proposals are wrong there; sets of parts of one organ do not count in
the means. A set and seed that ``--output`` has already is not measured again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmarks.alternatives import pixels, to_instances, train_unet
from benchmarks.effort_tables import POLICIES, TRAINED_AFTER, Effort, EffortRow, Policy, tables
from benchmarks.everything import SEEDS, Finder, head_finder
from benchmarks.learning import add_set_options, chosen_splits
from benchmarks.partial_labels import training_pairs
from benchmarks.row_files import append_rows, read_rows
from benchmarks.sets import LabelledPlane, annotation_of
from benchmarks.splits import LearningSplit
from napari_sam_lora.api import Model, fine_tune, load_model
from napari_sam_lora.errors import TrainingError
from napari_sam_lora.model.predictor import Predictor
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.training.evaluation.acceptance import Verdict
from napari_sam_lora.training.evaluation.instance_matching import Overlaps
from napari_sam_lora.training.evaluation.metrics import GOOD_IOU, MAX_CLICKS, clicks_until_good, iou_after_clicks

IMAGES = 12
# A proposal with less is no proposal for an object.
LEAST_IOU = 0.5

Masks = Sequence[NDArray[np.bool_]]
# Numbers of clicks until objects (first argument) are good, from nothing or from masks that are corrected;
# `MAX_CLICKS` + 1 if clicks are not enough.
ClickCounter = Callable[[Masks, Masks | None], list[int]]


@dataclass(frozen=True, eq=False)
class Assistance:
    """The helper of the simulated user at present.

    Attributes
    ----------
    propose : Finder
    predictor : Predictor
        Turns clicks into masks.
    adapted : bool
        Whether an adapter is used.
    """

    propose: Finder
    predictor: Predictor
    adapted: bool = False

    def click_counter(self, plane: LabelledPlane) -> ClickCounter:
        """Return how many clicks objects of a plane need with the predictor."""
        embedding = self.predictor.encode(plane.image)

        def count(truth: Masks, found: Masks | None) -> list[int]:
            return clicks_until_good(list(iou_after_clicks(self.predictor, embedding, truth, MAX_CLICKS, found)))

        return count


@dataclass(frozen=True, eq=False)
class Lesson:
    """Result of a training.

    Attributes
    ----------
    assistance : Assistance
        What helps from now on.
    seconds : float
    verdict : str, optional
    """

    assistance: Assistance
    seconds: float = 0.0
    verdict: Verdict | None = None


# From the finished images and what helps at present.
Training = Callable[[Sequence[LabelledPlane], Assistance], Lesson]


def effort(found: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]], count: ClickCounter) -> Effort:
    """Count what the user does to turn proposals into the labels of a plane; both (y, x)."""
    overlaps = Overlaps.of(found, truth)
    iou = overlaps.object_iou
    ids, wanted = overlaps.ids[overlaps.ids > 0], overlaps.other_ids[overlaps.other_ids > 0]
    rows, columns = linear_sum_assignment(np.where(iou >= LEAST_IOU, iou, 0), maximize=True)
    pairs = [(row, column) for row, column in zip(rows, columns, strict=True) if iou[row, column] >= LEAST_IOU]
    poor = [(row, column) for row, column in pairs if iou[row, column] < GOOD_IOU]
    missed = np.delete(wanted, [column for _, column in pairs])
    correcting = _clicks(count, [truth == wanted[column] for _, column in poor], [found == ids[row] for row, _ in poor])
    adding = _clicks(count, [truth == label for label in missed], None)
    return Effort(
        objects=len(wanted),
        proposed=len(ids),
        accepted=len(pairs) - len(poor),
        dropped=len(ids) - len(pairs),
        corrected=len(poor),
        missed=len(missed),
        correcting_clicks=sum(min(clicks, MAX_CLICKS) for clicks in correcting),
        adding_clicks=sum(min(clicks, MAX_CLICKS) for clicks in adding),
        drawn=sum(clicks > MAX_CLICKS for clicks in correcting + adding),
    )


def _clicks(count: ClickCounter, truth: Masks, found: Masks | None) -> list[int]:
    return count(truth, found) if truth else []


class FineTuning:
    """Fine-tuning on the finished images; what one run holds out stays held out in the next, as in napari."""

    def __init__(self, model: Model, config: TrainConfig) -> None:
        self._model, self._config = model, config
        self._held_out: set[str] = set()

    def __call__(self, finished: Sequence[LabelledPlane], present: Assistance) -> Lesson:
        """Train on finished images; the adapter helps from now on if it is judged "better"."""
        start = time.monotonic()
        try:
            adapter, report = fine_tune(
                self._model, training_pairs(finished), self._config, held_out=sorted(self._held_out)
            )
        except TrainingError as error:  # such as no object that is large enough
            print(f"Not fine-tuned on {len(finished)} images: {error}", flush=True)
            return Lesson(present)
        seconds = time.monotonic() - start
        self._held_out |= set(report.held_out)
        if report.verdict != "better":
            return Lesson(present, seconds, report.verdict)
        with self._model.adapted(adapter):
            predictor = self._model.predictor

        def propose(plane: LabelledPlane) -> NDArray[np.integer[Any]]:
            with self._model.adapted(adapter):
                return head_finder(self._model)(plane)

        return Lesson(Assistance(propose, predictor, adapted=True), seconds, report.verdict)


def unet_training(seconds: Mapping[int, float], seed: int) -> Training:
    """Return the training of a U-Net, for a time that depends on the number of finished images."""

    def train(finished: Sequence[LabelledPlane], present: Assistance) -> Lesson:
        budget = seconds[len(finished)]
        if not budget:
            return Lesson(present)  # nothing to learn from
        classifier = train_unet(finished, budget, seed)
        return Lesson(replace(present, propose=lambda plane: to_instances(classifier(pixels(plane)))), budget)

    return train


def finish(
    planes: Sequence[LabelledPlane], base: Assistance, training: Training | None, row: EffortRow
) -> Iterator[EffortRow]:
    """Yield the work on each plane of a set, trained after `TRAINED_AFTER` of them."""
    lesson = Lesson(base)
    for number, plane in enumerate(planes):
        lesson = Lesson(lesson.assistance)
        if training is not None and number in TRAINED_AFTER:
            lesson = training(planes[:number], lesson.assistance)
        helper = lesson.assistance
        work = effort(helper.propose(plane), plane.labels, helper.click_counter(plane))
        yield replace(
            row,
            **asdict(work),
            image=number + 1,
            seconds=lesson.seconds,
            verdict=lesson.verdict,
            adapted=helper.adapted,
        )


def in_order(split: LearningSplit, images: int, seed: int) -> list[LabelledPlane]:
    """Return at most this many planes of a set, in the order of the split for seed 0, and shuffled for others."""
    planes = [*split.train, *split.test][:images]
    return planes if seed == 0 else [planes[i] for i in np.random.default_rng(seed).permutation(len(planes))]


def measure(
    split: LearningSplit, model: Model, config: TrainConfig, images: int, row: EffortRow, earlier: Sequence[EffortRow]
) -> list[EffortRow]:
    """Return the work on one set with the policy and seed of ``row``; a U-Net needs the rows of fine-tuning."""
    training: Training | None = None
    if row.policy == "fine-tuned":
        training = FineTuning(model, replace(config, seed=row.seed))
    elif row.policy == "u-net":
        training = unet_training(training_seconds(earlier, row.set, row.seed), row.seed)
    base = Assistance(_nothing if row.policy == "clicks" else head_finder(model), model.predictor)
    return list(finish(in_order(split, images, row.seed), base, training, row))


def _nothing(plane: LabelledPlane) -> NDArray[np.integer[Any]]:
    """Propose no object."""
    return np.zeros_like(plane.labels)


def training_seconds(rows: Sequence[EffortRow], name: str, seed: int) -> dict[int, float]:
    """Return the seconds of fine-tuning on a set by the number of finished images; empty if it was not measured."""
    wanted = (name, "fine-tuned", seed)
    return {row.image - 1: row.seconds for row in rows if (row.set, row.policy, row.seed) == wanted}


def _missing(
    split: LearningSplit, policies: Sequence[Policy], seeds: int, settings: str, rows: Sequence[EffortRow]
) -> Iterator[EffortRow]:
    """Yield what is still to be measured on a set, without figures."""
    done = {(row.set, row.policy, row.seed) for row in rows}
    for seed in range(seeds):
        for policy in (policy for policy in POLICIES if policy in policies):
            if (split.name, policy, seed) in done:
                continue
            if policy == "u-net" and not training_seconds(rows, split.name, seed):
                print(f"Left out: {split.name}, u-net, seed {seed}; its training time is that of fine-tuning.")
                continue
            about = annotation_of(split.name)
            yield EffortRow(set=split.name, policy=policy, seed=seed, image=0, annotation=about, settings=settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_set_options(parser)
    parser.add_argument("--images", type=int, default=IMAGES, help="largest number of images of a set")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="orders of the images, and runs")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=POLICIES, help="only these")
    parser.add_argument("--incomplete", nargs="+", default=(), metavar="NAME", help="sets with incomplete labels")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of all sets."""
    parser = _parser()
    options = parser.parse_args(arguments)
    config = TrainConfig(mode="late")
    config = config if options.steps is None else replace(config, steps=options.steps)
    settings = f"{options.model}, {config.steps} steps, {options.images} images, {options.test_images} test images"
    try:
        rows = read_rows(options.output, EffortRow, settings)
    except ValueError as error:
        parser.error(str(error))
    model = load_model(options.model)
    for split in chosen_splits(options):
        if annotation_of(split.name, options.incomplete) == "incomplete":
            print(f"Left out: {split.name} has incomplete labels.", flush=True)
            continue
        for row in _missing(split, options.policies, options.seeds, settings, rows):
            rows[:] = append_rows(options.output, rows, measure(split, model, config, options.images, row, rows))
            print(f"{row.set}, {row.policy}, seed {row.seed}: done", flush=True)
    if rows:
        print("\n" + tables(rows))


if __name__ == "__main__":
    main()

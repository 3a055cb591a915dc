"""Propagation through stacks from one labelled plane: base model, fine-tuned models, and interpolation.

    python -m benchmarks.propagation FOLDER... [--counts 1 2 4] [--test-stacks 3] [--output propagation.json]

Each folder is a set of stacks, see `benchmarks.sets`; numbered files of one size are one stack. Half of the stacks, at
most ``--test-stacks``, are for testing; of a single stack the left half is for training, the right half for testing.
Objects of the middle plane are followed. If an object has the same id in all planes, the figure is the volume IoU
without the middle plane. In sets with other ids in each plane, it is the mean 2-D IoU with the object of the largest
overlap, over `NEAR` planes on each side. ``copy`` repeats the middle plane. ``interpolated`` also gets the first and
last plane of each object, unlike the other methods, and interpolates the signed distance between them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from benchmarks.row_files import write_rows
from benchmarks.sets import read
from napari_sam_lora.api import Model, fine_tune, load_model
from napari_sam_lora.lora.adapter import Adapter
from napari_sam_lora.overlap import mask_iou
from napari_sam_lora.parameters.propagation import PropagationConfig
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.stacks.propagation.propagate import propagate_volume

COUNTS = (1, 2, 4)
NEAR = 3
SMALLEST = 30
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelledStack:
    """A stack and its labels, (z, y, x) each; ``has_ids`` is whether objects have the same id in all planes."""

    name: str
    image: NDArray[Any]
    labels: Labels
    has_ids: bool = True

    @property
    def middle(self) -> int:
        """Index of the middle one of the labelled planes."""
        filled = np.flatnonzero(self.labels.any((1, 2)))
        return int(filled[len(filled) // 2])


@dataclass(frozen=True)
class PropagationRow:
    """Figures of one method on one set."""

    set: str
    method: str
    planes: int
    objects: int
    iou: float
    planes_a_second: float | None = None
    planes_a_second_cached: float | None = None


def load_stacks(folder: Path) -> list[LabelledStack]:
    """Load the stacks of a set."""
    paths = sorted((folder / "images").iterdir())
    pairs = [(path.name, read(path), read(folder / "labels" / path.name).astype(np.int64)) for path in paths]
    if all(labels.ndim == 3 for _, _, labels in pairs):
        return [LabelledStack(name, image, labels) for name, image, labels in pairs]
    if len({labels.shape for _, _, labels in pairs}) > 1:
        raise SystemExit(f"{folder.name} holds single images of several sizes; stacks are needed.")
    image, labels = (np.stack([pair[kind] for pair in pairs]) for kind in (1, 2))
    return [LabelledStack(folder.name, image, labels, has_ids=False)]


def split(stacks: Sequence[LabelledStack], most: int) -> tuple[list[LabelledStack], list[LabelledStack]]:
    """Split stacks into those to train on and those to test on."""
    if len(stacks) > 1:
        kept = min(most, len(stacks) // 2)
        return list(stacks[:-kept]), list(stacks[-kept:])
    (lone,) = stacks
    half = lone.labels.shape[2] * 15 // 32
    halves = (slice(0, half), slice(-half, None))
    train, test = (LabelledStack(lone.name, lone.image[:, :, x], lone.labels[:, :, x], lone.has_ids) for x in halves)
    return [train], [test]


def training_pairs(stacks: Sequence[LabelledStack], count: int) -> list[tuple[NDArray[Any], Labels]]:
    """Return labelled planes, one of each stack in turn; first the middle ones, then others."""
    pairs = []
    for number in range(count):
        stack, turn = stacks[number % len(stacks)], number // len(stacks)
        filled = np.flatnonzero(stack.labels.any((1, 2)))
        position = (0.5, 0.3, 0.7, 0.15)[turn % 4]
        plane = int(filled[int(position * (len(filled) - 1))])
        pairs.append((stack.image[plane], stack.labels[plane]))
    return pairs


def score(stack: LabelledStack, found: Labels) -> list[float]:
    """Return the IoU of each object of the middle plane."""
    middle = stack.middle
    scores = []
    for label in np.unique(stack.labels[middle])[1:]:
        mask = found == label
        if stack.has_ids:
            truth = stack.labels == label
            mask[middle] = truth[middle] = False
            if np.count_nonzero(truth) >= SMALLEST:
                scores.append(float(mask_iou(mask.reshape(len(mask), -1), truth.reshape(len(truth), -1))))  # in 3-D
            continue
        for plane in range(max(0, middle - NEAR), min(len(mask), middle + NEAR + 1)):
            if plane != middle:
                scores.append(_best_iou(mask[plane], stack.labels[plane]))
    return scores


def copied(stack: LabelledStack) -> Labels:
    """Copy the labels of the middle plane to every plane."""
    return np.repeat(stack.labels[stack.middle][None], len(stack.labels), 0)


def interpolated(stack: LabelledStack) -> Labels:
    """Interpolate each object between its first, middle and last plane; objects must have one id in all planes."""
    out = np.zeros_like(stack.labels)
    middle = stack.middle
    for label in np.unique(stack.labels[middle])[1:]:
        truth = stack.labels == label
        planes = np.flatnonzero(truth.any((1, 2)))
        for first, last in ((planes[0], middle), (middle, planes[-1])):
            ends = [_signed_distance(truth[plane]) for plane in (first, last)]
            for plane in range(first, last + 1):
                share = (plane - first) / max(last - first, 1)
                out[plane][(1 - share) * ends[0] + share * ends[1] > 0] = label
    return out


def measure(
    folder: Path, model: Model, counts: Sequence[int], most: int, steps: int | None
) -> Iterator[PropagationRow]:
    """Yield the rows of one set."""
    train, test = split(load_stacks(folder), most)
    naive = [("copy", 1, [one for stack in test for one in score(stack, copied(stack))])]
    if all(stack.has_ids for stack in test):
        naive.append(("interpolated", 3, [one for stack in test for one in score(stack, interpolated(stack))]))
    for method, planes, scores in naive:
        yield PropagationRow(folder.name, method, planes, len(scores), float(np.mean(scores)))
    yield _propagated(folder.name, model, None, test, 0)
    for count in counts:
        config = TrainConfig() if steps is None else TrainConfig(steps=steps)
        adapter, _ = fine_tune(model, training_pairs(train, count), config)
        yield _propagated(folder.name, model, adapter, test, count)


def _propagated(
    name: str, model: Model, adapter: Adapter | None, stacks: Sequence[LabelledStack], count: int
) -> PropagationRow:
    scores: list[float] = []
    seconds, planes = [0.0, 0.0], 0
    with model.adapted(adapter):
        for stack in stacks:
            middle = stack.middle
            reach = len(stack.labels) if stack.has_ids else NEAR
            bounds = max(0, middle - reach), min(len(stack.labels) - 1, middle + reach)
            config = PropagationConfig(first=bounds[0], last=bounds[1])
            planes += bounds[1] - bounds[0]
            for run in range(2):  # the second time embeddings are cached
                start = time.perf_counter()
                found = propagate_volume(model, stack.image, stack.labels[middle], middle, config)
                seconds[run] += time.perf_counter() - start
            scores += score(stack, found)
    method = "base" if adapter is None else "fine-tuned"
    speed = [planes / spent for spent in seconds]
    return PropagationRow(name, method, count, len(scores), float(np.mean(scores)), speed[0], speed[1])


def _best_iou(mask: NDArray[np.bool_], labels: Labels) -> float:
    ids, counts = np.unique(labels[mask & (labels > 0)], return_counts=True)
    return float(mask_iou(mask, labels == ids[counts.argmax()])) if len(ids) else 0.0


def _signed_distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(ndi.distance_transform_edt(mask) - ndi.distance_transform_edt(~mask), np.float64)


def table(rows: Sequence[PropagationRow]) -> str:
    """Format rows as a Markdown table."""
    lines = [
        "| set | method | labelled planes | scores | mean IoU | planes/s | planes/s, cached |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        speeds = ["" if one is None else f"{one:.1f}" for one in (row.planes_a_second, row.planes_a_second_cached)]
        lines.append(
            f"| {row.set} | {row.method} | {row.planes} | {row.objects} | {row.iou:.3f} | {speeds[0]} | {speeds[1]} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="sets: folders with images/ and labels/")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="only the folders of these names")
    parser.add_argument("--counts", type=int, nargs="*", default=COUNTS, help="numbers of labelled training planes")
    parser.add_argument("--test-stacks", type=int, default=3, help="largest number of test stacks")
    parser.add_argument("--model", default="sam_nano", help="name or path of the base model")
    parser.add_argument("--steps", type=int, help="optimisation steps, instead of the default")
    parser.add_argument("--output", type=Path, help="write all figures to this JSON file")
    options = parser.parse_args(arguments)
    model, rows = load_model(options.model), list[PropagationRow]()
    for folder in options.folders:
        if options.sets and folder.name not in options.sets:
            continue
        if not holds_stacks(folder):
            print(f"Left out: {folder.name} holds no stack.\n", flush=True)
            continue
        of_set = list(measure(folder, model, options.counts, options.test_stacks, options.steps))
        rows += of_set
        print(table(of_set) + "\n", flush=True)
        write_rows(options.output, rows)


def holds_stacks(folder: Path) -> bool:
    """Return whether a set holds stacks: files with three axes, or planes of one size numbered without a gap."""
    paths = sorted((folder / "images").iterdir())
    if read(folder / "labels" / paths[0].name).ndim == 3:
        return True
    numbers = [path.stem.rpartition("_")[2] for path in paths]
    is_series = all(number.isdigit() for number in numbers) and [int(n) for n in numbers] == list(
        range(int(numbers[0]), int(numbers[0]) + len(numbers))
    )
    return is_series and len({read(path).shape for path in paths}) == 1


if __name__ == "__main__":
    main()

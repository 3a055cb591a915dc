"""Rows of the benchmark of everything mode, and their tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from benchmarks.sets import Annotation
from napari_sam_lora.text import pluralize
from napari_sam_lora.training.evaluation.acceptance import Verdict

Method = Literal["base", "clicks", "adapted", "u-net", "forest"]
METHODS: tuple[Method, ...] = get_args(Method)
UNTRAINED: tuple[Method, ...] = ("base", "clicks")

Key = tuple[str, Method, int, int, float]


@dataclass(frozen=True)
class EverythingRow:
    """Figures of one run of a method on the test planes of a set.

    Attributes
    ----------
    set, method : str
        "base" and "clicks": the base model with its dense head and with a grid of clicks; "adapted": with an adapter;
        "u-net"; "forest".
    seed, images : int
        Both 0 for the base model, which is not trained.
    labelled_share : float
        Share of the objects in the training images that are labelled; 1 for the base model.
    annotation : str
        See `benchmarks.sets.annotation_of`.
    objects, found, matched : int
        Numbers of labelled and of found objects, and of pairs of them with an IoU above 0.5.
    precision, mean_precision : float, optional
        Average precision at IoU 0.5, and its mean over thresholds from 0.5 to 0.95; None for incomplete labels.
    seconds : float
        Time of training.
    plane_seconds : float
        Time to find the objects of one plane.
    verdict : str, optional
        Verdict of the check on held-out objects.
    own_head : bool, optional
        Whether an adapter has a dense head; otherwise that of the base model finds objects.
    settings : str
        Settings that all rows share.
    """

    set: str
    method: Method
    seed: int = 0
    images: int = 0
    labelled_share: float = 1.0
    annotation: Annotation = "complete"
    objects: int = 0
    found: int = 0
    matched: int = 0
    precision: float | None = None
    mean_precision: float | None = None
    seconds: float = 0.0
    plane_seconds: float = 0.0
    verdict: Verdict | None = None
    own_head: bool | None = None
    settings: str = ""

    @property
    def key(self) -> Key:
        """Return the key of the measurement; two rows with the same key repeat each other."""
        return self.set, self.method, self.seed, self.images, self.labelled_share

    @property
    def figure(self) -> float:
        """Average precision at IoU 0.5; with incomplete labels the share of the labelled objects that are found."""
        if self.precision is not None:
            return self.precision
        return self.matched / self.objects if self.objects else float("nan")


def is_harmful(row: EverythingRow, base: EverythingRow | None) -> bool:
    """Return whether an adapter was judged "better" but finds objects less well on the test planes."""
    return base is not None and row.verdict == "better" and row.figure < base.figure


def tables(rows: Sequence[EverythingRow]) -> str:
    """Format a table for each number of images and share of labelled objects, then the means over sets."""
    trained = [row for row in rows if row.method not in UNTRAINED]
    kinds = sorted({(-row.labelled_share, row.images) for row in trained})
    parts = [_table(rows, images, -share) for share, images in kinds] or [_table(rows, 0, 1.0)]
    return "\n\n".join([*parts, means_table(rows)])


def _table(rows: Sequence[EverythingRow], images: int, share: float) -> str:
    """Format one line per set with the runs of one number of images, and of the base model."""
    chosen = _of_run(rows, images, share)
    methods = _methods(chosen)
    labelled = "" if share == 1 else f", {share:.0%} of their objects labelled"
    lines = [
        f"### {pluralize(images, 'labelled image')}{labelled}",
        "",
        f"| set | objects | {' | '.join(methods)} | training, s | check |",
        "|---|---|" + "---|" * (len(methods) + 2),
    ]
    for name in dict.fromkeys(row.set for row in chosen):
        of_set = [row for row in chosen if row.set == name]
        first = of_set[0]
        cells = [name if first.annotation == "complete" else f"{name} ({first.annotation})", str(first.objects)]
        cells += [_figures([row for row in of_set if row.method == method]) for method in methods]
        adapted = [row for row in of_set if row.method == "adapted"]
        cells.append(", ".join(_training_times(of_set)))
        cells.append(", ".join(_check(row, _base(rows, name)) for row in adapted))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def means_table(rows: Sequence[EverythingRow]) -> str:
    """Format one line per number of images and share: means over the sets with complete labels, and the verdicts.

    "Adapted if better" is the base model wherever the verdict is not "better", as in napari.
    """
    complete = [row for row in rows if row.annotation == "complete"]
    methods = _methods(complete)
    header = [*methods, *(["adapted if better"] if "adapted" in methods else []), 'judged "better"', "of these worse"]
    lines = [
        "### Means over sets with complete labels",
        "",
        f"| images | labelled | {' | '.join(header)} |",
        "|---|---|" + "---|" * len(header),
    ]
    trained = {(-row.labelled_share, row.images) for row in complete if row.method not in UNTRAINED}
    for share, images in sorted(trained):
        chosen = _of_run(complete, images, -share)
        names = list(dict.fromkeys(row.set for row in chosen))
        cells = [str(images), f"{-share:.0%}"]
        cells += [_mean_over_sets([r for r in chosen if r.method == method], len(names)) for method in methods]
        adapted = [row for row in chosen if row.method == "adapted"]
        if "adapted" in methods:
            cells.append(_mean_over_sets([_used(row, _base(rows, row.set)) for row in adapted], len(names)))
        better = [row for row in adapted if row.verdict == "better"]
        cells.append(f"{len(better)} of {len(adapted)}")
        cells.append(", ".join(f"{r.set} seed {r.seed}" for r in better if is_harmful(r, _base(rows, r.set))) or "none")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _used(row: EverythingRow, base: EverythingRow | None) -> EverythingRow:
    """Return the row of the model that is used after the check."""
    return row if row.verdict == "better" or base is None else base


def _check(row: EverythingRow, base: EverythingRow | None) -> str:
    head = "" if row.own_head is not False else " (head of the base model)"
    return f"{row.verdict}{', but worse' if is_harmful(row, base) else ''}{head}"


def _training_times(rows: Sequence[EverythingRow]) -> list[str]:
    """Format the mean training time of each method that is trained."""
    trained = [method for method in _methods(rows) if method not in UNTRAINED]
    times = [_mean([row for row in rows if row.method == method], lambda row: row.seconds) for method in trained]
    return [f"{method} {seconds:.0f}" for method, seconds in zip(trained, times, strict=True)]


def _base(rows: Sequence[EverythingRow], name: str) -> EverythingRow | None:
    return next((row for row in rows if row.set == name and row.method == "base"), None)


def _of_run(rows: Sequence[EverythingRow], images: int, share: float) -> list[EverythingRow]:
    """Return the rows of a number of images and a share, and those of the base model on the same sets."""
    trained = [
        row for row in rows if row.method not in UNTRAINED and (row.images, row.labelled_share) == (images, share)
    ]
    names = {row.set for row in trained} or {row.set for row in rows}
    return [row for row in rows if row.method in UNTRAINED and row.set in names] + trained


def _methods(rows: Sequence[EverythingRow]) -> list[Method]:
    return [method for method in METHODS if any(row.method == method for row in rows)]


def _figures(rows: Sequence[EverythingRow]) -> str:
    """Format average precision at IoU 0.5, with its range over seeds, and the mean over thresholds."""
    if not rows:
        return ""
    if rows[0].precision is None:
        return f"{_spread([row.figure for row in rows])} found"
    return f"{_spread([row.figure for row in rows])} / {_mean(rows, lambda row: row.mean_precision):.3f}"


def _mean_over_sets(rows: Sequence[EverythingRow], sets: int) -> str:
    """Format the means over sets of the means over seeds; with the number of sets, if some are missing."""
    by_set = [[row for row in rows if row.set == name] for name in dict.fromkeys(row.set for row in rows)]
    if not by_set:
        return ""
    at_half = np.mean([_mean(of_set, lambda row: row.precision) for of_set in by_set])
    over_all = np.mean([_mean(of_set, lambda row: row.mean_precision) for of_set in by_set])
    missing = "" if len(by_set) == sets else f" ({len(by_set)} of {sets} sets)"
    return f"{at_half:.3f} / {over_all:.3f}{missing}"


def _mean(rows: Sequence[EverythingRow], figure: Callable[[EverythingRow], float | None]) -> float:
    return float(np.mean([value for value in map(figure, rows) if value is not None]))


def _spread(values: Sequence[float]) -> str:
    """Format the mean and, of several values, the range."""
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"

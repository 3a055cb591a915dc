"""Rows of the benchmark of the user's work, and their tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from benchmarks.sets import Annotation
from napari_sam_lora.text import pluralize
from napari_sam_lora.training.evaluation.acceptance import Verdict

Policy = Literal["fine-tuned", "base", "u-net", "clicks"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
# Images are finished before each training.
TRAINED_AFTER = (1, 2, 4, 8)
# Actions to draw an object by hand.
DRAWING = 10


@dataclass(frozen=True)
class Effort:
    """Work on the proposals for one image until all its objects are right.

    Attributes
    ----------
    objects, proposed : int
        Numbers of labelled and of proposed objects.
    accepted : int
        Proposed objects that are kept as they are.
    dropped : int
        Proposed objects that are no object, or a second one for the same.
    corrected : int
        Proposed objects that are corrected with clicks.
    missed : int
        Objects that were not proposed; each needs a first click.
    correcting_clicks, adding_clicks : int
        Clicks on corrected and on missed objects, with those that did not help in the end.
    drawn : int
        Corrected or missed objects that are drawn by hand, because clicks were not enough.
    """

    objects: int = 0
    proposed: int = 0
    accepted: int = 0
    dropped: int = 0
    corrected: int = 0
    missed: int = 0
    correcting_clicks: int = 0
    adding_clicks: int = 0
    drawn: int = 0

    @property
    def actions(self) -> int:
        """Dropped objects, clicks, and `DRAWING` for each object drawn by hand."""
        return self.dropped + self.correcting_clicks + self.adding_clicks + DRAWING * self.drawn


@dataclass(frozen=True, kw_only=True)
class EffortRow(Effort):
    """Work on one image of a set.

    Attributes
    ----------
    set : str
    policy : str
        Who proposes: "base", the base model; "fine-tuned", the last adapter that was better, or the base model;
        "u-net", once it is trained; "clicks", nobody.
    seed : int
    image : int
        How many images are finished with this one.
    annotation : str
        See `benchmarks.sets.annotation_of`.
    seconds : float
        Time of the training before this image.
    verdict : str, optional
        Its verdict.
    adapted : bool
        Whether an adapter is used.
    settings : str
        Settings that all rows share.
    """

    set: str
    policy: Policy
    seed: int
    image: int
    annotation: Annotation = "complete"
    seconds: float = 0.0
    verdict: Verdict | None = None
    adapted: bool = False
    settings: str = ""


def tables(rows: Sequence[EffortRow]) -> str:
    """Format the actions an object as the work goes on, and what they are."""
    return "\n\n".join([_progress_table(rows), _kinds_table(rows)])


def actions_an_object(rows: Iterable[Effort]) -> float:
    """Return all actions divided by all objects; NaN without objects."""
    kept = list(rows)
    objects = sum(row.objects for row in kept)
    return sum(row.actions for row in kept) / objects if objects else float("nan")


def _progress_table(rows: Sequence[EffortRow]) -> str:
    """Format the actions an object, by set and by images between two trainings."""
    groups = image_groups(max(row.image for row in rows))
    names = [f"image {first}" if first == last else f"{first} to {last}" for first, last in groups]
    lines = [
        "### Actions a finished object",
        "",
        f"| set | images | objects | proposals | {' | '.join(names)} | all images | adapters used |",
        "|---|---|---|---|" + "---|" * (len(groups) + 2),
    ]
    for name in dict.fromkeys(row.set for row in rows):
        for policy, chosen in _by_policy(row for row in rows if row.set == name):
            first_seed = [row for row in chosen if row.seed == chosen[0].seed]
            marked = name if chosen[0].annotation == "complete" else f"{name} ({chosen[0].annotation})"
            cells = [marked, str(len(first_seed)), str(sum(row.objects for row in first_seed)), policy]
            cells += [_number(actions_an_object(_within(chosen, group))) for group in groups]
            cells += [_over_seeds(chosen), _verdicts(chosen)]
            lines.append(f"| {' | '.join(cells)} |")
    complete = [row for row in rows if row.annotation == "complete"]
    for policy, chosen in _by_policy(complete):
        cells = [f"mean of {pluralize(len({row.set for row in chosen}), 'set')}", "", "", policy]
        cells += [_number(_mean_over_sets(_within(chosen, group))) for group in groups]
        cells += [_number(_mean_over_sets(chosen)), ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _kinds_table(rows: Sequence[EffortRow]) -> str:
    """Format what the actions are, each for a hundred objects of all images and seeds."""
    kinds: dict[str, Callable[[EffortRow], int]] = {
        "accepted": lambda row: row.accepted,
        "dropped": lambda row: row.dropped,
        "corrected": lambda row: row.corrected,
        "clicks on them": lambda row: row.correcting_clicks,
        "missed": lambda row: row.missed,
        "clicks on those": lambda row: row.adding_clicks,
        "drawn by hand": lambda row: row.drawn,
    }
    lines = [
        "### For a hundred objects",
        "",
        f"| set | proposals | {' | '.join(kinds)} |",
        "|---|---|" + "---|" * len(kinds),
    ]
    for name in dict.fromkeys(row.set for row in rows):
        for policy, chosen in _by_policy(row for row in rows if row.set == name):
            objects = sum(row.objects for row in chosen)
            counts = [f"{100 * sum(map(count, chosen)) / objects:.0f}" for count in kinds.values()]
            lines.append(f"| {name} | {policy} | {' | '.join(counts)} |")
    return "\n".join(lines)


def image_groups(images: int) -> list[tuple[int, int]]:
    """Return the first and the last image of each group that the same model proposes for, counted from 1."""
    bounds = [0, *(count for count in TRAINED_AFTER if count < images), images]
    return [(first + 1, last) for first, last in pairwise(bounds)]


def _by_policy(rows: Iterable[EffortRow]) -> list[tuple[Policy, list[EffortRow]]]:
    kept = list(rows)
    groups = [(policy, [row for row in kept if row.policy == policy]) for policy in POLICIES]
    return [(policy, chosen) for policy, chosen in groups if chosen]


def _within(rows: Iterable[EffortRow], group: tuple[int, int]) -> list[EffortRow]:
    return [row for row in rows if group[0] <= row.image <= group[1]]


def _over_seeds(rows: Sequence[EffortRow]) -> str:
    """Format the actions an object of all images: the mean over seeds and its range."""
    seeds = dict.fromkeys(row.seed for row in rows)
    values = [actions_an_object(row for row in rows if row.seed == seed) for seed in seeds]
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f} to {max(values):.2f})"


def _mean_over_sets(rows: Sequence[EffortRow]) -> float:
    names = dict.fromkeys(row.set for row in rows)
    means = [actions_an_object(row for row in rows if row.set == name) for name in names]
    return float(np.mean(means)) if means else float("nan")


def _verdicts(rows: Sequence[EffortRow]) -> str:
    judged = [row.verdict for row in rows if row.verdict is not None]
    return f"{judged.count('better')} of {len(judged)}" if judged else ""


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}"

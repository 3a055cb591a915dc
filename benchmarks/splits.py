"""Which planes of a set are trained on and which tested on, so that no test plane resembles a training plane.

Images, and stacks as wholes, are drawn once by a fixed seed; a lone stack is cut in two across x, with a gap between.
Neither depends on how many images a run trains on: all counts are tested on the same planes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from benchmarks.sets import LabelledPlane, fit_all, load_planes

MOST_TRAINED_ON = 8
# This many images or stacks are kept for the test, if the set is large enough.
KEPT_FOR_TEST = 4
# Share of a lone stack's width between the part that is trained on and the part that is tested on.
GAP = 1 / 16


@dataclass(frozen=True, eq=False)
class LearningSplit:
    """Planes of a set.

    Attributes
    ----------
    name : str
        Of the set.
    train : tuple of LabelledPlane
        In the order in which they are labelled: one image is the first, two are the first two, and so on.
    test : tuple of LabelledPlane
    """

    name: str
    train: tuple[LabelledPlane, ...]
    test: tuple[LabelledPlane, ...]


def split_set(folder: Path, test_images: int) -> LearningSplit:
    """Split a set.

    Parameters
    ----------
    folder : Path
        See `benchmarks.sets`.
    test_images : int
        At most so many planes are tested on.

    Raises
    ------
    ValueError
        If the set is a lone image, or mixes images and stacks: then it cannot be split.
    """
    planes = load_planes(folder, MOST_TRAINED_ON, colour=True)
    if len({plane.stack is None for plane in planes}) > 1:
        raise ValueError(f"{folder.name} mixes images and stacks; learn from each kind alone.")
    groups = _shuffled_groups(planes)
    if len(groups) > 1:
        kept = max(len(groups) // 2, len(groups) - KEPT_FOR_TEST)
        first = min(MOST_TRAINED_ON, kept)
        train, test = (_in_turn([fit_all(group) for group in part]) for part in (groups[:first], groups[first:]))
    elif planes[0].stack is not None:
        train, test = (fit_all(part) for part in _halves(groups[0]))
    else:
        raise ValueError(f"{folder.name} is a lone image; at least two are needed to learn and to test.")
    return LearningSplit(folder.name, tuple(train[:MOST_TRAINED_ON]), tuple(test[:test_images]))


def _shuffled_groups(planes: Sequence[LabelledPlane]) -> list[list[LabelledPlane]]:
    """Planes of one image or stack together; groups, and planes within them, in a seeded order."""
    rng = np.random.default_rng(0)
    groups: dict[str, list[LabelledPlane]] = {}
    for plane in planes:
        groups.setdefault(plane.stack or plane.source, []).append(plane)
    names = list(groups)
    ordered = [groups[names[i]] for i in rng.permutation(len(names))]
    return [[group[i] for i in rng.permutation(len(group))] for group in ordered]


def _in_turn(groups: Sequence[Sequence[LabelledPlane]]) -> list[LabelledPlane]:
    """One plane of each group, then another of each, and so on."""
    return [plane for plane in chain.from_iterable(zip_longest(*groups)) if plane is not None]


def _halves(planes: Sequence[LabelledPlane]) -> tuple[list[LabelledPlane], list[LabelledPlane]]:
    parts: tuple[list[LabelledPlane], list[LabelledPlane]] = ([], [])
    for plane in planes:
        width = plane.labels.shape[1]
        half = round(width * (1 - GAP) / 2)
        for part, columns in zip(parts, (slice(0, half), slice(width - half, width)), strict=True):
            part.append(replace(plane, image=plane.image[:, columns], labels=plane.labels[:, columns]))
    return parts


def split_folders(folders: Iterable[Path], test_images: int) -> Iterator[LearningSplit]:
    """Split sets; those that cannot be split are named and left out."""
    for folder in folders:
        try:
            yield split_set(folder, test_images)
        except ValueError as error:
            print(f"Left out: {error}\n", flush=True)

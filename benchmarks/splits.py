"""Split a set into training planes and test planes that do not resemble them.

Images, and stacks as wholes, are shuffled with a fixed seed; a lone stack is cut in two across x, with a gap between.
The split does not depend on the number of training images: all counts are tested on the same planes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from benchmarks.sets import LabelledPlane, fit_all, load_planes

MOST_TRAINED_ON = 8
# Number of images or stacks that are kept for the test, if the set is large enough.
KEPT_FOR_TEST = 4
# Gap between the training half and the test half of a lone stack, as a share of its width.
GAP = 1 / 16


@dataclass(frozen=True, eq=False)
class LearningSplit:
    """Training planes and test planes of a set.

    Attributes
    ----------
    name : str
        Name of the set.
    train : tuple of LabelledPlane
        A run with n images uses the first n.
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
        Largest number of test planes.

    Raises
    ------
    ValueError
        If the set cannot be split, because it is a lone image, or mixes images and stacks.
    """
    planes = load_planes(folder, MOST_TRAINED_ON, colour=True)
    if len({plane.stack is None for plane in planes}) > 1:
        raise ValueError(f"{folder.name} mixes images and stacks; learn from each kind alone.")
    groups = _shuffled_groups(planes)
    if len(groups) > 1:
        kept = max(len(groups) // 2, len(groups) - KEPT_FOR_TEST)
        first = min(MOST_TRAINED_ON, kept)
        train, test = (_in_turn([fit_all(group) for group in side]) for side in (groups[:first], groups[first:]))
    elif planes[0].stack is not None:
        train, test = (fit_all(half) for half in _halves(groups[0]))
    else:
        raise ValueError(f"{folder.name} is a lone image; at least two are needed to learn and to test.")
    return LearningSplit(folder.name, tuple(train[:MOST_TRAINED_ON]), tuple(test[:test_images]))


def _shuffled_groups(planes: Sequence[LabelledPlane]) -> list[list[LabelledPlane]]:
    """Group planes by image or stack; shuffle groups, and planes within them, with a fixed seed."""
    rng = np.random.default_rng(0)
    groups: dict[str, list[LabelledPlane]] = {}
    for plane in planes:
        groups.setdefault(plane.stack or plane.source, []).append(plane)
    names = list(groups)
    ordered = [groups[names[i]] for i in rng.permutation(len(names))]
    return [[group[i] for i in rng.permutation(len(group))] for group in ordered]


def _in_turn(groups: Sequence[Sequence[LabelledPlane]]) -> list[LabelledPlane]:
    """Return one plane of each group, then another of each, and so on."""
    return [plane for plane in chain.from_iterable(zip_longest(*groups)) if plane is not None]


def _halves(planes: Sequence[LabelledPlane]) -> tuple[list[LabelledPlane], list[LabelledPlane]]:
    halves: tuple[list[LabelledPlane], list[LabelledPlane]] = ([], [])
    for plane in planes:
        width = plane.labels.shape[1]
        length = round(width * (1 - GAP) / 2)
        for half, columns in zip(halves, (slice(0, length), slice(width - length, width)), strict=True):
            half.append(replace(plane, image=plane.image[:, columns], labels=plane.labels[:, columns]))
    return halves


def split_folders(folders: Iterable[Path], test_images: int) -> Iterator[LearningSplit]:
    """Split sets; name those that cannot be split, and skip them."""
    for folder in folders:
        try:
            yield split_set(folder, test_images)
        except ValueError as error:
            print(f"Left out: {error}\n", flush=True)

"""Plan a propagation: which object is followed through which planes, in which direction."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.parameters.propagation import Direction


@dataclass(frozen=True, eq=False)
class Sweep:
    """One pass through the stack in one direction.

    Attributes
    ----------
    name : str
        "up" or "down".
    bounds : tuple of int
        First and last plane of the propagation.
    keys : mapping of int to list of int
        Key planes of each object, in rising order.
    has_opposite : bool
        Whether another sweep goes the other way, and does the other half of the planes between two key planes.
    """

    name: Literal["up", "down"]
    bounds: tuple[int, int]
    keys: Mapping[int, Sequence[int]]
    has_opposite: bool

    @property
    def step(self) -> int:
        """Step from a plane to the next: 1 or -1."""
        return 1 if self.name == "up" else -1

    def planes(self) -> range:
        """Return the planes from the first key plane to the bound."""
        if self.name == "up":
            return range(min(own[0] for own in self.keys.values()), self.bounds[1] + 1)
        return range(max(own[-1] for own in self.keys.values()), self.bounds[0] - 1, -1)

    def keys_at(self, index: int) -> list[int]:
        """List the objects for which this is a key plane."""
        return [label for label, own in self.keys.items() if own[bisect_left(own, index) :][:1] == [index]]

    def reaches(self, label: int, index: int) -> bool:
        """Return whether an object is followed into this plane: no key plane, and not nearer to the next one ahead."""
        if not self.bounds[0] <= index <= self.bounds[1]:
            return False
        own = self.keys[label]
        below, above = bisect_right(own, index) - 1, bisect_left(own, index)
        if below == above:  # a key plane
            return False
        back, ahead = (below, above) if self.step > 0 else (above, below)
        if not 0 <= back < len(own):
            return False
        if not self.has_opposite or not 0 <= ahead < len(own):
            return True
        since, until = abs(index - own[back]), abs(own[ahead] - index)
        return since <= until if self.step > 0 else since < until

    def planned(self, count: int) -> NDArray[np.bool_]:
        """Return bool (count,): the planes into which any object is followed, if none ends early."""
        planned = np.zeros(count, np.bool_)
        for label in {
            tuple(own): label for label, own in self.keys.items()
        }.values():  # one of those with the same key planes
            planned |= np.array([self.reaches(label, index) for index in range(count)])
        return planned


@dataclass(frozen=True, eq=False)
class Plan:
    """The sweeps of a propagation.

    Attributes
    ----------
    sweeps : tuple of Sweep
    planned : tuple of bool (n,)
        For each sweep, the planes that it visits if no object ends early.
    """

    sweeps: tuple[Sweep, ...]
    planned: tuple[NDArray[np.bool_], ...]

    @property
    def total(self) -> int:
        """Number of planes to do if no object ends early."""
        return int(sum(one.sum() for one in self.planned))

    def done(self, sweep: Sweep, index: int) -> int:
        """Return the number of planes done once this sweep has done this plane."""
        before = 0
        for one, planned in zip(self.sweeps, self.planned, strict=True):
            if one is sweep:
                return before + int(planned[: index + 1].sum() if sweep.step > 0 else planned[index:].sum())
            before += int(planned.sum())
        return before

    def is_visited_again(self, index: int, sweep: Sweep) -> bool:
        """Return whether a later sweep comes to this plane."""
        later = self.planned[self.sweeps.index(sweep) + 1 :]
        return any(planned[index] for planned in later)


def plan_sweeps(keys: Mapping[int, Sequence[int]], bounds: tuple[int, int], direction: Direction) -> Plan:
    """Plan the sweeps of a propagation.

    Parameters
    ----------
    keys : mapping of int to list of int
        Key planes of each object, in rising order.
    bounds : tuple of int
        First and last plane, included.
    direction : str
    """
    names: tuple[Literal["up", "down"], ...] = ("up", "down") if direction == "both" else (direction,)
    sweeps = tuple(Sweep(name, bounds, keys, direction == "both") for name in names)
    return Plan(sweeps, tuple(sweep.planned(bounds[1] + 1) for sweep in sweeps))

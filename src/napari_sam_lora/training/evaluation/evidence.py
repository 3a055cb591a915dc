"""Tell a gain or a loss of paired objects from chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

# Probability of chance that a gain, or a loss, may have: 5 % to one side, so that the interval shown is that of 90 %.
CHANCE = 0.05


@dataclass(frozen=True)
class Gain:
    """Mean gain over objects that both models have segmented; below zero it is a loss.

    Attributes
    ----------
    mean : float
    standard_error : float
    count : int
        Number of objects.
    """

    mean: float
    standard_error: float
    count: int

    @classmethod
    def of(cls, differences: NDArray[np.float64]) -> Gain:
        """Average the gains (n,) of single objects; n is at least 2."""
        count = len(differences)
        return cls(float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(count)), count)

    def margin(self, chance: float = CHANCE) -> float:
        """Return half the width of the interval that leaves so much to chance on each side (Student's t)."""
        return float(stdtrit(self.count - 1, 1 - chance) * self.standard_error)

    @property
    def is_certain(self) -> bool:
        """It is a gain, and not by chance."""
        return self.mean > self.margin()

    def is_certain_loss(self, least: float = 0.0, chance: float = CHANCE) -> bool:
        """Return whether it is a loss of at least ``least``, and not by chance."""
        return self.mean < -max(least, self.margin(chance))

    def is_large_loss(self, large: float) -> bool:
        """Return whether it is a loss of more than ``large`` and than its standard error.

        Such a loss counts, although it may be chance.
        """
        return self.mean < -max(large, self.standard_error)

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ± {self.margin():.3f}"

"""Do no harm: is the adapted model better than the base on objects that it has not seen?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.training.metrics import ObjectScore
from napari_sam_lora.training.split import FEWEST_OBJECTS

# A smaller mean gain is none: it cannot be seen in masks, and another choice of held-out objects could turn its sign.
LEAST_GAIN = 0.002
Verdict = Literal["better", "not better", "too few"]


@dataclass(frozen=True)
class Decision:
    """A verdict and its reason in plain words."""

    verdict: Verdict
    reason: str


def decide(base: Sequence[ObjectScore], adapted: Sequence[ObjectScore]) -> Decision:
    """Compare base and adapted model object by object.

    "better" needs a mean gain of `LEAST_GAIN` over boxes and clicks together, and neither boxes nor clicks may lose by
    more than the standard error of the paired difference.

    Parameters
    ----------
    base, adapted : sequence of ObjectScore
        The same held-out objects in the same order.
    """
    if len(base) < FEWEST_OBJECTS:
        return Decision(
            "too few",
            f"Only {len(base)} labelled object{'s' * (len(base) != 1)} could be held out to check the adapter; "
            f"label at least {FEWEST_OBJECTS}, better 20, to know whether it helps.",
        )
    gains = {
        "boxes": _difference(base, adapted, "box_iou"),
        "first clicks": _difference(base, adapted, "click_iou"),
    }
    shown = ", ".join(f"{gain.mean():+.3f} IoU with {name}" for name, gain in gains.items())
    for name, gain in gains.items():
        if gain.mean() < -_standard_error(gain):
            return Decision("not better", f"On {len(base)} held-out objects {name} got worse: {shown}.")
    mean = np.mean(list(gains.values()))
    if mean < LEAST_GAIN:
        gained = "nothing was gained" if mean <= 0 else "the gain is too small to matter"
        return Decision("not better", f"On {len(base)} held-out objects {gained}: {shown}.")
    return Decision("better", f"On {len(base)} held-out objects: {shown}.")


def _difference(base: Sequence[ObjectScore], adapted: Sequence[ObjectScore], name: str) -> NDArray[np.float64]:
    return np.array([getattr(b, name) - getattr(a, name) for a, b in zip(base, adapted, strict=True)])


def _standard_error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))

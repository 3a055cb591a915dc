"""Doubtful masks: much larger than the object in its key planes, or with other intensities.

Where an object ends at a larger structure, each mask resembles the one before, and only the key planes show that
propagation has left the object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from napari_sam_lora.parameters.propagation import PropagationConfig
from napari_sam_lora.stacks.propagation.contrast import Intensities

Doubt = Literal["size", "intensity"]

# Changes of intensity below this share of the contrast are no doubt: objects fade towards their ends.
_FADING = 0.65


@dataclass(frozen=True)
class Reference:
    """An object as its key planes show it.

    Attributes
    ----------
    area : int
        Its area in the key plane where it is largest, in pixels.
    intensities : Intensities
        As in the key plane that was passed last.
    """

    area: int
    intensities: Intensities


def doubt_about(area: int, found: Intensities, reference: Reference, config: PropagationConfig) -> Doubt | None:
    """Return why a mask is doubtful; None if it is not.

    Parameters
    ----------
    area : int
        Area of the mask in pixels.
    found : Intensities
        Those of the mask.
    reference : Reference
    config : PropagationConfig
    """
    # One pixel more on each side is no doubt, however small the object is.
    if np.sqrt(area) > np.sqrt(reference.area * config.max_growth_from_key) + 2:
        return "size"
    key = reference.intensities
    tolerated = max(config.max_intensity_change * key.spread, _FADING * abs(key.above_ring))
    # The whole plane may be brighter, or the surroundings may be others: only if both differ it is another structure.
    changes = abs(found.median - key.median), abs(found.above_ring - key.above_ring)
    return "intensity" if min(changes) > tolerated else None


def count_doubts(before: Mapping[int, int], doubts: Mapping[int, Doubt]) -> dict[int, int]:
    """Return for each doubtful object the number of planes in a row, this one included, in which it is doubtful."""
    return {label: before.get(label, 0) + 1 for label in doubts}

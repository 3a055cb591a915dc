"""Pixel size and time interval of a layer, in one unit of length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_sam_lora.io.units import MICROMETRES, SECONDS, length_unit, time_unit


@dataclass(frozen=True)
class PixelSize:
    """Size of a pixel along z, y and x.

    Attributes
    ----------
    spacing : tuple of float
        z, y, x, all in one unit; z is 1 where there is none.
    unit : str
        Such as "µm" or "mm"; empty if it is not known.
    has_depth : bool
        The axis before y is a depth, not time or the number of an image.
    interval : float
        Seconds between time points; 0 if it is not known.
    """

    spacing: tuple[float, float, float]
    unit: str = ""
    has_depth: bool = True
    interval: float = 0.0

    @classmethod
    def of_layer(cls, attributes: Mapping[str, Any]) -> PixelSize:
        """Convert the ``scale``, ``units`` and ``axis_labels`` of a napari layer, whose last axes are y and x."""
        scale = [abs(float(step)) for step in np.atleast_1d(attributes.get("scale", ()))]
        scale = [1.0] * (3 - len(scale)) + scale
        units = [str(unit) for unit in attributes.get("units") or ()]
        length_units = [length_unit(unit) for unit in ["", "", "", *units][-3:]]
        names = ["", *(str(name).lower() for name in attributes.get("axis_labels") or ())]
        time_units = [time_unit(unit) for unit in units]
        unit = length_units[2] if length_units[1] else ""
        is_time = bool(time_units[-3:-2] and time_units[-3]) or names[-3:-2] in (["t"], ["time"])
        has_depth = not is_time and (bool(length_units[0]) or not unit)
        factors = [MICROMETRES[one] / MICROMETRES[unit] if unit and one else 1.0 for one in length_units]
        z, y, x = (step * factor for step, factor in zip(scale[-3:], factors, strict=True))
        time_axis = next((axis for axis, time in enumerate(time_units) if time), None)
        interval = 0.0
        if time_axis is not None:
            interval = scale[len(scale) - len(time_units) + time_axis] * SECONDS[time_units[time_axis]]
        return cls((z if has_depth else 1.0, y, x), unit, has_depth, interval)

    @property
    def is_known(self) -> bool:
        """Return whether these are lengths, not counts of pixels."""
        return self.unit in MICROMETRES

    @property
    def micrometres(self) -> tuple[float, float, float]:
        """Spacing in µm; unchanged if the unit is not known."""
        factor = MICROMETRES.get(self.unit, 1.0)
        return tuple(step * factor for step in self.spacing)  # type: ignore[return-value]

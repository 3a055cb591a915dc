"""Physical area or volume of objects in the units of their layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pint


@dataclass(frozen=True)
class PixelSize:
    """Area or volume of one pixel of a layer.

    Attributes
    ----------
    factor : float
        Area or volume of a pixel.
    unit : str
        "px", or an area or volume such as "µm²".
    kind : str
        "Area" or "Volume".
    """

    factor: float = 1.0
    unit: str = "px"
    kind: str = "Area"

    @classmethod
    def of(cls, layer: Any) -> PixelSize:
        """Compute it from the scale and units of a layer; only axes with a unit of length count.

        If one of the last two axes has none, sizes are in pixels.
        """
        lengths = [_is_length(unit) for unit in layer.units]
        scale = np.abs(np.asarray(layer.scale, np.float64))
        if layer.ndim < 2 or not all(lengths[-2:]):
            return cls()
        depth = layer.ndim > 2 and lengths[-3]
        axes = range(layer.ndim - 2 - depth, layer.ndim)
        registry = pint.get_application_registry()
        unit = layer.units[-1]
        sides = [scale[axis] * registry.Quantity(1, layer.units[axis]).to(unit).magnitude for axis in axes]
        power = "³" if depth else "²"
        return cls(float(np.prod(sides)), f"{unit:~P}{power}", "Volume" if depth else "Area")

    def format(self, pixels: int) -> str:
        """Format a size with three significant digits, without the unit."""
        if self.unit == "px":
            return str(pixels)
        value = pixels * self.factor
        if value == 0 or 0.01 <= value < 1e5:
            digits = max(0, 2 - int(np.floor(np.log10(value)))) if value else 0
            return f"{value:.{digits}f}"
        return f"{value:.2e}"


def _is_length(unit: Any) -> bool:
    return bool(unit.is_compatible_with("meter"))

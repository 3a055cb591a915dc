"""What all writers of labels share: types that hold ids, pixel sizes, and files that may not be replaced."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.units import MICROMETRES, SECONDS, length_unit, time_unit


@dataclass(frozen=True)
class PixelSize:
    """Size of a pixel along z, y and x.

    Attributes
    ----------
    sides : tuple of float
        z, y, x, all in one unit; z is 1 where there is none.
    unit : str
        Such as "µm" or "mm"; empty if it is not known.
    has_depth : bool
        Whether the axis before y is a depth, and not time or the number of an image.
    interval : float
        Seconds between points in time; 0 if they are not known.
    """

    sides: tuple[float, float, float]
    unit: str = ""
    has_depth: bool = True
    interval: float = 0.0

    @classmethod
    def of_layer(cls, attributes: Mapping[str, Any]) -> PixelSize:
        """Of the ``scale``, ``units`` and ``axis_labels`` of a napari layer; y and x are its last axes."""
        scale = [abs(float(step)) for step in np.atleast_1d(attributes.get("scale", ()))]
        scale = [1.0] * (3 - len(scale)) + scale
        units = [str(unit) for unit in attributes.get("units") or ()]
        lengths = [length_unit(unit) for unit in ["", "", "", *units][-3:]]
        names = ["", *(str(name).lower() for name in attributes.get("axis_labels") or ())]
        times = [time_unit(unit) for unit in units]
        unit = lengths[2] if lengths[1] else ""
        is_time = bool(times[-3:-2] and times[-3]) or names[-3:-2] in (["t"], ["time"])
        has_depth = not is_time and (bool(lengths[0]) or not unit)
        factors = [MICROMETRES[one] / MICROMETRES[unit] if unit and one else 1.0 for one in lengths]
        z, y, x = (step * factor for step, factor in zip(scale[-3:], factors, strict=True))
        at = next((number for number, time in enumerate(times) if time), None)
        interval = 0.0 if at is None else scale[len(scale) - len(times) + at] * SECONDS[times[at]]
        return cls((z if has_depth else 1.0, y, x), unit, has_depth, interval)

    @property
    def is_known(self) -> bool:
        """Whether these are lengths, not counts of pixels."""
        return self.unit in MICROMETRES

    @property
    def micrometres(self) -> tuple[float, float, float]:
        """The same in µm; as it is if the unit is not known."""
        factor = MICROMETRES.get(self.unit, 1.0)
        return tuple(side * factor for side in self.sides)  # type: ignore[return-value]


def id_type(labels: NDArray[np.integer[Any]]) -> np.dtype[Any]:
    """The smallest unsigned type that holds all ids of labels.

    Raises
    ------
    InputError
        If an id is negative, or larger than 32 bits hold.
    """
    if labels.dtype.kind not in "biu":
        raise InputError(f"Labels are whole numbers, not {labels.dtype}.")
    if labels.dtype.kind == "i" and labels.min(initial=0) < 0:
        raise InputError("Labels must not be negative.")
    largest = int(labels.max(initial=0))
    if largest >= 2**32:
        raise InputError(f"Files hold ids up to {2**32 - 1}, not {largest}; renumber the labels first.")
    return np.dtype(np.uint8 if largest < 2**8 else np.uint16 if largest < 2**16 else np.uint32)


def check_free(paths: Iterable[str | Path], overwrite: bool = False) -> None:
    """Make sure that no file is replaced that was not meant to be.

    Raises
    ------
    InputError
        If one exists and ``overwrite`` is not given, or is a folder.
    """
    for path in map(Path, paths):
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a file.")
        if path.exists() and not overwrite:
            raise InputError(f"{path} exists already: choose another name, or say that it may be replaced.")


def set_aside(path: str | Path) -> Path | None:
    """Rename a file that is in the way to ``NAME (previous).ENDING``; returns where it is, None if there was none."""
    target = Path(path)
    if not target.exists():
        return None
    if target.is_dir():
        raise InputError(f"{target} is a folder; name a file.")
    bare, dot, ending = target.name.partition(".") if not target.name.startswith(".") else (target.name, "", "")
    number = 1
    while True:
        words = "previous" if number == 1 else f"previous {number}"
        place = target.with_name(f"{bare} ({words}){dot}{ending}")
        if not place.exists():
            os.replace(target, place)
            return place
        number += 1


@contextmanager
def kept_aside(paths: Iterable[str | Path]) -> Iterator[None]:
    """Keep files that are in the way under other names, and warn of it; if the block raises, they are put back."""
    moved = [(Path(path), aside) for path in paths if (aside := set_aside(path)) is not None]
    try:
        yield
    except BaseException:
        for file, aside in moved:
            if not file.exists():
                aside.rename(file)
        raise
    if moved:
        kept = ", ".join(aside.name for _, aside in moved[:3]) + (" and so on" if len(moved) > 3 else "")
        warnings.warn(f"The file that was there before is kept as {kept}.", stacklevel=4)

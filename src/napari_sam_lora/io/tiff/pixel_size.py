"""Read pixel sizes of TIFF files from OME and ImageJ metadata and from resolution tags."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from typing import Any

from napari_sam_lora.io.units import length_unit, time_unit

_TAG_UNITS = {2: "inch", 3: "cm"}


def pixel_sizes(file: Any) -> dict[str, tuple[float, str]]:
    """Return size and unit along the axes "Z", "Y", "X" and "T", as far as the file holds them.

    Parameters
    ----------
    file : tifffile.TiffFile

    Returns
    -------
    dict of str to (float, str)
        Units such as "µm" and "s". Empty if the file holds none.
    """
    if file.is_ome:
        return _from_ome(file)
    if file.is_imagej:
        return _from_imagej(file)
    return _from_tags(file)


def _from_ome(file: Any) -> dict[str, tuple[float, str]]:
    try:
        root = ElementTree.fromstring(file.ome_metadata)
    except (ElementTree.ParseError, TypeError):
        return {}
    pixels = next((node for node in root.iter() if node.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return {}
    found: dict[str, tuple[float, str]] = {}
    for axis in "ZYX":
        _add(found, axis, pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    _add(found, "T", pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    return found


def _from_imagej(file: Any) -> dict[str, tuple[float, str]]:
    described = file.imagej_metadata or {}
    unit = described.get("unit", "")
    found: dict[str, tuple[float, str]] = {}
    for axis, name in (("Y", "YResolution"), ("X", "XResolution")):
        _add(found, axis, _pixel_length(file, name), unit)
    if found:
        _add(found, "Z", described.get("spacing"), unit)
    _add(found, "T", described.get("finterval"), described.get("tunit", "s"))
    return found


def _from_tags(file: Any) -> dict[str, tuple[float, str]]:
    tags = file.pages[0].tags
    unit = tags.get("ResolutionUnit")
    name = _TAG_UNITS.get(int(unit.value)) if unit is not None else None
    found: dict[str, tuple[float, str]] = {}
    if name != "cm":  # dots per inch are meant for printers
        return found
    for axis, tag in (("Y", "YResolution"), ("X", "XResolution")):
        size = _pixel_length(file, tag)
        _add(found, axis, None if size is None else size * 1e4, "µm")
    return found


def _pixel_length(file: Any, name: str) -> float | None:
    """Return the length of a pixel in the file's unit from a resolution tag."""
    tag = file.pages[0].tags.get(name)
    if tag is None:
        return None
    pixels, units = tag.value
    return units / pixels if pixels else None


def _add(found: dict[str, tuple[float, str]], axis: str, value: Any, unit: Any) -> None:
    """Add a size to ``found`` if it is a positive number in a known unit."""
    symbol = time_unit(unit) if axis == "T" else length_unit(unit)
    try:
        size = float(value)
    except (TypeError, ValueError):
        return
    if symbol and math.isfinite(size) and size > 0:
        found[axis] = (size, symbol)

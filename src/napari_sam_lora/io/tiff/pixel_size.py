"""Pixel sizes in TIFF files: of ImageJ, of OME, and the resolution tags."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from typing import Any

from napari_sam_lora.io.units import length_unit, time_unit

_TAG_UNITS = {2: "inch", 3: "cm"}


def pixel_sizes(file: Any) -> dict[str, tuple[float, str]]:
    """Size and unit along the axes "Z", "Y", "X" and "T", as far as a file says it.

    Parameters
    ----------
    file : tifffile.TiffFile

    Returns
    -------
    dict of str to (float, str)
        Units are such as "µm" and "s". Empty if nothing is known.
    """
    if file.is_ome:
        return _of_ome(file)
    if file.is_imagej:
        return _of_imagej(file)
    return _of_tags(file)


def _of_ome(file: Any) -> dict[str, tuple[float, str]]:
    try:
        root = ElementTree.fromstring(file.ome_metadata)
    except (ElementTree.ParseError, TypeError):
        return {}
    pixels = next((node for node in root.iter() if node.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return {}
    found: dict[str, tuple[float, str]] = {}
    for axis in "ZYX":
        _keep(found, axis, pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    _keep(found, "T", pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    return found


def _of_imagej(file: Any) -> dict[str, tuple[float, str]]:
    described = file.imagej_metadata or {}
    unit = described.get("unit", "")
    found: dict[str, tuple[float, str]] = {}
    for axis, name in (("Y", "YResolution"), ("X", "XResolution")):
        _keep(found, axis, _per_pixel(file, name), unit)
    if found:
        _keep(found, "Z", described.get("spacing"), unit)
    _keep(found, "T", described.get("finterval"), described.get("tunit", "s"))
    return found


def _of_tags(file: Any) -> dict[str, tuple[float, str]]:
    tags = file.pages[0].tags
    unit = tags.get("ResolutionUnit")
    name = _TAG_UNITS.get(int(unit.value)) if unit is not None else None
    found: dict[str, tuple[float, str]] = {}
    if name != "cm":  # dots per inch are of a printer, and mean nothing
        return found
    for axis, tag in (("Y", "YResolution"), ("X", "XResolution")):
        size = _per_pixel(file, tag)
        _keep(found, axis, None if size is None else size * 1e4, "µm")
    return found


def _per_pixel(file: Any, name: str) -> float | None:
    tag = file.pages[0].tags.get(name)
    if tag is None:
        return None
    pixels, units = tag.value
    return units / pixels if pixels else None


def _keep(found: dict[str, tuple[float, str]], axis: str, value: Any, unit: Any) -> None:
    """Keep a size if it is one, and in a unit that is known."""
    symbol = time_unit(unit) if axis == "T" else length_unit(unit)
    try:
        size = float(value)
    except (TypeError, ValueError):
        return
    if symbol and math.isfinite(size) and size > 0:
        found[axis] = (size, symbol)

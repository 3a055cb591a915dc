"""Units of length and time, under the names that files and napari use.

These are tables and not a parser of units, because a file may hold any text.
"""

from __future__ import annotations

# Length of each unit in µm; the names are those of OME, which napari understands too.
MICROMETRES = {
    "pm": 1e-6,
    "Å": 1e-4,
    "nm": 1e-3,
    "µm": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "dm": 1e5,
    "m": 1e6,
    "km": 1e9,
    "in": 25400.0,
}
SECONDS = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_LENGTH_NAMES = {
    "picometer": "pm",
    "angstrom": "Å",
    "ångström": "Å",
    "a": "Å",
    "nanometer": "nm",
    "um": "µm",
    "micron": "µm",
    "micrometer": "µm",
    "millimeter": "mm",
    "centimeter": "cm",
    "decimeter": "dm",
    "meter": "m",
    "kilometer": "km",
    "inch": "in",
    "inche": "in",
}
_TIME_NAMES = {
    "us": "µs",
    "usec": "µs",
    "microsecond": "µs",
    "msec": "ms",
    "millisecond": "ms",
    "sec": "s",
    "second": "s",
    "minute": "min",
    "hr": "h",
    "hour": "h",
    "day": "d",
}


def length_unit(name: object) -> str:
    """Return the symbol of a unit of length, such as "µm" for "micron" and "Micrometers"; empty if it is none."""
    return _symbol(name, MICROMETRES, _LENGTH_NAMES)


def time_unit(name: object) -> str:
    """Return the symbol of a unit of time, such as "s" for "sec"; empty if it is none."""
    return _symbol(name, SECONDS, _TIME_NAMES)


def _symbol(name: object, symbols: dict[str, float], names: dict[str, str]) -> str:
    # Greek mu and ImageJ's escapes are the micro sign.
    text = str(name).strip().replace("μ", "µ").replace("\\u00b5", "µ").replace("\\u00B5", "µ").replace("\\u00c5", "Å")
    if text in symbols:
        return text
    word = text.lower().replace("metre", "meter")
    return names.get(word) or names.get(word.removesuffix("s"), "")

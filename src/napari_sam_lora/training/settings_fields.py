"""Fields of settings dataclasses: their descriptions, and checks of values that come from a file or a form."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import types
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from napari_sam_lora.errors import InputError

# "name : type" or "one, two : type" in the Attributes of a numpy-style docstring
_ATTRIBUTE = re.compile(r"^([a-z_][\w, ]*) : .*$")
_TYPE_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}


@dataclasses.dataclass(frozen=True)
class Setting:
    """A field of a settings dataclass.

    Attributes
    ----------
    name : str
    hint : type
        Its annotation.
    default : object
    help : str
        From the docstring.
    """

    name: str
    hint: Any
    default: Any
    help: str


def settings_of(cls: type, skip: Collection[str] = ()) -> list[Setting]:
    """List the fields of a dataclass whose fields have defaults, except those in ``skip``."""
    hints, descriptions = get_type_hints(cls), describe(cls)
    settings = []
    for field in dataclasses.fields(cls):
        if field.name in skip or not field.init:
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        settings.append(Setting(field.name, hints[field.name], default, descriptions.get(field.name, "")))
    return settings


def describe(cls: type) -> dict[str, str]:
    """Return the description of each attribute, from the numpy-style docstring of a dataclass."""
    descriptions: dict[str, str] = {}
    names: list[str] = []
    lines = (cls.__doc__ or "").partition("Attributes")[2].splitlines()
    for line in lines[2:]:
        match = _ATTRIBUTE.match(line.removeprefix("    ")) or _ATTRIBUTE.match(line)
        if match:
            names = [name.strip() for name in match[1].split(",")]
        elif line.strip() in ("Raises", "Notes", "References"):
            break
        elif line.strip() and names:
            descriptions |= {name: f"{descriptions.get(name, '')} {line.strip()}".strip() for name in names}
    return {name: text.replace("``", "").replace("`", "") for name, text in descriptions.items()}


def checked_values(cls: type, values: Any, place: str) -> dict[str, Any]:
    """Check and convert the values of a file for the fields of a dataclass.

    Parameters
    ----------
    place : str
        Name of the section in messages.

    Raises
    ------
    InputError
        If a name is unknown or a value has another type; the message names it.
    """
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{place} must hold names and values, such as 'name: value'.", code="settings-without-names")
    settings = {setting.name: setting for setting in settings_of(cls)}
    unknown = [str(name) for name in values if name not in settings]
    if unknown:
        raise InputError(
            f"{place} has no setting {', '.join(unknown)}; the settings are {', '.join(settings)}.",
            code="unknown-setting",
        )
    return {name: checked(value, settings[name].hint, f"{place}.{name}") for name, value in values.items()}


def checked(value: Any, hint: Any, place: str) -> Any:
    """Check a value against the annotation of its field, and convert it to that type.

    Raises
    ------
    InputError
        If it cannot be converted; the message begins with ``place``.
    """
    hint, optional = without_none(hint)
    if value is None and optional:
        return None
    if get_origin(hint) is tuple:
        return _checked_list(value, get_args(hint), place)
    if get_origin(hint) is Literal and value not in get_args(hint):
        raise InputError(
            f"{place} must be one of {', '.join(map(str, get_args(hint)))}, not {value!r}.",
            code="setting-not-among-choices",
        )
    if hint in _TYPE_NAMES:
        return _checked_scalar(value, hint, place)
    return value


def without_none(hint: Any) -> tuple[Any, bool]:
    """Return an annotation without its None, and whether it had one; of a union of several types, the first."""
    if get_origin(hint) in (Union, types.UnionType):
        rest = [arg for arg in get_args(hint) if arg is not type(None)]
        return rest[0], len(rest) < len(get_args(hint))
    return hint, False


def _checked_list(value: Any, item_hints: tuple[Any, ...], place: str) -> tuple[Any, ...]:
    fixed = Ellipsis not in item_hints
    if not isinstance(value, (list, tuple)) or (fixed and len(value) != len(item_hints)):
        raise InputError(
            f"{place} must be a list{f' of {len(item_hints)}' if fixed else ''}, not {value!r}.",
            code="setting-not-a-list",
        )
    return tuple(checked(item, item_hints[number if fixed else 0], place) for number, item in enumerate(value))


def _checked_scalar(value: Any, kind: Any, place: str) -> Any:
    if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            return float(value)  # YAML reads 2e-3 as text
    if kind is Path and isinstance(value, str):
        return Path(value)
    if type(value) is kind:
        return value
    raise InputError(f"{place} must be {_TYPE_NAMES[kind]}, not {value!r}.", code="setting-of-wrong-type")

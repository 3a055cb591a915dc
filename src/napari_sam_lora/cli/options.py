"""Options, YAML values and templates made from the fields of a settings dataclass."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import re
import types
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from napari_sam_lora.errors import InputError

# "name : type" or "one, two : type" in the Attributes of a numpy-style docstring
_ATTRIBUTE = re.compile(r"^([a-z_][\w, ]*) : .*$")
_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}


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

    @property
    def flag(self) -> str:
        """Its option unless another is given."""
        return "--" + self.name.replace("_", "-")


def settings_of(cls: type, skip: Collection[str] = ()) -> list[Setting]:
    """The fields of a dataclass with defaults."""
    hints, texts = get_type_hints(cls), describe(cls)
    found = []
    for field in dataclasses.fields(cls):
        if field.name in skip or not field.init:
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found.append(Setting(field.name, hints[field.name], default, texts.get(field.name, "")))
    return found


def describe(cls: type) -> dict[str, str]:
    """What the docstring of a dataclass says of each attribute."""
    texts: dict[str, str] = {}
    names: list[str] = []
    lines = (cls.__doc__ or "").partition("Attributes")[2].splitlines()
    for line in lines[2:]:
        match = _ATTRIBUTE.match(line.removeprefix("    ")) or _ATTRIBUTE.match(line)
        if match:
            names = [name.strip() for name in match[1].split(",")]
        elif line.strip() in ("Raises", "Notes", "References"):
            break
        elif line.strip() and names:
            texts |= {name: f"{texts.get(name, '')} {line.strip()}".strip() for name in names}
    return {name: text.replace("``", "").replace("`", "") for name, text in texts.items()}


def add_options(
    parser: argparse.ArgumentParser,
    title: str,
    cls: type,
    *,
    skip: Collection[str] = (),
    flags: Mapping[str, str] | None = None,
) -> None:
    """Add an option for each field; one that is not given leaves no trace (see `options_in`).

    Parameters
    ----------
    title : str
        Of the group in the help, and the prefix of the destinations.
    cls : type
        A dataclass.
    skip : collection of str
        Fields without an option.
    flags : mapping, optional
        Other options than ``--name-of-the-field``.
    """
    group = parser.add_argument_group(title)
    for setting in settings_of(cls, skip):
        flag = (flags or {}).get(setting.name, setting.flag)
        group.add_argument(
            flag,
            dest=f"{title}.{setting.name}",
            default=argparse.SUPPRESS,
            help=_help(setting).replace("%", "%%"),
            **_option(setting.hint),
        )


def options_in(options: argparse.Namespace, title: str) -> dict[str, Any]:
    """The values that were given on the command line for a group of `add_options`."""
    prefix = f"{title}."
    return {
        name.removeprefix(prefix): tuple(value) if isinstance(value, list) else value
        for name, value in vars(options).items()
        if name.startswith(prefix)
    }


def _help(setting: Setting) -> str:
    """Its description in the style of argparse, with the default."""
    text = setting.help.rstrip(".")
    text = text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text
    if setting.default is None or setting.default is dataclasses.MISSING:
        return text
    default = setting.default
    shown = " ".join(map(str, default)) if isinstance(default, (tuple, list)) else default
    return f"{text} (default: {shown})".strip()


def _option(hint: Any) -> dict[str, Any]:
    """Arguments of `add_argument` for a type."""
    hint, optional = _without_none(hint)
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(hint) in (tuple, list):
        inner = get_args(hint)
        fixed = Ellipsis not in inner and get_origin(hint) is tuple
        pair = {"metavar": ("LOW", "HIGH")} if fixed and len(inner) == 2 else {}
        return _option(inner[0]) | {"nargs": len(inner) if fixed else "+"} | pair
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    name = {int: "N", float: "X", Path: "PATH"}.get(hint, "TEXT")
    return {"type": _or_none(hint) if optional and hint in (int, float) else hint, "metavar": name}


def _or_none(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        return None if text.lower() == "none" else kind(text)

    convert.__name__ = getattr(kind, "__name__", "value")  # argparse names it in its errors
    return convert


def _without_none(hint: Any) -> tuple[Any, bool]:
    """A type without its None, and whether it had one; of several others the first is taken."""
    if get_origin(hint) in (Union, types.UnionType):
        rest = [arg for arg in get_args(hint) if arg is not type(None)]
        return rest[0], len(rest) < len(get_args(hint))
    return hint, False


def checked_values(cls: type, values: Any, place: str) -> dict[str, Any]:
    """Values from a file for the fields of a dataclass, each of the right type.

    Parameters
    ----------
    place : str
        How messages call the section.

    Raises
    ------
    InputError
        If a name is unknown or a value of another type; the message names it.
    """
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{place} must hold names and values, such as 'name: value'.")
    known = {setting.name: setting for setting in settings_of(cls)}
    unknown = [str(name) for name in values if name not in known]
    if unknown:
        raise InputError(f"{place} has no setting {', '.join(unknown)}; there are {', '.join(known)}.")
    return {name: checked(value, known[name].hint, f"{place}.{name}") for name, value in values.items()}


def checked(value: Any, hint: Any, place: str) -> Any:
    """A value of the type of a field.

    Raises
    ------
    InputError
        If it cannot be one.
    """
    hint, optional = _without_none(hint)
    if value is None and optional:
        return None
    if get_origin(hint) is tuple:
        return _checked_list(value, get_args(hint), place)
    if get_origin(hint) is Literal and value not in get_args(hint):
        raise InputError(f"{place} is one of {', '.join(map(str, get_args(hint)))}, not {value!r}.")
    if hint in _KINDS:
        return _checked_plain(value, hint, place)
    return value


def _checked_list(value: Any, inner: tuple[Any, ...], place: str) -> tuple[Any, ...]:
    fixed = Ellipsis not in inner
    if not isinstance(value, (list, tuple)) or (fixed and len(value) != len(inner)):
        raise InputError(f"{place} must be a list{f' of {len(inner)}' if fixed else ''}, not {value!r}.")
    return tuple(checked(item, inner[number if fixed else 0], place) for number, item in enumerate(value))


def _checked_plain(value: Any, kind: Any, place: str) -> Any:
    if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            return float(value)  # YAML takes 2e-3 for text
    if kind is Path and isinstance(value, str):
        return Path(value)
    if type(value) is kind:
        return value
    raise InputError(f"{place} must be {_KINDS[kind]}, not {value!r}.")

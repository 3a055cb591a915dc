"""Options made from descriptions of parameters, and the settings of a training run that they override."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from napari_sam_lora.parameters.run import SECTIONS, PreprocessingSettings, RunSettings
from napari_sam_lora.parameters.schema import Parameter, parameters_of
from napari_sam_lora.parameters.yaml_file import read_config

# Options that are not named like their parameter, by section.
FLAGS = {"model": {"name": "--model"}, "data": {"path": "--data"}, "output": {"adapter": "--output"}}


def add_options(
    parser: argparse.ArgumentParser,
    title: str,
    cls: type,
    *,
    skip: Collection[str] = (),
    flags: Mapping[str, str] | None = None,
) -> None:
    """Add an option for each parameter; one that is not given leaves no trace (see `options_in`).

    Parameters
    ----------
    title : str
        Of the group in the help, and the prefix of the destinations.
    cls : type
        Made with `parameters`.
    skip : collection of str
        Parameters without an option.
    flags : mapping, optional
        Other options than ``--name-of-the-parameter``.
    """
    group = parser.add_argument_group(title)
    for parameter in parameters_of(cls, skip):
        flag = (flags or {}).get(parameter.name, "--" + parameter.name.replace("_", "-"))
        group.add_argument(
            flag,
            dest=f"{title}.{parameter.name}",
            default=argparse.SUPPRESS,
            help=_help(parameter).replace("%", "%%"),
            **_argument_options(parameter.kind, parameter.is_optional),
        )


def add_section(parser: argparse.ArgumentParser, name: str, cls: type, skip: tuple[str, ...] = ()) -> None:
    """Add the options of a section of the settings."""
    add_options(parser, name, cls, skip=skip, flags=FLAGS.get(name))


def options_in(options: argparse.Namespace, title: str) -> dict[str, Any]:
    """Return the values that were given on the command line for a group of `add_options`."""
    prefix = f"{title}."
    return {
        name.removeprefix(prefix): tuple(value) if isinstance(value, list) else value
        for name, value in vars(options).items()
        if name.startswith(prefix)
    }


def run_settings(options: argparse.Namespace, config: Path | None) -> RunSettings:
    """Return the settings of a YAML file, if there is one, overridden by options of the command line.

    Raises
    ------
    InputError
        If the file cannot be read, or a setting is unknown or makes no sense.
    """
    values = read_config(config) if config else {name: {} for name in SECTIONS}
    settings = {name: cls(**values[name] | options_in(options, name)) for name, cls in SECTIONS.items()}
    overrides = options_in(options, "preprocessing")
    if {"window", "ct_window"} <= (values["preprocessing"] | overrides).keys():
        settings["preprocessing"] = _keep_one_window(settings["preprocessing"], overrides)
    return RunSettings(**settings)


def _keep_one_window(settings: PreprocessingSettings, overrides: Mapping[str, Any]) -> PreprocessingSettings:
    """Let a window of the command line replace the other kind of window of the file."""
    if "window" in overrides and "ct_window" not in overrides:
        return dataclasses.replace(settings, ct_window=None)
    if "ct_window" in overrides and "window" not in overrides:
        return dataclasses.replace(settings, window=None)
    return settings


def _help(parameter: Parameter) -> str:
    """Return the description in the style of argparse, with the default."""
    text = parameter.description.rstrip(".")
    text = text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text
    default: Any = parameter.none if parameter.default is None else parameter.default
    if default == "":
        return text
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    return f"{text} (default: {shown})".strip()


def _argument_options(kind: Any, is_optional: bool = False) -> dict[str, Any]:
    """Return the arguments of `add_argument` for a type."""
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(kind) is tuple:
        items = get_args(kind)
        fixed = Ellipsis not in items
        pair = {"metavar": ("LOW", "HIGH")} if fixed and len(items) == 2 else {}
        return _argument_options(items[0]) | {"nargs": len(items) if fixed else "+"} | pair
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    name = {int: "N", float: "X", Path: "PATH"}.get(kind, "TEXT")
    return {"type": _or_none(kind) if is_optional and kind in (int, float) else kind, "metavar": name}


def _or_none(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        return None if text.lower() == "none" else kind(text)

    convert.__name__ = getattr(kind, "__name__", "value")  # argparse shows it in its errors
    return convert

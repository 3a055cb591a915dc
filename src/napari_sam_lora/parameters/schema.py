"""Validated dataclasses of parameters, and the description of each parameter that forms, options and pages are made of.

A class is described with `parameters` and pydantic's ``Field``::

    @parameters
    class TilingConfig:
        \"\"\"How large planes are cut into tiles.\"\"\"

        tile_overlap: float = Field(default=0.5, ge=0, le=0.75, description="Overlap of neighbouring tiles, …")

Besides limits, ``title`` (the label in a form) and ``description``, a field may have ``json_schema_extra`` with

- ``step``: the number has a spin box with this step,
- ``range``: lowest and highest number that the spin box offers, if that is less than what is allowed,
- ``choices``: texts of the choices in a form,
- ``none``: what None stands for, such as "the usual value of the model".
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from napari_sam_lora.errors import InputError

C = TypeVar("C")
CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}
_PLURALS: dict[Any, str] = {int: "whole numbers", float: "numbers", str: "texts", Path: "paths"}
_KINDS_OF_ERRORS = {"int": int, "float": float, "string": str, "bool": bool, "is_instance_of": Path, "path": Path}
_OUT_OF_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"}
# pydantic's limits: the side, and whether the number itself is excluded
_LIMITS = {"ge": ("low", False), "gt": ("low", True), "le": ("high", False), "lt": ("high", True)}


@dataclass(frozen=True)
class Parameter:
    """Description of one parameter.

    Attributes
    ----------
    name : str
        Of the field.
    kind : type
        Its annotation, without None.
    default : object
    title : str
        Label in a form; empty where that is the name.
    description : str
    is_optional : bool
        Whether the value may be None.
    none : str
        What None stands for.
    low, high : float, optional
        Limits.
    excludes_low, excludes_high : bool
        Whether the limit itself is not allowed.
    step : float, optional
        Step of its spin box.
    shown_range : tuple of float, optional
        Lowest and highest number that a spin box offers, if not the limits.
    choices : mapping
        Texts of the choices in a form.
    """

    name: str
    kind: Any
    default: Any
    title: str = ""
    description: str = ""
    is_optional: bool = False
    none: str = ""
    low: float | None = None
    high: float | None = None
    excludes_low: bool = False
    excludes_high: bool = False
    step: float | None = None
    shown_range: tuple[float, float] | None = None
    choices: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Label in a form, and name in its messages."""
        return self.title or self.name.replace("_", " ")

    @property
    def rule(self) -> str:
        """The limits in words, as in "must be at least 1"; empty without limits."""
        low, high = _plain(self.low), _plain(self.high)
        if self.low is not None and self.high is not None and not self.excludes_low and not self.excludes_high:
            return f"must be between {low} and {high}"
        limits = []
        if self.low is not None:
            limits.append(f"more than {low}" if self.excludes_low else f"at least {low}")
        if self.high is not None:
            limits.append(f"less than {high}" if self.excludes_high else f"at most {high}")
        return f"must be {' and '.join(limits)}" if limits else ""


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def parameters(cls: type[C]) -> type[C]:
    """Make a frozen dataclass whose values are checked; what is wrong with them is an `InputError`.

    Lists are taken as tuples, text as paths and, where it is one, as a number, and NumPy's scalars as Python's. Its
    ``__doc__`` gets a section with all fields.
    """
    made: Any = pydantic_dataclass(frozen=True, config=CONFIG)(cls)
    validated_init = made.__init__
    names = list(made.__pydantic_fields__)

    @functools.wraps(validated_init)
    def __init__(self: Any, *args: Any, **values: Any) -> None:  # noqa: N807 - becomes the method of the class
        given = _loosened_values(made, dict(zip(names, args, strict=False))).values()
        try:
            validated_init(self, *given, *args[len(names) :], **_loosened_values(made, values))
        except ValidationError as error:
            raise _input_error(made, error, made.__name__, str) from None

    made.__init__ = __init__
    made.__doc__ = "\n".join([inspect.cleandoc(cls.__doc__ or ""), "", "Attributes", "----------", *_lines(made)])
    return made


def parameters_of(cls: type, skip: Collection[str] = ()) -> list[Parameter]:
    """List the parameters of a class made with `parameters`, except those in ``skip``."""
    return [one for one in _described(cls) if one.name not in skip]


def validated(cls: type[C], values: Any, place: str, name_of: Callable[[str], str] = str) -> C:
    """Make an object from the values of a file or a form.

    Parameters
    ----------
    cls : type
        Made with `parameters`.
    values : mapping or None
        Names and values; what is left out has its default.
    place : str
        What the values belong to, for messages.
    name_of : callable, optional
        Returns the name of a parameter in messages.

    Raises
    ------
    InputError
        If a name is unknown or a value cannot be used; the message names it.
    """
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise InputError(f"{place} must hold names and values, such as 'name: value'.", code="settings-without-names")
    made: Any = object.__new__(cls)
    try:
        inspect.unwrap(type(made).__init__)(made, **_loosened_values(cls, {str(name): values[name] for name in values}))
    except ValidationError as error:
        raise _input_error(cls, error, place, name_of) from None
    return made


def without_none(hint: Any) -> tuple[Any, bool]:
    """Return an annotation without its None, and whether it had one."""
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [one for one in get_args(hint) if one is not type(None)]
        return kinds[0], len(kinds) < len(get_args(hint))
    return hint, False


@functools.cache
def _described(cls: Any) -> tuple[Parameter, ...]:
    hints = get_type_hints(cls)
    return tuple(_describe(name, hints[name], info) for name, info in cls.__pydantic_fields__.items())


def _describe(name: str, hint: Any, info: Any) -> Parameter:
    kind, is_optional = without_none(hint)
    limits: dict[str, Any] = {}
    for one in info.metadata:
        for name_of_limit, (side, is_excluded) in _LIMITS.items():
            if hasattr(one, name_of_limit):
                limits |= {side: getattr(one, name_of_limit), f"excludes_{side}": is_excluded}
    extra = info.json_schema_extra or {}
    return Parameter(
        name=name,
        kind=kind,
        default=info.get_default(call_default_factory=True),
        title=info.title or "",
        description=info.description or "",
        is_optional=is_optional,
        none=extra.get("none", ""),
        step=extra.get("step"),
        shown_range=tuple(extra["range"]) if "range" in extra else None,
        choices=extra.get("choices", {}),
        **limits,
    )


def _loosened_values(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {one.name: one.kind for one in _described(cls)}
    return {name: _loosened(value, kinds.get(name)) for name, value in values.items()}


def _loosened(value: Any, kind: Any) -> Any:
    """Convert what files, forms and NumPy hold instead of a type, such as a list for a tuple."""
    if isinstance(value, np.generic):
        return value.item()
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(_loosened(item, get_args(kind)[0]) for item in value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and isinstance(value, str):
        with suppress(ValueError):
            return float(value)  # YAML reads 2e-3 as text
    return value


def _input_error(cls: type, error: ValidationError, place: str, name_of: Callable[[str], str]) -> InputError:
    """Return the first problem as a line that names the parameter, its rule and the value."""
    problems = error.errors(include_url=False)
    unknown = [str(one["loc"][0]) for one in problems if one["type"] == "unexpected_keyword_argument"]
    described = {one.name: one for one in _described(cls)}
    if unknown:
        return InputError(
            f"{place} has no setting {', '.join(unknown)}; the settings are {', '.join(described)}.",
            code="unknown-setting",
        )
    first = problems[0]
    raised = first.get("ctx", {}).get("error")
    if isinstance(raised, InputError):
        return raised
    parameter = described.get(str(first["loc"][0])) if first["loc"] else None
    if parameter is None or first["type"] == "multiple_argument_values":
        raise TypeError(f"{place}: {first['msg']}.")
    rule, code = _broken_rule(parameter, first)
    return InputError(f"{name_of(parameter.name)} {rule}, not {first['input']!r}.", code=code)


def _broken_rule(parameter: Parameter, problem: Mapping[str, Any]) -> tuple[str, str]:
    kind = problem["type"]
    if kind in _OUT_OF_RANGE:
        rule = "must be a finite number" if kind == "finite_number" else parameter.rule
        return rule, f"{parameter.name}-out-of-range"
    if kind == "literal_error":
        return f"must be one of {', '.join(map(str, get_args(parameter.kind)))}", "setting-not-among-choices"
    if kind in ("tuple_type", "too_long", "too_short", "missing"):
        items = get_args(parameter.kind)
        return f"must be a list{'' if Ellipsis in items else f' of {len(items)}'}", "setting-not-a-list"
    expected = _KINDS_OF_ERRORS.get(kind.removesuffix("_type"))
    rule = f"must be {_KINDS[expected]}" if expected else f"is not valid ({problem['msg']})"
    return rule, "setting-of-wrong-type"


def _lines(cls: type) -> list[str]:
    """Return the descriptions as lines of a numpy-style docstring."""
    return [line for one in _described(cls) for line in (f"{one.name} : {kind_of(one)}", f"    {one.description}")]


def kind_of(parameter: Parameter) -> str:
    """Return the type of a parameter in words, without None."""
    kind = parameter.kind
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        items = get_args(kind)
        plural = _PLURALS.get(items[0], "lists")
        return f"a list of {plural}" if Ellipsis in items else f"{len(items)} {plural}"
    return _KINDS.get(kind, str(getattr(kind, "__name__", kind)))


def _plain(number: float | None) -> str:
    return "" if number is None else f"{number:g}"

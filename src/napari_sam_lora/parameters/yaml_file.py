"""The YAML file that holds the settings of a training run."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import yaml

from napari_sam_lora.errors import InputError
from napari_sam_lora.parameters.run import SECTIONS
from napari_sam_lora.parameters.schema import Parameter, parameters_of, validated


def read_config(path: Path) -> dict[str, dict[str, Any]]:
    """Read a YAML file of settings; paths in it are relative to its folder.

    Returns
    -------
    dict
        The values of each section, of the right types.

    Raises
    ------
    InputError
        If the file cannot be read, holds anything unknown, or a value that makes no sense; the message names it.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", code="file-not-readable") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is not YAML: {error}", code="not-yaml") from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise InputError(f"{path.name} must hold the sections {', '.join(SECTIONS)}.", code="settings-without-sections")
    unknown = [str(name) for name in content if name not in SECTIONS]
    if unknown:
        raise InputError(
            f"{path.name} has an unknown section {', '.join(unknown)}; the sections are {', '.join(SECTIONS)}.",
            code="unknown-section",
        )
    try:
        values = {name: _checked(name, content.get(name)) for name in SECTIONS}
    except InputError as error:
        raise InputError(f"{path.name}: {error}", code=error.code) from error
    model_name = values["model"].get("name")
    if model_name and (path.parent / model_name).is_file():
        values["model"]["name"] = str(path.parent / model_name)
    return {name: _relative_to(path.parent, section) for name, section in values.items()}


def template() -> str:
    """Return a YAML file of all settings with their defaults, explained in comments."""
    lines = [
        "# Settings of 'napari-sam-lora train'. What is left out has the value that it has here; options of the",
        "# command line take precedence. Paths are relative to this file.",
    ]
    for name, cls in SECTIONS.items():
        lines += ["", f"{name}:"]
        for parameter in parameters_of(cls):
            lines += _template_lines(parameter)
    return "\n".join(lines)


def _checked(section: str, values: Any) -> dict[str, Any]:
    """Return the values that a section of the file names, of the right types."""
    made: Any = validated(SECTIONS[section], values, section, lambda name: f"{section}.{name}")
    return {str(name): getattr(made, str(name)) for name in values or ()}


def _relative_to(folder: Path, section: dict[str, Any]) -> dict[str, Any]:
    return {name: folder / value if isinstance(value, Path) else value for name, value in section.items()}


def _template_lines(parameter: Parameter) -> list[str]:
    default = parameter.default
    plain = list(default) if isinstance(default, tuple) else str(default) if isinstance(default, Path) else default
    shown = yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    comments = textwrap.wrap(parameter.description, 110)
    return [*(f"  # {line}" for line in comments), f"  {parameter.name}: {shown}"]

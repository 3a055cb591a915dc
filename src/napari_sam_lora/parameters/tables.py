"""The page of the documentation that lists all parameters: ``python -m napari_sam_lora.parameters.tables FILE``."""

from __future__ import annotations

import sys
from pathlib import Path

from napari_sam_lora.parameters.everything import EverythingConfig
from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.parameters.propagation import PropagationConfig
from napari_sam_lora.parameters.run import DataSettings, ModelSettings, OutputSettings, PreprocessingSettings
from napari_sam_lora.parameters.schema import Parameter, kind_of, parameters_of
from napari_sam_lora.parameters.tiling import TilingConfig
from napari_sam_lora.parameters.training import TrainConfig

INTRODUCTION = """\
# Settings

<!-- Written by `python -m napari_sam_lora.parameters.tables docs/settings.md` from the descriptions in the code. -->

All settings of training, everything mode, the dense head, propagation and large planes, with their defaults. The names
are those of the Python classes and of the YAML file; on the command line, `learning_rate` is `--learning-rate`. Where
the viewer has another label, it follows in italics.
"""
# Heading, class, and where the settings are used.
SECTIONS: tuple[tuple[str, type, str], ...] = (
    ("Training", TrainConfig, "`TrainConfig` in Python, the section `training` of the YAML file, *All settings*."),
    ("Model", ModelSettings, "The section `model` of the YAML file; the name is `--model` on the command line."),
    ("Data", DataSettings, "The section `data` of the YAML file; the path is `--data` on the command line."),
    ("Intensities", PreprocessingSettings, "The section `preprocessing` of the YAML file; `Preprocessing` in Python."),
    ("Output", OutputSettings, "The section `output` of the YAML file; the adapter is `--output` on the command line."),
    ("Everything mode", EverythingConfig, "`EverythingConfig` in Python, options of `segment`, *Find everything*."),
    (
        "Dense head",
        InstanceConfig,
        "`InstanceConfig` in Python, options of `segment`. Without them, a model uses those chosen for its dense head.",
    ),
    (
        "Propagation",
        PropagationConfig,
        "`PropagationConfig` in Python, options of `segment --propagate`, *Propagate through the stack*.",
    ),
    ("Large planes", TilingConfig, "`TilingConfig` in Python, options of `segment`."),
)


def page() -> str:
    """Return the page in Markdown."""
    parts = [INTRODUCTION]
    for heading, cls, where in SECTIONS:
        rows = [_row(parameter) for parameter in parameters_of(cls)]
        parts.append(
            "\n".join(
                [f"## {heading}\n\n{where}\n", "| name | default | values | meaning |", "|---|---|---|---|", *rows, ""]
            )
        )
    return "\n".join(parts)


def _row(parameter: Parameter) -> str:
    name = f"`{parameter.name}`" + (f" *{parameter.title}*" if parameter.title else "")
    values = ", ".join(text for text in (kind_of(parameter), parameter.rule.removeprefix("must be ")) if text)
    cells = (name, _default(parameter), values, parameter.description)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(parameter: Parameter) -> str:
    default = parameter.default
    if default is None or default == ():
        return parameter.none or "none"
    if isinstance(default, tuple):
        return ", ".join(f"`{one}`" for one in default)
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:.4g}`" if isinstance(default, float) else f"`{default}`"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")

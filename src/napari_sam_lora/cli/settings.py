"""The settings of commands, and the YAML file that can hold those of a training run."""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from napari_sam_lora.cli.options import Setting, add_options, checked_values, options_in, settings_of
from napari_sam_lora.errors import InputError
from napari_sam_lora.images import CT_WINDOWS, Preprocessing

if TYPE_CHECKING:
    from napari_sam_lora.training.config import TrainConfig

CtWindow = Literal["abdomen", "bone", "brain", "liver", "lung", "mediastinum", "spine", "stroke"]
FLAGS = {"model": {"name": "--model"}, "data": {"path": "--data"}, "output": {"adapter": "--output"}}


@dataclass(frozen=True)
class ModelSettings:
    """Which model runs, and where.

    Attributes
    ----------
    name : str
        A named model (see 'napari-sam-lora models') or the path of a SAM checkpoint.
    device : str
        auto, cpu, cuda, cuda:1, mps, ...
    input_size : int, optional
        Side of the square model input in pixels, by default that of the model; half of it takes a quarter of the
        time.
    start : Path, optional
        An adapter to go on from, with its layers, instead of beginning with the model alone.
    """

    name: str = "sam_nano"
    device: str = "auto"
    input_size: int | None = None
    start: Path | None = None


@dataclass(frozen=True)
class DataSettings:
    """Where the labelled images are.

    Attributes
    ----------
    path : Path, optional
        A folder with images/ and labels/ or masks/ (same names, any ending), a CSV table with the columns image and
        labels, or a COCO JSON file.
    image_folder : Path, optional
        Folder of the images, if it is another than images/.
    label_folder : Path, optional
        Folder of the label images, if it is another than labels/ or masks/.
    axes : str, optional
        One letter an axis, such as ZYX or CYX, for TIFF, NIfTI and .npy files that do not say it themselves.
    previous : Path, optional
        An adapter of an earlier round: what was held out then is held out again.
    held_out : tuple of str
        Keys of what is held out, as figures name them, beside that.
    """

    path: Path | None = None
    image_folder: Path | None = None
    label_folder: Path | None = None
    axes: str | None = None
    previous: Path | None = None
    held_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class PreprocessingSettings:
    """How intensities become the 0 to 255 that SAM expects.

    Attributes
    ----------
    window : tuple of float, optional
        Intensities shown as black and as white; by default they are percentiles of each plane.
    ct_window : str, optional
        A fixed window in Hounsfield units, by name.
    percentiles : tuple of float
        Percentiles of a plane that become black and white.
    channel : int, optional
        Use this channel, counted from 0, of images with several.
    """

    window: tuple[float, float] | None = None
    ct_window: CtWindow | None = None
    percentiles: tuple[float, float] = (0.1, 99.9)
    channel: int | None = None

    def resolve(self) -> Preprocessing:
        """What the model takes."""
        if self.window and self.ct_window:
            raise InputError("Choose a window or a CT window, not both.")
        window = CT_WINDOWS[self.ct_window] if self.ct_window else self.window
        return Preprocessing(window, self.percentiles, self.channel)


@dataclass(frozen=True)
class OutputSettings:
    """What a training run writes.

    Attributes
    ----------
    adapter : Path
        The adapter file.
    metrics : Path, optional
        The figures as JSON, by default beside the adapter.
    """

    adapter: Path = Path("adapter.safetensors")
    metrics: Path | None = None

    @property
    def metrics_path(self) -> Path:
        """Where the figures go."""
        return self.metrics or self.adapter.with_suffix(".json")


@dataclass(frozen=True)
class RunSettings:
    """Everything that a training run needs, in the sections of its YAML file."""

    training: TrainConfig
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    preprocessing: PreprocessingSettings = field(default_factory=PreprocessingSettings)
    output: OutputSettings = field(default_factory=OutputSettings)


def sections() -> dict[str, type]:
    """The sections of a run and their dataclasses; imports torch."""
    from napari_sam_lora.training.config import TrainConfig  # noqa: PLC0415  torch is imported when it is needed

    return {
        "model": ModelSettings,
        "data": DataSettings,
        "preprocessing": PreprocessingSettings,
        "training": TrainConfig,
        "output": OutputSettings,
    }


def add_section(parser: argparse.ArgumentParser, name: str, cls: type, skip: tuple[str, ...] = ()) -> None:
    """Options of a section."""
    add_options(parser, name, cls, skip=skip, flags=FLAGS.get(name))


def run_settings(options: argparse.Namespace, config: Path | None) -> RunSettings:
    """Settings of a YAML file, if there is one, overridden by options of the command line.

    Raises
    ------
    InputError
        If the file cannot be read, or a setting is unknown or makes no sense.
    """
    values = read_config(config) if config else {name: {} for name in sections()}
    parts = {name: cls(**values[name] | options_in(options, name)) for name, cls in sections().items()}
    if {"window", "ct_window"} <= (values["preprocessing"] | options_in(options, "preprocessing")).keys():
        parts["preprocessing"] = _one_window(parts["preprocessing"], options_in(options, "preprocessing"))
    return RunSettings(**parts)


def _one_window(settings: PreprocessingSettings, given: Mapping[str, Any]) -> PreprocessingSettings:
    """A window of the command line replaces the other kind of window of the file."""
    if "window" in given and "ct_window" not in given:
        return dataclasses.replace(settings, ct_window=None)
    if "ct_window" in given and "window" not in given:
        return dataclasses.replace(settings, window=None)
    return settings


def read_config(path: Path) -> dict[str, dict[str, Any]]:
    """Read a YAML file of settings; paths in it are relative to its folder.

    Returns
    -------
    dict
        The values of each section, of the right types.

    Raises
    ------
    InputError
        If the file cannot be read, or holds anything unknown; the message names it.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is not YAML: {error}") from error
    known = sections()
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise InputError(f"{path.name} must hold the sections {', '.join(known)}.")
    unknown = [str(name) for name in content if name not in known]
    if unknown:
        raise InputError(f"{path.name} has an unknown section {', '.join(unknown)}; there are {', '.join(known)}.")
    try:
        values = {name: checked_values(cls, content.get(name), name) for name, cls in known.items()}
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
    name = values["model"].get("name")
    if name and (path.parent / name).is_file():
        values["model"]["name"] = str(path.parent / name)
    return {name: _from_folder(section, path.parent) for name, section in values.items()}


def _from_folder(section: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {name: folder / value if isinstance(value, Path) else value for name, value in section.items()}


def template() -> str:
    """A YAML file of all settings with their defaults, explained by comments."""
    lines = [
        "# Settings of 'napari-sam-lora train'. What is left out has the value that it has here; options of the",
        "# command line go before. Paths are relative to this file.",
    ]
    for name, cls in sections().items():
        lines += ["", f"{name}:"]
        for setting in settings_of(cls):
            lines += _template_lines(setting)
    return "\n".join(lines)


def _template_lines(setting: Setting) -> list[str]:
    default = setting.default
    plain = list(default) if isinstance(default, tuple) else str(default) if isinstance(default, Path) else default
    shown = yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return [*(f"  # {line}" for line in textwrap.wrap(setting.help, 110)), f"  {setting.name}: {shown}"]

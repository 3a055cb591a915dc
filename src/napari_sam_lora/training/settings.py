"""Settings of a training run, and the YAML file that holds them."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from napari_sam_lora.errors import InputError
from napari_sam_lora.images import CT_WINDOWS, Preprocessing
from napari_sam_lora.training.settings_fields import Setting, checked_values, settings_of

if TYPE_CHECKING:
    from napari_sam_lora.training.config import TrainConfig

CtWindow = Literal["abdomen", "bone", "brain", "liver", "lung", "mediastinum", "spine", "stroke"]


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
        Adapter file to continue training from, instead of starting from the base model alone.
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
        Folder of the images, if it is not images/.
    label_folder : Path, optional
        Folder of the label images, if it is neither labels/ nor masks/.
    axes : str, optional
        One letter an axis, such as ZYX or CYX, for TIFF, NIfTI and .npy files that do not name their axes.
    previous : Path, optional
        Adapter file of an earlier round: what was held out then is held out again.
    held_out : tuple of str
        Keys of further objects or images to hold out, as in the metrics file of an earlier run.
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
        """Return the preprocessing, with a named CT window as numbers.

        Raises
        ------
        InputError
            If both kinds of window are chosen, or the numbers make no sense.
        """
        if self.window and self.ct_window:
            raise InputError("Choose either a window or a CT window, not both.", code="two-windows")
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
        """Path of the JSON file with the figures."""
        return self.metrics or self.adapter.with_suffix(".json")


@dataclass(frozen=True)
class RunSettings:
    """All settings of a training run, in the sections of its YAML file."""

    training: TrainConfig
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    preprocessing: PreprocessingSettings = field(default_factory=PreprocessingSettings)
    output: OutputSettings = field(default_factory=OutputSettings)


def sections() -> dict[str, type]:
    """Return the dataclass of each section of a run; imports torch."""
    from napari_sam_lora.training.config import TrainConfig  # noqa: PLC0415  torch is imported when it is needed

    return {
        "model": ModelSettings,
        "data": DataSettings,
        "preprocessing": PreprocessingSettings,
        "training": TrainConfig,
        "output": OutputSettings,
    }


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
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}.", code="file-not-readable"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is not YAML: {error}", code="not-yaml") from error
    classes = sections()
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise InputError(f"{path.name} must hold the sections {', '.join(classes)}.", code="settings-without-sections")
    unknown = [str(name) for name in content if name not in classes]
    if unknown:
        raise InputError(
            f"{path.name} has an unknown section {', '.join(unknown)}; the sections are {', '.join(classes)}.",
            code="unknown-section",
        )
    try:
        values = {name: checked_values(cls, content.get(name), name) for name, cls in classes.items()}
    except InputError as error:
        raise InputError(f"{path.name}: {error}", code=error.code) from error
    model_name = values["model"].get("name")
    if model_name and (path.parent / model_name).is_file():
        values["model"]["name"] = str(path.parent / model_name)
    return {name: _relative_to(path.parent, section) for name, section in values.items()}


def _relative_to(folder: Path, section: dict[str, Any]) -> dict[str, Any]:
    return {name: folder / value if isinstance(value, Path) else value for name, value in section.items()}


def template() -> str:
    """Return a YAML file of all settings with their defaults, explained in comments."""
    lines = [
        "# Settings of 'napari-sam-lora train'. What is left out has the value that it has here; options of the",
        "# command line take precedence. Paths are relative to this file.",
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

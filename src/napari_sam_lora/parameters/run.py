"""Parameters of a training run besides `TrainConfig`, and of the model and images of any command."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field

from napari_sam_lora.errors import InputError
from napari_sam_lora.images import CT_WINDOWS, Preprocessing
from napari_sam_lora.parameters.schema import parameters
from napari_sam_lora.parameters.training import TrainConfig

CtWindow = Literal["abdomen", "bone", "brain", "liver", "lung", "mediastinum", "spine", "stroke"]


@parameters
class ModelSettings:
    """The model of a run, and its device."""

    name: str = Field(
        default="sam_nano",
        description="A named model (see 'napari-sam-lora models') or the path of a SAM checkpoint.",
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps, ...")
    input_size: int | None = Field(
        default=None,
        description="Side of the square model input in pixels, by default that of the model; half of it takes a "
        "quarter of the time.",
    )
    start: Path | None = Field(
        default=None,
        description="Adapter file to continue training from, instead of starting from the base model alone.",
    )


@parameters
class DataSettings:
    """Labelled images of a run."""

    path: Path | None = Field(
        default=None,
        description="A folder with images/ and labels/ or masks/ (same names, any ending), a CSV table with the "
        "columns image and labels, or a COCO JSON file.",
    )
    image_folder: Path | None = Field(default=None, description="Folder of the images, if it is not images/.")
    label_folder: Path | None = Field(
        default=None, description="Folder of the label images, if it is neither labels/ nor masks/."
    )
    axes: str | None = Field(
        default=None,
        description="One letter an axis, such as ZYX or CYX, for TIFF, NIfTI and .npy files that do not name their "
        "axes.",
    )
    previous: Path | None = Field(
        default=None,
        description="Adapter file of an earlier round: what was held out then is held out again.",
    )
    held_out: tuple[str, ...] = Field(
        default=(),
        description="Keys of further objects or images to hold out, as in the metrics file of an earlier run.",
    )


@parameters
class PreprocessingSettings:
    """Mapping of intensities to the 0 to 255 that SAM expects."""

    window: tuple[float, float] | None = Field(
        default=None,
        description="Intensities shown as black and as white; by default they are percentiles of each plane.",
    )
    ct_window: CtWindow | None = Field(default=None, description="A fixed window in Hounsfield units, by name.")
    percentiles: tuple[float, float] = Field(
        default=(0.1, 99.9), description="Percentiles of a plane that become black and white."
    )
    channel: int | None = Field(default=None, description="Use this channel, counted from 0, of images with several.")

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


@parameters
class OutputSettings:
    """Files that a training run writes."""

    adapter: Path = Field(default=Path("adapter.safetensors"), description="The adapter file.")
    metrics: Path | None = Field(default=None, description="The figures as JSON, by default beside the adapter.")

    @property
    def metrics_path(self) -> Path:
        """Path of the JSON file with the figures."""
        return self.metrics or self.adapter.with_suffix(".json")


@dataclass(frozen=True)
class RunSettings:
    """All settings of a training run, in the sections of its YAML file."""

    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    preprocessing: PreprocessingSettings = field(default_factory=PreprocessingSettings)
    training: TrainConfig = field(default_factory=TrainConfig)
    output: OutputSettings = field(default_factory=OutputSettings)


SECTIONS: dict[str, type] = {
    "model": ModelSettings,
    "data": DataSettings,
    "preprocessing": PreprocessingSettings,
    "training": TrainConfig,
    "output": OutputSettings,
}

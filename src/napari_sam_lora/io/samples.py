"""Load the sample images that come with the package; licences are beside them."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

LayerData = tuple[NDArray[Any], dict[str, Any], str]

NUCLEI_COUNT = 10


def samples_folder() -> Path:
    """Return the folder of the sample images."""
    with as_file(files("napari_sam_lora") / "assets" / "samples") as path:
        return path


def nuclei_pair(number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Load fluorescence nuclei and their labels, uint8 (256, 256) each; ``number`` is from 1 to `NUCLEI_COUNT`."""
    folder, name = samples_folder() / "nuclei", f"nuclei_{number:02d}.png"
    with Image.open(folder / "images" / name) as image, Image.open(folder / "labels" / name) as labels:
        return np.asarray(image), np.asarray(labels)


def nuclei() -> list[LayerData]:
    """Load fluorescence nuclei for napari's menu: ten planes as a stack uint8 (plane, y, x)."""
    stack = np.stack([nuclei_pair(number)[0] for number in range(1, NUCLEI_COUNT + 1)])
    return [(stack, {"name": "nuclei", "axis_labels": ("image", "y", "x")}, "image")]


def phase_contrast() -> list[LayerData]:
    """Load adherent cells in phase contrast, uint16 (512, 512)."""
    return [(tifffile.imread(samples_folder() / "phase_contrast.tif"), {"name": "phase contrast"}, "image")]


def nuclei_stack() -> list[LayerData]:
    """Load nuclei in three dimensions, uint16 (z, y, x) = (31, 61, 57).

    The source states no pixel size. A plane spacing of two pixels is assumed, since the labelled nuclei span twice as
    many pixels along y and x as along z.
    """
    attributes = {"name": "nuclei stack", "scale": (2.0, 1.0, 1.0), "axis_labels": ("z", "y", "x")}
    return [(tifffile.imread(samples_folder() / "nuclei_stack.tif"), attributes, "image")]

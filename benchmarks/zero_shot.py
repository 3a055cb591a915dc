"""Quality of a model on real sets that it has not seen.

    python -m benchmarks.zero_shot FOLDER... [--model sam_nano] [--input-size 512]

Each folder is a set, see `benchmarks.sets`. Planes are the middle 256 x 256 pixels of each image (at most five planes
of a stack); objects of less than 30 pixels are left out. Baselines: the ellipse in the box, and Otsu's threshold inside
the box, bright or dark, whichever is better for the set as a whole.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from benchmarks.sets import LabelledPlane, load_set
from napari_sam_lora.api import Model, evaluate, load_model
from napari_sam_lora.labels import find_objects
from napari_sam_lora.overlap import mask_iou

# Largest number of planes of a set, to limit the time.
PLANES_A_SET = 30


@dataclass(frozen=True)
class SetFigures:
    """Mean IoU over the objects of a set; the columns of the table."""

    name: str
    objects: int
    box: float
    click: float
    corrected: float
    ellipse: float
    otsu: float


def measure(folder: Path, model: Model) -> SetFigures:
    """Return the figures of one set."""
    planes = load_set(folder)
    planes = [planes[i] for i in np.unique(np.linspace(0, len(planes) - 1, PLANES_A_SET).astype(int))]
    pairs = [(plane.image, plane.labels) for plane in planes]
    (evaluation,) = evaluate(model, pairs)
    figures = evaluation.figures
    ellipse, otsu = _baselines(planes)
    return SetFigures(
        folder.name, figures.count, figures.box_iou, figures.click_iou, figures.corrected_iou, ellipse, otsu
    )


def _baselines(planes: list[LabelledPlane]) -> tuple[float, float]:
    ellipses, bright, dark = [], [], []
    for plane in planes:
        for found in find_objects(plane.labels):
            y0, x0, y1, x1 = found.box
            truth = plane.labels[y0:y1, x0:x1] == found.label
            part = plane.image[y0:y1, x0:x1].astype(np.float64)
            above = part > threshold_otsu(part) if np.ptp(part) else np.ones_like(truth)
            ellipses.append(mask_iou(ellipse_in(truth.shape), truth))
            bright.append(mask_iou(above, truth))
            dark.append(mask_iou(~above, truth))
    return float(np.mean(ellipses)), float(max(np.mean(bright), np.mean(dark)))


def ellipse_in(shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the ellipse inscribed in a box of this shape (y, x)."""
    y, x = ((np.arange(side) + 0.5) / side * 2 - 1 for side in shape)
    return y[:, None] ** 2 + x[None, :] ** 2 <= 1


def main() -> None:
    """Print a table of all sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--model", default="sam_nano")
    parser.add_argument(
        "--input-size", type=int, help="pixels; by default that of the model. The planes stay the same."
    )
    options = parser.parse_args()
    model = load_model(options.model, input_size=options.input_size)
    print("| set | objects | box | first click | 5 corrections | ellipse in box | Otsu in box |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for folder in options.folders:
        row = measure(folder, model)
        rows.append(row)
        values = (row.box, row.click, row.corrected, row.ellipse, row.otsu)
        print(f"| {row.name} | {row.objects} | " + " | ".join(f"{value:.3f}" for value in values) + " |", flush=True)
    means = [np.mean([getattr(row, name) for row in rows]) for name in ("box", "click", "corrected", "ellipse", "otsu")]
    print("| mean | | " + " | ".join(f"{value:.3f}" for value in means) + " |")


if __name__ == "__main__":
    main()

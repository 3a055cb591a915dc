"""Draw pictures of an evaluation: a bar chart of figures, and outlines of masks over the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from skimage.segmentation import find_boundaries

from napari_sam_lora.files import atomic_path

_STYLE = {"font.size": 11, "savefig.facecolor": "white", "axes.spines.top": False, "axes.spines.right": False}


def draw_bars(
    path: Path,
    titles: Sequence[str],
    values: Mapping[str, Sequence[float]],
    errors: Mapping[str, Sequence[float]] | None = None,
    label: str = "",
) -> None:
    """Draw a bar chart with one group of bars per figure and one colour per model; written atomically.

    Parameters
    ----------
    path : Path
        Its ending chooses the format, such as .png.
    titles : sequence of str
        Names of the figures.
    values : mapping of str to sequence of float
        The figures of each model, in the order of the titles; between 0 and 1.
    errors : mapping of str to sequence of float, optional
        Half the length of the error bars.
    label : str
        Label of the value axis.
    """
    places, width = np.arange(len(titles)), 0.8 / len(values)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(max(6, 1.2 * len(titles) * max(2, len(values) * 0.7)), 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        axis = figure.subplots()
        for number, (name, heights) in enumerate(values.items()):
            bars = axis.bar(
                places + (number - (len(values) - 1) / 2) * width,
                heights,
                width * 0.92,
                yerr=None if errors is None else errors[name],
                capsize=3,
                label=name,
            )
            axis.bar_label(bars, fmt="%.2f", padding=2, fontsize=9)
        axis.set_xticks(places, titles)
        axis.set_ylim(0, 1.05)
        axis.set_ylabel(label)
        axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=120)


@dataclass(frozen=True, eq=False)
class Panel:
    """One image of a figure.

    Attributes
    ----------
    title : str
    image : uint8 (y, x, 3), or float (y, x) between 0 and 1
    labels : int (y, x), optional
        Drawn as outlines.
    """

    title: str
    image: NDArray[Any]
    labels: NDArray[Any] | None = None


def draw_panels(path: Path, rows: Sequence[Sequence[Panel]]) -> None:
    """Draw rows of images with outlines; written atomically.

    Parameters
    ----------
    path : Path
        Its ending chooses the format, such as .png.
    rows : sequence of sequence of Panel
        Rows of the same length.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3 * len(rows[0]), 3.2 * len(rows)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
        for axis, panel in zip(axes.ravel(), (panel for row in rows for panel in row), strict=True):
            axis.imshow(outlined(panel.image, panel.labels), interpolation="nearest")
            axis.set_axis_off()
            axis.set_title(panel.title)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=100)


def outlined(image: NDArray[Any], labels: NDArray[Any] | None) -> NDArray[np.float64]:
    """Return the image with coloured outlines, one colour per object.

    Parameters
    ----------
    image : uint8 (y, x, 3), or float (y, x) between 0 and 1
    labels : int (y, x), optional

    Returns
    -------
    float64 (y, x, 3)
        Between 0 and 1.
    """
    scaled = image / 255 if image.dtype == np.uint8 else np.asarray(image, np.float64)
    rgb = np.array(scaled if scaled.ndim == 3 else np.repeat(scaled[..., None], 3, axis=2), np.float64)
    if labels is not None and labels.any():
        _, compact = np.unique(labels, return_inverse=True)
        compact = compact.reshape(labels.shape) + int((labels != 0).all())
        colours = mpl.colormaps["hsv"](np.random.default_rng(0).random(int(compact.max()) + 1))[:, :3]
        edge = find_boundaries(compact, mode="inner")
        rgb[edge] = colours[compact[edge]]
    return rgb

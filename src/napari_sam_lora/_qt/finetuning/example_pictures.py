"""Pictures of labelled planes and of objects as models segment them; made in a worker thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import find_boundaries

from napari_sam_lora.images import to_rgb8
from napari_sam_lora.labels import LabelMeaning, separate_objects
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.session import CancelToken, PlaneKey, TrainingPlane
from napari_sam_lora.text import pluralize

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.lora.adapter import Adapter
    from napari_sam_lora.training.evaluation.metrics import ObjectScore

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]
LABEL_COLOUR, BASE_COLOUR, ADAPTED_COLOUR = (255, 255, 255), (230, 159, 0), (63, 167, 214)
PICTURE_SIDE = 112  # pixels, about
MARGIN = 0.5  # around an object, as a share of its size


@dataclass(frozen=True, eq=False)
class Example:
    """A picture, and the position in the viewer that it is of.

    Attributes
    ----------
    title : str
    tip : str
        Tooltip.
    picture : uint8 (y, x, 3)
    plane : PlaneKey
    centre : tuple of float
        Position along all axes of the image.
    """

    title: str
    tip: str
    picture: Picture
    plane: PlaneKey
    centre: tuple[float, ...]


def render_planes(token: CancelToken, *, planes: Sequence[TrainingPlane], meaning: str) -> list[Example]:
    """Render planes with their labelled objects in colour."""
    examples = []
    for number, plane in enumerate(planes):
        token.progress(number, len(planes))
        pixels, objects = _subsample(to_rgb8(plane.source.read(plane.plane)), objects_in(plane, meaning))
        pixels[objects > 0] = (pixels[objects > 0] // 2 + np.array(ADAPTED_COLOUR) // 2).astype(np.uint8)
        centre = image_position(plane.plane, np.argwhere(plane.labels > 0).mean(0))
        count = pluralize(len(np.unique(objects[objects > 0])), "object")
        index = " ".join(map(str, plane.plane.index))
        tip = f"{plane.source.name} {index}: {count}. Click to go there."
        examples.append(Example(index, tip, pixels, plane.plane, centre))
    return examples


def gains(base: Sequence[ObjectScore], adapted: Sequence[ObjectScore]) -> NDArray[np.float64]:
    """Return the gain in IoU of each object, mean of box and first click."""
    return np.array(
        [(b.box_iou + b.click_iou - a.box_iou - a.click_iou) / 2 for a, b in zip(base, adapted, strict=True)],
        np.float64,
    )


def render_objects(
    token: CancelToken,
    *,
    model: Model,
    adapter: Adapter,
    planes: Sequence[TrainingPlane],
    base: Sequence[ObjectScore],
    adapted: Sequence[ObjectScore],
    meaning: str,
) -> list[Example]:
    """Render the objects with the worst, the median and the best gain, each segmented from its box."""
    from napari_sam_lora.api import Model  # noqa: PLC0415  torch is imported when it is needed

    model = Model(model.loaded, model.preprocessing)  # the session may use its own meanwhile
    gain, examples = gains(base, adapted), []
    order = np.argsort(gain, kind="stable")
    ranks = dict.fromkeys(order[[0, len(order) // 2, -1]].tolist())
    chosen = dict(zip(ranks, ("worst", "median", "best"), strict=False))
    for number, (which, title) in enumerate(chosen.items()):
        token.progress(number, len(chosen))
        score, plane = base[which], planes[base[which].plane]
        pixels, label = plane.source.read(plane.plane), objects_in(plane, meaning) == score.label
        if not label.any():
            continue
        outlines = [
            (label, LABEL_COLOUR),
            (_segment(model, None, pixels, label), BASE_COLOUR),
            (_segment(model, adapter, pixels, label), ADAPTED_COLOUR),
        ]
        picture = _crop(to_rgb8(pixels), outlines)
        tip = (
            f"Object {score.label}: IoU with a box {score.box_iou:.2f} → {adapted[which].box_iou:.2f}, with one click "
            f"{score.click_iou:.2f} → {adapted[which].click_iou:.2f}. White: your label; orange: base model; "
            "blue: adapted. Click to go there."
        )
        centre = image_position(plane.plane, np.argwhere(label).mean(0))
        examples.append(Example(f"{title} {gain[which]:+z.2f}", tip, picture, plane.plane, centre))
    return examples


def image_position(plane: PlaneKey, yx: NDArray[Any]) -> tuple[float, ...]:
    """Return a position (y, x) in a plane as a position along all axes of the image."""
    position = np.zeros(plane.ndim)
    position[list(plane.other_axes)] = plane.index
    position[list(plane.axes)] = yx
    return tuple(float(value) for value in position)


def objects_in(plane: TrainingPlane, meaning: str) -> NDArray[np.int64]:
    """Return the labels (y, x) of a training plane with one id per object, see `separate_objects`."""
    return separate_objects(plane.labels.astype(np.int64, copy=False), cast("LabelMeaning", meaning))[0]


def _segment(model: Model, adapter: Adapter | None, pixels: NDArray[Any], label: Mask) -> Mask:
    ys, xs = np.nonzero(label)
    box = Prompts(boxes=[[ys.min(), xs.min(), ys.max() + 1, xs.max() + 1]])
    with model.adapted(adapter):
        return model.segment(model.encode(pixels), box).masks[0]


def _crop(pixels: Picture, outlines: Sequence[tuple[Mask, tuple[int, int, int]]]) -> Picture:
    """Crop to the first mask and its surroundings, and draw the outline of each mask in its colour."""
    ys, xs = np.nonzero(outlines[0][0])
    half = max(8, int((1 + MARGIN) * max(np.ptp(ys) + 1, np.ptp(xs) + 1) / 2))
    centre = (int(ys.min() + ys.max()) // 2, int(xs.min() + xs.max()) // 2)
    rows, columns = (slice(max(0, at - half), at + half) for at in centre)
    factor = max(1, PICTURE_SIDE // (2 * half))
    picture = np.kron(pixels[rows, columns], np.ones((factor, factor, 1), np.uint8))
    for mask, colour in outlines:
        enlarged = np.kron(mask[rows, columns], np.ones((factor, factor), np.bool_))
        picture[find_boundaries(enlarged, mode="inner")] = colour
    return picture


def _subsample(pixels: Picture, objects: NDArray[np.int64]) -> tuple[Picture, NDArray[np.int64]]:
    """Keep every n-th pixel, so that the picture is about `PICTURE_SIDE` pixels large."""
    step = max(1, round(max(objects.shape) / PICTURE_SIDE))
    return pixels[::step, ::step].copy(), objects[::step, ::step]

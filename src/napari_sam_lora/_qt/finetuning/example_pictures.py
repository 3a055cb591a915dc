"""Pictures of labelled objects and of what models make of them; made in a worker thread."""

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

if TYPE_CHECKING:
    from napari_sam_lora.api import Model
    from napari_sam_lora.lora.adapter import Adapter
    from napari_sam_lora.training.evaluation.metrics import ObjectScore

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]
WANTED, BASE, ADAPTED = (255, 255, 255), (230, 159, 0), (63, 167, 214)
SIDE = 112
MARGIN = 0.5  # around an object, as a share of its size


@dataclass(frozen=True, eq=False)
class Example:
    """A picture that leads to its place in the viewer.

    Attributes
    ----------
    title : str
    tip : str
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


def show_planes(token: CancelToken, *, planes: Sequence[TrainingPlane], meaning: str) -> list[Example]:
    """Planes with what is labelled in colour."""
    found = []
    for number, plane in enumerate(planes):
        token.progress(number, len(planes))
        pixels, objects = _small(to_rgb8(plane.source.read(plane.plane)), _objects(plane, meaning))
        pixels[objects > 0] = (pixels[objects > 0] // 2 + np.array(ADAPTED) // 2).astype(np.uint8)
        there = np.argwhere(plane.labels > 0).mean(0)
        total = len(np.unique(objects[objects > 0]))
        where = " ".join(map(str, plane.plane.index))
        tip = f"{plane.source.name} {where}: {total} objects. Click to go there."
        found.append(Example(where, tip, pixels, plane.plane, place(plane.plane, there)))
    return found


def gains(base: Sequence[ObjectScore], adapted: Sequence[ObjectScore]) -> NDArray[np.float64]:
    """Gain in IoU of each object, over box and first click."""
    return np.array(
        [(b.box_iou + b.click_iou - a.box_iou - a.click_iou) / 2 for a, b in zip(base, adapted, strict=True)],
        np.float64,
    )


def show_objects(
    token: CancelToken,
    *,
    model: Model,
    adapter: Adapter,
    planes: Sequence[TrainingPlane],
    base: Sequence[ObjectScore],
    adapted: Sequence[ObjectScore],
    meaning: str,
) -> list[Example]:
    """The object that lost most, the one in the middle and the one that gained most, each prompted by its box."""
    from napari_sam_lora.api import Model  # noqa: PLC0415  torch is imported when it is needed

    own = Model(model.loaded, model.preprocessing)  # the session's may be in use meanwhile
    change, found = gains(base, adapted), []
    order = np.argsort(change, kind="stable")
    ranks = dict.fromkeys(order[[0, len(order) // 2, -1]].tolist())
    chosen = dict(zip(ranks, ("worst", "median", "best"), strict=False))
    for number, (which, title) in enumerate(chosen.items()):
        token.progress(number, len(chosen))
        score, plane = base[which], planes[base[which].plane]
        pixels, wanted = plane.source.read(plane.plane), _objects(plane, meaning) == score.label
        if not wanted.any():
            continue
        masks = [(_segment(own, using, pixels, wanted), colour) for using, colour in ((None, BASE), (adapter, ADAPTED))]
        picture = _crop(to_rgb8(pixels), [(wanted, WANTED), *masks])
        tip = (
            f"Object {score.label}: with a box IoU {score.box_iou:.2f} → {adapted[which].box_iou:.2f}, with one click "
            f"{score.click_iou:.2f} → {adapted[which].click_iou:.2f}. White: your label; orange: base; blue: adapted. "
            "Click to go there."
        )
        centre = np.argwhere(wanted).mean(0)
        found.append(Example(f"{title} {change[which]:+z.2f}", tip, picture, plane.plane, place(plane.plane, centre)))
    return found


def place(plane: PlaneKey, centre: NDArray[Any]) -> tuple[float, ...]:
    """A position (y, x) in a plane as one along all axes of the image."""
    position = np.zeros(plane.ndim)
    position[list(plane.other_axes)] = plane.index
    position[list(plane.axes)] = centre
    return tuple(float(value) for value in position)


def _objects(plane: TrainingPlane, meaning: str) -> NDArray[np.int64]:
    return separate_objects(plane.labels, cast("LabelMeaning", meaning))[0]


def _segment(model: Model, adapter: Adapter | None, pixels: NDArray[Any], wanted: Mask) -> Mask:
    ys, xs = np.nonzero(wanted)
    box = Prompts(boxes=[[ys.min(), xs.min(), ys.max() + 1, xs.max() + 1]])
    with model.adapted(adapter):
        return model.segment(model.encode(pixels), box).masks[0]


def _crop(pixels: Picture, masks: Sequence[tuple[Mask, tuple[int, int, int]]]) -> Picture:
    """The surroundings of the first mask, with outlines."""
    ys, xs = np.nonzero(masks[0][0])
    half = max(8, int((1 + MARGIN) * max(np.ptp(ys) + 1, np.ptp(xs) + 1) / 2))
    middle = (int(ys.min() + ys.max()) // 2, int(xs.min() + xs.max()) // 2)
    rows, columns = (slice(max(0, at - half), at + half) for at in middle)
    shown, factor = pixels[rows, columns], max(1, SIDE // (2 * half))
    shown = np.kron(shown, np.ones((factor, factor, 1), np.uint8))
    for mask, colour in masks:
        grown = np.kron(mask[rows, columns], np.ones((factor, factor), np.bool_))
        shown[find_boundaries(grown, mode="inner")] = colour
    return shown


def _small(pixels: Picture, objects: NDArray[np.int64]) -> tuple[Picture, NDArray[np.int64]]:
    """Every so many pixels, so that a picture is about `SIDE` large."""
    step = max(1, round(max(objects.shape) / SIDE))
    return pixels[::step, ::step].copy(), objects[::step, ::step]

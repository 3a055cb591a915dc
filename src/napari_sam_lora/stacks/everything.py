"""Segment planes of any size: everything mode, or objects with prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from skimage.segmentation import relabel_sequential
from torchvision.ops import nms  # type: ignore[import-untyped]

from napari_sam_lora.images import fixed_window, to_rgb8
from napari_sam_lora.model.automatic import Progress, everything, records_to_labels
from napari_sam_lora.model.predictor import Predictor
from napari_sam_lora.parameters.everything import EverythingConfig
from napari_sam_lora.parameters.tiling import TilingConfig
from napari_sam_lora.prompts import ObjectPrompts
from napari_sam_lora.regions import Region
from napari_sam_lora.stacks.plane_decoder import ImageDecoder
from napari_sam_lora.stacks.propagation.step import segment_seeds
from napari_sam_lora.stacks.tiles import Level, Tile, pyramid

# Overlap of searched tiles: every object up to this share of a tile's side lies wholly in one of them.
OVERLAP = 0.25
# Objects longer than this share of the overlap are searched in larger tiles too; the better mask is kept.
_MARGIN = 0.8


@dataclass(frozen=True, eq=False)
class Found:
    """An object that everything mode found in a plane.

    Attributes
    ----------
    region : Region
    score : float
        Predicted IoU.
    """

    region: Region
    score: float


def is_tiled(shape: tuple[int, int], predictor: Predictor, tiling: TilingConfig | None = None) -> bool:
    """Return whether a plane of this shape (y, x) is cut into tiles."""
    return len(pyramid(shape, predictor.input_size, tiling)) > 1


def find_everything(
    predictor: Predictor,
    image: ArrayLike,
    config: EverythingConfig | None = None,
    progress: Progress | None = None,
    tiling: TilingConfig | None = None,
) -> list[Found]:
    """Find all objects of a plane, best first.

    A large plane is searched in tiles of several sizes, each for the objects that fit it. Masks that are cut by the
    edge of a tile are left out: another tile holds them whole. Tiles of uniform intensity are skipped.

    Parameters
    ----------
    predictor : Predictor
    image : array_like
        (y, x) or (y, x, c).
    config : EverythingConfig, optional
        Its grid of clicks is placed on each tile.
    progress : callable, optional
        Called with the batches of clicks done and in total; an exception that it raises ends the search.
    tiling : TilingConfig, optional
    """
    pixels, config = np.asarray(image), config or EverythingConfig()
    levels = _levels((pixels.shape[0], pixels.shape[1]), predictor, tiling)
    window = fixed_window(pixels, predictor.preprocessing) if len(levels) > 1 else predictor.preprocessing
    shown = replace(predictor, preprocessing=window)
    work = [(place, tile) for place, level in enumerate(levels) for tile in level.tiles()]
    found: list[Found] = []
    for number, (place, tile) in enumerate(work):
        report = _progress_of(progress, number, len(work))
        part = pixels[tile.slices]
        if len(levels) > 1 and not np.ptp(to_rgb8(part, window)):
            continue
        for one in _search(shown, part, tile, config, report):
            if _fits_level(one.region, place, tile, levels):
                found.append(one)
    if progress is not None and len(work) > 1:
        progress(len(work) * _STEPS, len(work) * _STEPS)
    return _without_duplicates(found, config.box_nms_thresh if len(levels) > 1 else 1.0)


def segment_everything(
    predictor: Predictor,
    image: ArrayLike,
    config: EverythingConfig | None = None,
    progress: Progress | None = None,
    tiling: TilingConfig | None = None,
    smallest: int = 0,
) -> NDArray[np.int32]:
    """Run `find_everything`; returns instance ids int32 (y, x), numbered without gaps, smaller objects in front."""
    shape = np.shape(image)[:2]
    if not is_tiled((shape[0], shape[1]), predictor, tiling):
        return records_to_labels(everything(predictor, image, config, progress), (shape[0], shape[1]), smallest)
    found = find_everything(predictor, image, config, progress, tiling)
    return paint([one.region for one in found], (shape[0], shape[1]), smallest)


def paint(regions: Sequence[Region], shape: tuple[int, int], smallest: int = 0) -> NDArray[np.int32]:
    """Turn masks into instance ids like `records_to_labels`."""
    kept = [region for region in regions if smallest <= region.area <= shape[0] * shape[1] / 2]
    labels = numbered(sorted(kept, key=lambda region: -region.area), shape)
    return np.asarray(relabel_sequential(labels)[0], np.int32)


def numbered(regions: Sequence[Region], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Return a label image int32 (y, x) of masks, counted from 1; later ones are in front."""
    labels = np.zeros(shape, np.int32)
    for number, region in enumerate(regions, start=1):
        region.write(labels, number)
    return labels


def segment_prompted(
    predictor: Predictor, image: ArrayLike, prompts: Mapping[int, ObjectPrompts], tiling: TilingConfig | None = None
) -> NDArray[np.int64]:
    """Segment prompted objects by id in a plane of any size, to labels (y, x); a pixel goes to the highest logit."""
    decoder = ImageDecoder(predictor, image, tiling)
    labels = np.zeros(decoder.shape, np.int64)
    for label, region in segment_seeds(decoder, prompts, np.ones(decoder.shape, np.bool_)).objects.items():
        region.write(labels, label)
    return labels


_STEPS = 100  # units of progress for each tile


def _levels(shape: tuple[int, int], predictor: Predictor, tiling: TilingConfig | None) -> list[Level]:
    return [
        level if level.is_whole else replace(level, overlap=OVERLAP)
        for level in pyramid(shape, predictor.input_size, tiling)
    ]


def _search(
    predictor: Predictor, part: NDArray[np.generic], tile: Tile, config: EverythingConfig, report: Progress | None
) -> Iterator[Found]:
    for record in everything(predictor, part, config, report):
        yield Found(Region.of(record["segmentation"], (tile.y0, tile.x0)), float(record["predicted_iou"]))


def _fits_level(region: Region, place: int, tile: Tile, levels: Sequence[Level]) -> bool:
    """Return whether an object is whole and of the size that tiles of this level are for."""
    y0, x0, y1, x1 = region.box
    if tile.cuts((float(y0), float(x0), float(y1), float(x1)), levels[place].shape):
        return False
    return place == 0 or max(region.crop.shape) > _MARGIN * OVERLAP * levels[place - 1].side


def _without_duplicates(found: Sequence[Found], threshold: float) -> list[Found]:
    if not found:
        return []
    boxes = torch.tensor([one.region.box for one in found], dtype=torch.float32)
    kept = nms(boxes, torch.tensor([one.score for one in found]), threshold)
    return [found[index] for index in kept.tolist()]


def _progress_of(progress: Progress | None, number: int, count: int) -> Progress | None:
    """Return the progress of one of several searches, as a share of all."""
    if progress is None or count == 1:
        return progress
    return lambda done, total: progress(number * _STEPS + done * _STEPS // max(total, 1), count * _STEPS)

"""Cut large planes into crops around their objects, at the scale at which they are segmented later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.images import Preprocessing, StackPosition, fixed_window
from napari_sam_lora.labels import LabelledObject, LabelMeaning, find_objects
from napari_sam_lora.prompts import Box, ObjectPrompts, Prompts
from napari_sam_lora.stacks.tiles import Level, Tile, level_for, pyramid
from napari_sam_lora.training.data.samples import Background, Labelled, TrainingPair, as_pair, image_key

# Crops of one plane; each is encoded several times.
MAX_CROPS = 24


def cut_large(
    pair: Labelled, input_size: int, preprocessing: Preprocessing, meaning: LabelMeaning = "instances"
) -> Iterator[tuple[Labelled, Preprocessing]]:
    """Yield a pair as it is, or crops of a large one that hold most of its objects; each with its preprocessing.

    Crops of a plane do not overlap, and hold their position in it, so that held-out objects are not trained on and
    stay held out when other crops are chosen later. Objects that no crop holds completely are left out. Crops have the
    intensity window of the whole plane, like the tiles of segmentation.

    Parameters
    ----------
    pair : (image, labels) and more
        See `snapshot`.
    input_size : int
        Side of the model input in pixels.
    preprocessing : Preprocessing
    meaning : str
        Meaning of the labels; only planes with instances are cut.
    """
    whole = as_pair(pair)
    image, labels = np.asarray(whole.image), np.asarray(whole.labels)
    levels = pyramid(image.shape[:2], input_size) if image.ndim in (2, 3) else []
    fits = labels.shape == image.shape[:2] and labels.dtype.kind in "iu" and labels.min(initial=0) >= 0
    if len(levels) < 2 or meaning != "instances" or not fits or not labels.any():
        yield pair, preprocessing
        return
    height, width = labels.shape
    place = replace(whole.position or StackPosition(image_key(image)), plane_shape=(height, width))
    window = fixed_window(image, preprocessing)
    for tile, objects in choose_crops(find_objects(labels), levels):
        crop, prompts = _cut_labels(labels, whole.prompts, tile, objects)
        background = _cut_background(labels, whole.background, tile)
        moved = replace(place, corner=(tile.y0, tile.x0))
        yield TrainingPair(image[tile.slices], crop, prompts, moved, background, whole.classes), window


def choose_crops(objects: list[LabelledObject], levels: list[Level]) -> list[tuple[Tile, list[LabelledObject]]]:
    """Choose tiles that do not overlap, those with most objects first; each is returned with its objects."""
    counts: dict[Tile, int] = {}
    level_of = {found.label: level_for(levels, _box(found)) for found in objects}
    for found in objects:
        tile = levels[level_of[found.label]].around(_box(found))
        counts[tile] = counts.get(tile, 0) + 1
    chosen: list[Tile] = []
    for tile in sorted(counts, key=lambda one: (-counts[one], one)):
        if len(chosen) < MAX_CROPS and not any(_overlap(tile, other) for other in chosen):
            chosen.append(tile)
    crops = []
    for tile in chosen:
        # An object that is segmented in larger tiles is not trained on in a small one.
        own = [
            found
            for found in objects
            if _is_inside(found, tile) and levels[level_of[found.label]].side <= max(tile.shape)
        ]
        crops.append((tile, own))
    return crops


def _cut_labels(
    labels: NDArray[Any], prompts: Mapping[int, Prompts], tile: Tile, objects: list[LabelledObject]
) -> tuple[NDArray[Any], dict[int, Prompts]]:
    """Return the labels and the prompts of some objects in a tile."""
    ids = [found.label for found in objects]
    crop = labels[tile.slices]
    prompts_in_crop = {}
    for label in ids:
        own = prompts.get(label)
        if own is not None and (own.masks is None or own.masks.dtype == bool):
            (prompted,) = ObjectPrompts.from_prompts(own)
            inside = prompted.within(tile.box)
            if any(inside.kinds()):
                prompts_in_crop[label] = inside.as_prompts(tile.shape)
    return np.where(np.isin(crop, ids), crop, 0), prompts_in_crop


def _cut_background(labels: NDArray[Any], background: Background, tile: Tile) -> Background:
    """Return the known background in a tile; objects that the tile cuts are not background."""
    if background is None or background is False:
        return None
    unlabelled = labels[tile.slices] == 0
    return unlabelled if background is True else unlabelled & np.asarray(background)[tile.slices]


def _box(found: LabelledObject) -> Box:
    y0, x0, y1, x1 = found.box
    return float(y0), float(x0), float(y1), float(x1)


def _overlap(tile: Tile, other: Tile) -> bool:
    return tile.y0 < other.y1 and other.y0 < tile.y1 and tile.x0 < other.x1 and other.x0 < tile.x1


def _is_inside(found: LabelledObject, tile: Tile) -> bool:
    y0, x0, y1, x1 = found.box
    return tile.y0 <= y0 and tile.x0 <= x0 and y1 <= tile.y1 and x1 <= tile.x1

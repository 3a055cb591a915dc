"""Large planes as crops around their objects, at the scale at which they are segmented later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.images import Preprocessing, StackPosition, fixed_window
from napari_sam_lora.labels import LabelledObject, LabelMeaning, find_objects
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.stacks.tile_masks import ObjectPrompts, in_tile
from napari_sam_lora.stacks.tiles import Box, Level, Tile, level_for, pyramid
from napari_sam_lora.training.data.samples import Background, Labelled, background_of, image_key, known

# Of one plane; each is encoded several times.
MOST_CROPS = 24


def cut_large(
    pair: Labelled, input_size: int, preprocessing: Preprocessing, meaning: LabelMeaning = "instances"
) -> Iterator[tuple[Labelled, Preprocessing]]:
    """A pair as it is, or instead of a large one crops that hold most of its objects; each with its preprocessing.

    Crops of a plane do not overlap, and know where they lie in it, so that what is held out is not trained on, and
    stays held out when other crops are chosen later. Objects that lie in none as a whole are left out. Crops are shown
    in the intensity window of the plane, as tiles are when objects are segmented.

    Parameters
    ----------
    pair : (image, labels) and more
        See `snapshot`.
    input_size : int
        Of the model.
    preprocessing : Preprocessing
    meaning : str
        Of the labels; only planes of instances are cut.
    """
    prompts, position = known(pair)
    given = background_of(pair)
    image, labels = np.asarray(pair[0]), np.asarray(pair[1])
    levels = pyramid(image.shape[:2], input_size) if image.ndim in (2, 3) else []
    fits = labels.shape == image.shape[:2] and labels.dtype.kind in "iu" and labels.min(initial=0) >= 0
    if len(levels) < 2 or meaning != "instances" or not fits or not labels.any():
        yield pair, preprocessing
        return
    height, width = labels.shape
    place = replace(position or StackPosition(image_key(image)), plane_shape=(height, width))
    window = fixed_window(image, preprocessing)
    for tile, objects in choose_crops(find_objects(labels), levels):
        part, moved = _cut_labels(labels, prompts, tile, objects)
        background = _cut_background(labels, given, tile)
        yield (image[tile.slices], part, moved, replace(place, corner=(tile.y0, tile.x0)), background), window


def choose_crops(objects: list[LabelledObject], levels: list[Level]) -> list[tuple[Tile, list[LabelledObject]]]:
    """Tiles that do not overlap and hold many objects, each with its own; those with most first."""
    wanted: dict[Tile, int] = {}
    place_of = {found.label: level_for(levels, _box(found)) for found in objects}
    for found in objects:
        tile = levels[place_of[found.label]].around(_box(found))
        wanted[tile] = wanted.get(tile, 0) + 1
    chosen: list[Tile] = []
    for tile in sorted(wanted, key=lambda one: (-wanted[one], one)):
        if len(chosen) < MOST_CROPS and not any(_overlap(tile, other) for other in chosen):
            chosen.append(tile)
    crops = []
    for tile in chosen:
        # Objects that would be seen in larger tiles are not learned from a small one.
        own = [
            found
            for found in objects
            if _is_inside(found, tile) and levels[place_of[found.label]].side <= max(tile.shape)
        ]
        crops.append((tile, own))
    return crops


def _cut_labels(
    labels: NDArray[Any], prompts: Mapping[int, Prompts], tile: Tile, objects: list[LabelledObject]
) -> tuple[NDArray[Any], dict[int, Prompts]]:
    """Labels and prompts of some objects in a tile."""
    ids = [found.label for found in objects]
    part = labels[tile.slices]
    moved = {}
    for label in ids:
        given = prompts.get(label)
        if given is not None and (given.masks is None or given.masks.dtype == bool):
            moved[label] = in_tile(ObjectPrompts.rows(given), tile)
    return np.where(np.isin(part, ids), part, 0), moved


def _cut_background(labels: NDArray[Any], given: Background, tile: Tile) -> Background:
    """Known background in a tile; objects that it cuts are not in its labels, but are no background either."""
    if given is None or given is False:
        return None
    free = labels[tile.slices] == 0
    return free if given is True else free & np.asarray(given)[tile.slices]


def _box(found: LabelledObject) -> Box:
    y0, x0, y1, x1 = found.box
    return float(y0), float(x0), float(y1), float(x1)


def _overlap(tile: Tile, other: Tile) -> bool:
    return tile.y0 < other.y1 and other.y0 < tile.y1 and tile.x0 < other.x1 and other.x0 < tile.x1


def _is_inside(found: LabelledObject, tile: Tile) -> bool:
    y0, x0, y1, x1 = found.box
    return tile.y0 <= y0 and tile.x0 <= x0 and y1 <= tile.y1 and x1 <= tile.x1

"""Segmentation of prompted objects in large planes, each in the tile that fits it best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.regions import Region
from napari_sam_lora.session.prompting.draft import PromptItem, Row
from napari_sam_lora.session.prompting.preview import RowMask

if TYPE_CHECKING:
    from napari_sam_lora.stacks.tiles import Box, Level, Tile

# Points alone do not tell the size of an object: below this predicted IoU, larger tiles are tried too.
UNSURE = 0.5


def segment_row(segment: Callable[[Tile, Row], RowMask | None], levels: list[Level], row: Row) -> RowMask | None:
    """Segment one object in the first tile that does not cut its mask.

    Parameters
    ----------
    segment : callable
        Returns the mask of a row in a tile; row and mask are in pixels of the tile.
    levels : list of Level
        See `pyramid`.
    row : tuple of PromptItem
        Prompts in pixels of the plane.
    """
    from napari_sam_lora.stacks.tiles import level_for  # noqa: PLC0415

    extent = extent_of(row)
    if extent is None:
        return None
    only_points = all(item.kind in ("point", "scribble") for item in row)
    best: RowMask | None = None
    for level in levels[level_for(levels, extent) :]:
        tile = level.around(extent)
        found = segment(tile, _shift(row, tile))
        if found is None:
            return None
        box = Region.of(found.mask).box
        corner = (tile.y0, tile.x0, tile.y0, tile.x0)
        cut = tile.cuts(tuple(np.add(box, corner).tolist()), level.shape) and found.mask.any()
        if level.is_whole or (not cut and (best is None or found.score > best.score)):
            best = best if best is not None and best.score > found.score else _in_plane(found, tile, level.shape)
        if not cut and not (only_points and found.score < UNSURE):
            break
    return best


def extent_of(row: Row) -> Box | None:
    """Return the box around the positive prompts of an object; None without any."""
    corners = []
    for item in row:
        if not item.positive:
            continue
        if item.region is not None:
            corners.append(item.region.box)
        elif len(item.coordinates):
            end = item.coordinates.max(0) + (item.kind != "box")
            corners.append((*item.coordinates.min(0), *end))
    if not corners:
        return None
    found = np.array(corners, np.float64)
    return (*found[:, :2].min(0).tolist(), *found[:, 2:].max(0).tolist())


def _shift(row: Row, tile: Tile) -> Row:
    """Convert prompts to pixels of a tile, without points outside it."""
    return tuple(moved for item in row if (moved := _shift_item(item, tile)) is not None)


def _shift_item(item: PromptItem, tile: Tile) -> PromptItem | None:
    coordinates = item.coordinates - (tile.y0, tile.x0)
    if item.kind in ("point", "scribble"):
        coordinates = coordinates[((coordinates >= -0.5) & (coordinates < np.array(tile.shape) - 0.5)).all(1)]
        if not len(coordinates):
            return None
    region = None
    if item.region is not None:
        top, left = item.region.origin[0] - tile.y0, item.region.origin[1] - tile.x0
        crop = item.region.crop[max(0, -top) :, max(0, -left) :]
        region = Region.of(Region((max(0, top), max(0, left)), crop).to_mask(tile.shape))
    return replace(item, coordinates=coordinates, region=region)


def _in_plane(found: RowMask, tile: Tile, shape: tuple[int, int]) -> RowMask:
    """Paste the masks of a tile into the plane."""

    def paste(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        plane = np.zeros((*masks.shape[:-2], *shape), np.bool_)
        plane[(..., *tile.slices)] = masks
        return plane

    return replace(found, mask=paste(found.mask), candidates=paste(found.candidates))

"""Tiles of large planes, at several scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_sam_lora.parameters.tiling import TilingConfig
from napari_sam_lora.prompts import Box

# An object longer than this share of a tile is segmented in larger tiles, which show its surroundings.
LONGEST_SHARE = 1 / 3
_DEFAULT_TILING = TilingConfig()


@dataclass(frozen=True, order=True)
class Tile:
    """A rectangle of a plane, half-open."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x)."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(y0, x0, y1, x1), half-open."""
        return self.y0, self.x0, self.y1, self.x1

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the tile in a plane."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def cuts(self, box: Box, plane: tuple[int, int]) -> bool:
        """Return whether a box, in pixels of the plane, reaches an edge of the tile that is not one of the plane."""
        y0, x0, y1, x1 = box
        inner = (self.y0 > 0 and y0 <= self.y0, self.x0 > 0 and x0 <= self.x0)
        outer = (self.y1 < plane[0] and y1 >= self.y1, self.x1 < plane[1] and x1 >= self.x1)
        return any(inner) or any(outer)


@dataclass(frozen=True)
class Level:
    """Tiles of one size.

    Attributes
    ----------
    side : int
        Side of each tile in pixels; in a narrower plane tiles are narrower.
    shape : tuple of int
        (y, x) of the plane.
    overlap : float
    """

    side: int
    shape: tuple[int, int]
    overlap: float

    @property
    def is_whole(self) -> bool:
        """Return whether the only tile is the whole plane."""
        return self.side >= max(self.shape)

    def tiles(self) -> list[Tile]:
        """List all tiles, row by row; together they cover the plane."""
        rows, columns = (starts(length, self.side, self.overlap) for length in self.shape)
        return [self._tile(y, x) for y in rows for x in columns]

    def around(self, box: Box) -> Tile:
        """Return the tile whose centre is nearest to that of a box."""
        corners = []
        for axis, length in enumerate(self.shape):
            middle = (box[axis] + box[axis + 2]) / 2
            positions = starts(length, self.side, self.overlap)
            corners.append(min(positions, key=lambda start, at=middle: abs(start + self.side / 2 - at)))  # type: ignore[misc]
        return self._tile(*corners)

    def _tile(self, y: int, x: int) -> Tile:
        return Tile(y, x, min(y + self.side, self.shape[0]), min(x + self.side, self.shape[1]))


def starts(length: int, side: int, overlap: float) -> list[int]:
    """Return the first pixels of evenly spaced tiles along an axis; they overlap by at least a share of the side."""
    if length <= side:
        return [0]
    count = int(np.ceil((length - side) / max(1.0, side * (1 - overlap)))) + 1
    return [int(start) for start in np.rint(np.linspace(0, length - side, count))]


def pyramid(shape: tuple[int, int], input_size: int, config: TilingConfig | None = None) -> list[Level]:
    """Build levels of tiles, each twice as large as those before; the last is the whole plane.

    Parameters
    ----------
    shape : tuple of int
        (y, x) of the plane.
    input_size : int
        Side of the model input in pixels.
    config : TilingConfig, optional
    """
    config = config or _DEFAULT_TILING
    side, longest = config.tile_size if config.tile_size is not None else input_size, max(shape)
    levels = []
    if side and longest > config.tile_above * side:
        while side < longest:
            levels.append(Level(side, shape, config.tile_overlap))
            side *= 2
    return [*levels, Level(longest, shape, 0.0)]


def level_for(levels: list[Level], box: Box) -> int:
    """Return the index of the first level whose tiles show an object of this box with its surroundings."""
    longest = max(box[2] - box[0], box[3] - box[1])
    for index, level in enumerate(levels):
        fits = longest <= level.side * LONGEST_SHARE and not level.around(box).cuts(box, level.shape)
        if level.is_whole or fits:
            return index
    return len(levels) - 1

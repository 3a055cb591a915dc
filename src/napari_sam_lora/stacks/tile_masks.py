"""Masks of single objects in planes of any size, each from the tile that shows it best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.images import Prepared, Preprocessing, fixed_window, prepare, resized_shape
from napari_sam_lora.model.predictor import Multimask, Predictor
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.regions import Region
from napari_sam_lora.stacks.tiles import Box, Tile, TilingConfig, level_for, pyramid

# Full-size logits held at once, in pixels.
_PIXELS_AT_ONCE = 2**24
# A lower predicted IoU from points alone may mean that only a part of the object was seen.
_UNSURE = 0.5


@dataclass(frozen=True, eq=False)
class ObjectPrompts:
    """The prompts of one object, in pixels of the plane.

    Attributes
    ----------
    box : tuple of float, optional
        Half-open y0, x0, y1, x1.
    points : float (k, 2) as y, x
    point_labels : int (k,)
        1 inside, 0 outside.
    mask : Region, optional
    """

    box: Box | None = None
    points: NDArray[Any] | None = None
    point_labels: NDArray[Any] | None = None
    mask: Region | None = None

    @property
    def extent(self) -> Box:
        """What the prompts reach over."""
        corners = [] if self.box is None else [self.box]
        if self.mask is not None:
            corners.append(self.mask.box)
        if self.points is not None and len(self.points):
            inside = self.points if self.point_labels is None else self.points[np.asarray(self.point_labels) > 0]
            seen = inside if len(inside) else self.points
            corners.append((*seen.min(0), *(seen.max(0) + 1)))
        found = np.array(corners, np.float64).reshape(-1, 4)
        low, high = found[:, :2].min(0), found[:, 2:].max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @classmethod
    def rows(cls, prompts: Prompts) -> list[ObjectPrompts]:
        """Each object of `Prompts`; drawn masks, not logits, can be placed."""
        if prompts.masks is not None and prompts.masks.dtype != bool:
            raise InputError("Logits of an earlier mask cannot be used here: give the mask itself, as bool.")
        return [
            cls(
                tuple(prompts.boxes[row].tolist()) if prompts.boxes is not None and prompts.has_box(row) else None,
                None if prompts.points is None else prompts.points[row],
                None if prompts.point_labels is None else prompts.point_labels[row],
                None if prompts.masks is None else Region.of(prompts.masks[row]),
            )
            for row in range(len(prompts))
        ]

    @property
    def is_points(self) -> bool:
        """Whether there is nothing but points."""
        return self.box is None and self.mask is None

    def kinds(self) -> tuple[bool, int, bool]:
        """Which prompts there are; objects with the same are decoded together."""
        return self.box is not None, 0 if self.points is None else len(self.points), self.mask is not None


@dataclass(frozen=True, eq=False)
class TileMask:
    """What the model says of one object.

    Attributes
    ----------
    row : int
        Of the prompts.
    origin : tuple of int
        (y, x) of the first pixel of ``logits`` in the plane.
    logits : float32 (h, w)
        In pixels of the plane; the mask is where they are above the threshold, nowhere outside.
    score : float
        Predicted IoU.
    tile : Tile
        What was shown to the model.
    """

    row: int
    origin: tuple[int, int]
    logits: NDArray[np.float32]
    score: float
    tile: Tile

    def region(self, threshold: float = 0.0) -> Region:
        """The mask."""
        return Region.of(self.logits > threshold, self.origin)


class PlaneDecoder:
    """Decodes prompts of one plane, which is cut into tiles if it is large.

    Each object comes from one tile, so that masks have no seams: from the smallest that shows the object with
    something around it, or a larger one if the mask reaches the edge. Embeddings of tiles are kept in the cache of
    the predictor, each by its content, up to its budget.

    Parameters
    ----------
    predictor : Predictor
    image : array_like
        (y, x) or (y, x, c).
    tiling : TilingConfig, optional

    Attributes
    ----------
    intensities : array (y, x) or (y, x, c)
        The image, or the channel of it that the model sees.
    """

    def __init__(self, predictor: Predictor, image: ArrayLike, tiling: TilingConfig | None = None) -> None:
        self._predictor = predictor
        self.image: NDArray[Any] = np.asarray(image)
        self.shape = (self.image.shape[0], self.image.shape[1])
        channel = predictor.preprocessing.channel
        self.intensities = self.image if channel is None or self.image.ndim < 3 else self.image[..., channel]
        self.levels = pyramid(self.shape, predictor.input_size, tiling)
        whole = len(self.levels) == 1
        self._window: Preprocessing = (
            predictor.preprocessing if whole else fixed_window(self.image, predictor.preprocessing)
        )

    def prepared(self, tile: Tile) -> Prepared:
        """A tile as SAM sees it, in the intensity window of the plane."""
        return prepare(self.image[tile.slices], self._predictor.input_size, self._window)

    def decode(self, asked: Sequence[ObjectPrompts], multimask: Multimask = "auto") -> Iterator[TileMask]:
        """What the model says of each object; in any order.

        Points do not tell how large an object is: where the model is not sure of its answer, larger tiles are asked.
        """
        best: dict[int, TileMask] = {}
        waiting: dict[tuple[int, Tile], list[int]] = {}

        def queue(row: int, at_least: int, extent: Box) -> None:
            place = max(at_least, level_for(self.levels, extent))
            waiting.setdefault((place, self.levels[place].around(extent)), []).append(row)

        for row, one in enumerate(asked):
            queue(row, 0, one.extent)
        while waiting:
            (place, tile), rows = min(waiting.items(), key=lambda item: item[0])
            del waiting[place, tile]
            for placed in self._decode_tile(tile, rows, asked, multimask):
                box, row = placed.region().box, placed.row
                cut = placed.tile.cuts(_shifted(box), self.shape)
                if not cut and (row not in best or placed.score > best[row].score):
                    best[row] = placed
                unsure = asked[row].is_points and placed.score < _UNSURE
                if place + 1 < len(self.levels) and (cut or unsure):
                    queue(row, place + 1, _union(asked[row].extent, box) if cut else asked[row].extent)
                else:
                    yield best.pop(row, placed)

    def _decode_tile(
        self, tile: Tile, rows: Sequence[int], asked: Sequence[ObjectPrompts], multimask: Multimask
    ) -> Iterator[TileMask]:
        embedding = self._predictor.encode_prepared(self.prepared(tile))
        groups: dict[tuple[bool, int, bool], list[int]] = {}
        for row in rows:
            groups.setdefault(asked[row].kinds(), []).append(row)
        at_once = max(1, min(32, _PIXELS_AT_ONCE // int(np.prod(tile.shape))))
        for group in groups.values():
            for start in range(0, len(group), at_once):
                part = group[start : start + at_once]
                prompts = in_tile([asked[row] for row in part], tile)
                logits, scores = self._predictor.decode(embedding, prompts)
                several = prompts.is_lone_point(0) if multimask == "auto" else bool(multimask)
                chosen = 1 + scores[:, 1:].argmax(1) if several else torch.zeros(len(part), dtype=torch.long)
                picked = torch.arange(len(part)), chosen.cpu()
                scaled = self._upscale(logits.cpu()[picked], tile).numpy()
                for row, plane, score in zip(part, scaled, scores.cpu()[picked].tolist(), strict=True):
                    yield _cut(row, plane, float(score), tile)

    @torch.no_grad()
    def _upscale(self, logits: torch.Tensor, tile: Tile) -> torch.Tensor:
        sam = self._predictor.sam
        size = resized_shape(tile.shape, self._predictor.input_size)
        return sam.postprocess_masks(logits[:, None].float(), size, tile.shape)[:, 0] - sam.mask_threshold


def in_tile(asked: Sequence[ObjectPrompts], tile: Tile) -> Prompts:
    """Prompts of the same kinds in pixels of a tile; a mask is cut to it."""
    corners = tile.y0, tile.x0, tile.y1, tile.x1
    corner = np.array(corners[:2], np.float64)
    boxes = points = labels = masks = None
    if asked[0].box is not None:
        boxes = [np.asarray(one.box) - np.tile(corner, 2) for one in asked]
    if asked[0].points is not None and len(asked[0].points):
        points = [np.asarray(one.points) - corner for one in asked]
        given = [one.point_labels for one in asked]
        labels = [np.ones(len(row), np.int8) if own is None else own for row, own in zip(points, given, strict=True)]
    if asked[0].mask is not None:
        masks = np.stack([one.mask.within(corners) for one in asked if one.mask is not None])
    return Prompts(boxes, points, labels, masks)


def _cut(row: int, logits: NDArray[np.float32], score: float, tile: Tile) -> TileMask:
    """Only what is above the threshold, so that many objects can be kept."""
    y0, x0, y1, x1 = Region.of(logits > 0).box
    return TileMask(row, (tile.y0 + y0, tile.x0 + x0), logits[y0:y1, x0:x1].copy(), score, tile)


def _shifted(box: tuple[int, int, int, int]) -> Box:
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


def _union(a: Box, b: Box) -> Box:
    if b[2] <= b[0]:
        return a
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])

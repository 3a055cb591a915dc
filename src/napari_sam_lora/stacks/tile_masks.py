"""Decode masks of single objects in planes of any size, each in the tile that shows it best."""

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

# Full-size logits in memory at once, in pixels.
_PIXELS_AT_ONCE = 2**24
# A predicted IoU below this, from points alone, may mean that the tile shows only a part of the object.
_UNSURE = 0.5


@dataclass(frozen=True, eq=False)
class ObjectPrompts:
    """The prompts of one object, in pixels of the plane.

    Attributes
    ----------
    box : tuple of float, optional
        Half-open (y0, x0, y1, x1).
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
        """Half-open box (y0, x0, y1, x1) of box, mask and inside points, or outside points if there are no others."""
        corners = [] if self.box is None else [self.box]
        if self.mask is not None:
            corners.append(self.mask.box)
        if self.points is not None and len(self.points):
            inside = self.points if self.point_labels is None else self.points[np.asarray(self.point_labels) > 0]
            points = inside if len(inside) else self.points
            corners.append((*points.min(0), *(points.max(0) + 1)))
        boxes = np.array(corners, np.float64).reshape(-1, 4)
        low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @classmethod
    def from_prompts(cls, prompts: Prompts) -> list[ObjectPrompts]:
        """Split `Prompts` into those of each object.

        Raises
        ------
        InputError
            If the masks are logits, whose grid is that of another input.
        """
        if prompts.masks is not None and prompts.masks.dtype != bool:
            raise InputError(
                "Logits of an earlier mask cannot be used in tiles: pass the mask itself, as bool.",
                code="logits-in-tiles",
            )
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
        """Whether there are only points."""
        return self.box is None and self.mask is None

    def kinds(self) -> tuple[bool, int, bool]:
        """Return which kinds of prompts there are; objects with the same kinds are decoded together."""
        return self.box is not None, 0 if self.points is None else len(self.points), self.mask is not None


@dataclass(frozen=True, eq=False)
class TileMask:
    """Mask of one object, decoded in one tile.

    Attributes
    ----------
    row : int
        Index of the object among the prompts.
    origin : tuple of int
        (y, x) of the first pixel of ``logits`` in the plane.
    logits : float32 (h, w)
        In pixels of the plane; the mask is where they are above the threshold, and nowhere outside this crop.
    score : float
        Predicted IoU.
    tile : Tile
        The part of the plane that the model saw.
    """

    row: int
    origin: tuple[int, int]
    logits: NDArray[np.float32]
    score: float
    tile: Tile

    def region(self, threshold: float = 0.0) -> Region:
        """Return the mask: pixels with logits above the threshold."""
        return Region.of(self.logits > threshold, self.origin)


class PlaneDecoder:
    """Decodes prompts of one plane, which is cut into tiles if it is large.

    Each object is decoded in one tile, so that masks have no seams: the smallest tile that shows the object with its
    surroundings, or a larger one if the mask reaches the edge. Embeddings of tiles are cached by the predictor, by
    content, up to its budget.

    Parameters
    ----------
    predictor : Predictor
    image : array_like
        (y, x) or (y, x, c).
    tiling : TilingConfig, optional

    Attributes
    ----------
    intensities : array (y, x) or (y, x, c)
        The image, or the channel that the model sees.
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
        """Prepare a tile for SAM, with the intensity window of the plane."""
        return prepare(self.image[tile.slices], self._predictor.input_size, self._window)

    def decode(self, objects: Sequence[ObjectPrompts], multimask: Multimask = "auto") -> Iterator[TileMask]:
        """Decode the mask of each object; the order is arbitrary.

        Points alone do not show the size of an object: where the predicted IoU is low, larger tiles are tried too.
        """
        best: dict[int, TileMask] = {}
        pending: dict[tuple[int, Tile], list[int]] = {}

        def queue(row: int, least_level: int, extent: Box) -> None:
            level = max(least_level, level_for(self.levels, extent))
            pending.setdefault((level, self.levels[level].around(extent)), []).append(row)

        for row, prompts in enumerate(objects):
            queue(row, 0, prompts.extent)
        while pending:
            (level, tile), rows = min(pending.items(), key=lambda item: item[0])
            del pending[level, tile]
            for mask in self._decode_tile(tile, rows, objects, multimask):
                box, row = mask.region().box, mask.row
                is_cut = mask.tile.cuts(_to_floats(box), self.shape)
                if not is_cut and (row not in best or mask.score > best[row].score):
                    best[row] = mask
                is_unsure = objects[row].is_points and mask.score < _UNSURE
                if level + 1 < len(self.levels) and (is_cut or is_unsure):
                    queue(row, level + 1, _union(objects[row].extent, box) if is_cut else objects[row].extent)
                else:
                    yield best.pop(row, mask)

    def _decode_tile(
        self, tile: Tile, rows: Sequence[int], objects: Sequence[ObjectPrompts], multimask: Multimask
    ) -> Iterator[TileMask]:
        embedding = self._predictor.encode_prepared(self.prepared(tile))
        groups: dict[tuple[bool, int, bool], list[int]] = {}
        for row in rows:
            groups.setdefault(objects[row].kinds(), []).append(row)
        at_once = max(1, min(32, _PIXELS_AT_ONCE // int(np.prod(tile.shape))))
        for group in groups.values():
            for start in range(0, len(group), at_once):
                chunk = group[start : start + at_once]
                prompts = in_tile([objects[row] for row in chunk], tile)
                logits, scores = self._predictor.decode(embedding, prompts)
                uses_candidates = prompts.is_lone_point(0) if multimask == "auto" else bool(multimask)
                best = 1 + scores[:, 1:].argmax(1) if uses_candidates else torch.zeros(len(chunk), dtype=torch.long)
                picked = torch.arange(len(chunk)), best.cpu()
                scaled = self._upscale(logits.cpu()[picked], tile).numpy()
                for row, plane, score in zip(chunk, scaled, scores.cpu()[picked].tolist(), strict=True):
                    yield _cropped(row, plane, float(score), tile)

    @torch.no_grad()
    def _upscale(self, logits: torch.Tensor, tile: Tile) -> torch.Tensor:
        sam = self._predictor.sam
        size = resized_shape(tile.shape, self._predictor.input_size)
        return sam.postprocess_masks(logits[:, None].float(), size, tile.shape)[:, 0] - sam.mask_threshold


def in_tile(objects: Sequence[ObjectPrompts], tile: Tile) -> Prompts:
    """Return prompts of the same kinds in pixels of a tile; masks are cropped to it."""
    corners = tile.y0, tile.x0, tile.y1, tile.x1
    corner = np.array(corners[:2], np.float64)
    boxes = points = labels = masks = None
    first = objects[0]
    if first.box is not None:
        boxes = [np.asarray(one.box) - np.tile(corner, 2) for one in objects]
    if first.points is not None and len(first.points):
        points = [np.asarray(one.points) - corner for one in objects]
        labels = [
            np.ones(len(row), np.int8) if one.point_labels is None else one.point_labels
            for row, one in zip(points, objects, strict=True)
        ]
    if first.mask is not None:
        masks = np.stack([one.mask.within(corners) for one in objects if one.mask is not None])
    return Prompts(boxes, points, labels, masks)


def _cropped(row: int, logits: NDArray[np.float32], score: float, tile: Tile) -> TileMask:
    """Crop the logits of a tile to the mask, so that many objects fit in memory."""
    y0, x0, y1, x1 = Region.of(logits > 0).box
    return TileMask(row, (tile.y0 + y0, tile.x0 + x0), logits[y0:y1, x0:x1].copy(), score, tile)


def _to_floats(box: tuple[int, int, int, int]) -> Box:
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


def _union(a: Box, b: Box) -> Box:
    if b[2] <= b[0]:
        return a
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])

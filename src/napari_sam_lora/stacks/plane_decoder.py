"""Decode masks of single objects in planes of any size, each in the tile that shows it best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from napari_sam_lora.images import Prepared, Preprocessing, fixed_window, prepare, resized_shape
from napari_sam_lora.masks import MaskOptions, ObjectMask, clean
from napari_sam_lora.model.predictor import Multimask, Predictor
from napari_sam_lora.parameters.tiling import TilingConfig
from napari_sam_lora.prompts import Box, ObjectPrompts
from napari_sam_lora.regions import Region
from napari_sam_lora.stacks.tiles import Tile, level_for, pyramid

# Full-size logits in memory at once, in pixels.
_PIXELS_AT_ONCE = 2**24
# A predicted IoU below this, from points alone, may mean that the tile shows only a part of the object.
_UNSURE = 0.5
# Of the decoder's four masks, the first is the single mask and the others are the candidates.
_CANDIDATES = (1, 2, 3)


@dataclass(frozen=True)
class Choice:
    """Options for the masks that a decoder makes of the model's output.

    Attributes
    ----------
    options : MaskOptions
        Its window is not used here: it belongs to the prepared tiles.
    multimask : bool or "auto"
        Where the options leave the candidate open; see `Predictor.segment`.
    with_candidates : bool
        Whether masks come with all three candidates.
    """

    options: MaskOptions = field(default_factory=MaskOptions)
    multimask: Multimask = "auto"
    with_candidates: bool = False

    def index(self, prompts: ObjectPrompts, scores: Sequence[float]) -> int:
        """Return the index of the chosen mask among the decoder's four, with their predicted IoU."""
        if self.options.candidate != "auto":
            return 1 + self.options.candidate
        uses_candidates = prompts.is_lone_point if self.multimask == "auto" else self.multimask
        return 1 + int(np.argmax(scores[1:])) if uses_candidates else 0

    @property
    def may_empty(self) -> bool:
        """Return whether the options may leave nothing of a mask that the model has found."""
        return self.options.threshold > 0 or self.options.smallest > 1


class PlaneDecoder:
    """Decodes prompts of one plane, which is cut into tiles if it is large.

    Each object is decoded in one tile, so that masks have no seams: the smallest tile that shows the object with its
    surroundings, or a larger one if the mask reaches the edge. Embeddings of tiles are cached by the predictor, by
    content, up to its budget.

    Parameters
    ----------
    predictor : Predictor
    shape : tuple of int
        (y, x) of the plane.
    prepared : callable
        Returns a tile, prepared for SAM with the intensity window of the plane.
    tiling : TilingConfig, optional
    """

    def __init__(
        self,
        predictor: Predictor,
        shape: tuple[int, int],
        prepared: Callable[[Tile], Prepared],
        tiling: TilingConfig | None = None,
    ) -> None:
        self._predictor, self._prepared = predictor, prepared
        self.shape = shape
        self.levels = pyramid(shape, predictor.input_size, tiling)

    def decode(
        self, objects: Sequence[ObjectPrompts], choice: Choice | None = None
    ) -> Iterator[tuple[int, ObjectMask]]:
        """Decode the mask of each object; yields its position among the objects with it, in any order.

        Points alone do not show the size of an object: where the predicted IoU is low, larger tiles are tried too.
        """
        choice = choice or Choice()
        best: dict[int, ObjectMask] = {}
        pending: dict[tuple[int, Tile], list[int]] = {}

        def queue(row: int, least_level: int, extent: Box) -> None:
            level = max(least_level, level_for(self.levels, extent))
            pending.setdefault((level, self.levels[level].around(extent)), []).append(row)

        for row, prompts in enumerate(objects):
            queue(row, 0, prompts.extent)
        while pending:
            (level, tile), rows = min(pending.items(), key=lambda item: item[0])
            del pending[level, tile]
            for row, mask in self._decode_tile(tile, {row: objects[row] for row in rows}, choice):
                box, extent = mask.region.box, objects[row].extent
                is_lost = not mask.region.area and not choice.may_empty
                is_cut = bool(mask.region.area) and tile.cuts(_to_floats(box), self.shape)
                if not (is_cut or is_lost) and (row not in best or mask.score > best[row].score):
                    best[row] = mask
                is_unsure = objects[row].is_points and mask.score < _UNSURE
                if level + 1 < len(self.levels) and (is_cut or is_lost or is_unsure):
                    queue(row, level + 1, _union(extent, box) if is_cut else extent)
                else:
                    yield row, best.pop(row, mask)

    def _decode_tile(
        self, tile: Tile, objects: dict[int, ObjectPrompts], choice: Choice
    ) -> Iterator[tuple[int, ObjectMask]]:
        embedding = self._predictor.encode_prepared(self._prepared(tile))
        inside = {row: prompts.within(tile.box) for row, prompts in objects.items()}
        groups: dict[tuple[bool, int, bool], list[int]] = {}
        for row, prompts in inside.items():
            groups.setdefault(prompts.kinds(), []).append(row)
        at_once = max(1, min(32, _PIXELS_AT_ONCE // int(np.prod(tile.shape))))
        for group in groups.values():
            for start in range(0, len(group), at_once):
                rows = group[start : start + at_once]
                logits, scores = self._predictor.decode_objects(embedding, [inside[row] for row in rows])
                quality = scores.float().cpu().numpy()
                chosen = [choice.index(objects[row], one) for row, one in zip(rows, quality, strict=True)]
                crops = self._crops(logits - choice.options.threshold, tile, chosen, choice.with_candidates)
                for row, index, of_row, one in zip(rows, chosen, crops, quality, strict=True):
                    yield row, _make_mask(of_row, index, one, choice)

    @torch.no_grad()
    def _crops(
        self, logits: Tensor, tile: Tile, chosen: Sequence[int], with_candidates: bool
    ) -> list[dict[int, _Crop]]:
        """Return for each object the masks that are wanted; full-size logits exist for one of the four at a time."""
        crops: list[dict[int, _Crop]] = [{} for _ in chosen]
        has_pixels = (logits.amax((2, 3)) > self._predictor.sam.mask_threshold).cpu().numpy()
        for index in range(logits.shape[1]):
            wanted = [
                row for row, own in enumerate(chosen) if index == own or (with_candidates and index in _CANDIDATES)
            ]
            for row in wanted:
                crops[row][index] = _Crop(tile, np.zeros((0, 0), np.float32))
            shown = [row for row in wanted if has_pixels[row, index]]  # interpolation adds no maximum
            if shown:
                for row, plane in zip(shown, self._upscale(logits[shown, index], tile), strict=True):
                    crops[row][index] = _Crop(tile, plane)
        return crops

    def _upscale(self, logits: Tensor, tile: Tile) -> NDArray[np.float32]:
        """Scale logits (n, h, w) to the pixels of a tile."""
        sam = self._predictor.sam
        size = resized_shape(tile.shape, self._predictor.input_size)
        scaled = sam.postprocess_masks(logits[:, None].float(), size, tile.shape)[:, 0] - sam.mask_threshold
        pixels: NDArray[np.float32] = scaled.cpu().numpy()
        return pixels


class ImageDecoder(PlaneDecoder):
    """Decoder of a plane in memory.

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
        self._image: NDArray[Any] = np.asarray(image)
        super().__init__(predictor, (self._image.shape[0], self._image.shape[1]), self._prepare, tiling)
        channel = predictor.preprocessing.channel
        self.intensities = self._image if channel is None or self._image.ndim < 3 else self._image[..., channel]
        whole = len(self.levels) == 1
        self._window: Preprocessing = (
            predictor.preprocessing if whole else fixed_window(self._image, predictor.preprocessing)
        )

    def _prepare(self, tile: Tile) -> Prepared:
        return prepare(self._image[tile.slices], self._predictor.input_size, self._window)


class _Crop:
    """Mask and logits of an object, cropped from those of a tile, so that many fit in memory."""

    def __init__(self, tile: Tile, logits: NDArray[np.float32]) -> None:
        self.region = Region.of(logits > 0, (tile.y0, tile.x0))
        y0, x0, y1, x1 = np.subtract(self.region.box, (tile.y0, tile.x0) * 2)
        self._logits = logits[y0:y1, x0:x1].copy()

    def logits_of(self, region: Region) -> NDArray[np.float32]:
        """Return the logits (h, w) of a region within the mask's box."""
        y0, x0, y1, x1 = np.subtract(region.box, self.region.origin * 2)
        return self._logits[y0:y1, x0:x1]


def _make_mask(crops: dict[int, _Crop], chosen: int, scores: NDArray[np.float32], choice: Choice) -> ObjectMask:
    region = crops[chosen].region
    if choice.options.fill_holes or choice.options.smallest > 1:
        region = clean(region, choice.options)
    return ObjectMask(
        region,
        float(scores[chosen]),
        tuple(crops[index].region for index in _CANDIDATES) if choice.with_candidates else (),
        (float(scores[1]), float(scores[2]), float(scores[3])),
        crops[chosen].logits_of(region),
    )


def _to_floats(box: tuple[int, int, int, int]) -> Box:
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


def _union(a: Box, b: tuple[int, int, int, int]) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])

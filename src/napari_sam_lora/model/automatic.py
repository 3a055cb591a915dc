"""Everything mode: segment all objects of a plane without prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage as ndi
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam
from segment_anything.utils.amg import MaskData, batched_mask_to_box, mask_to_rle_pytorch, rle_to_mask
from segment_anything.utils.transforms import ResizeLongestSide
from skimage.segmentation import relabel_sequential
from torchvision.ops.boxes import batched_nms  # type: ignore[import-untyped]

from napari_sam_lora.images import resized_shape, to_rgb8
from napari_sam_lora.model.families.nano import DensePromptEncoder
from napari_sam_lora.model.predictor import Predictor
from napari_sam_lora.parameters.everything import EverythingConfig

Progress = Callable[[int, int], None]
# Least predicted IoU and least stability: segment-anything's defaults, and the best on real images for sam_nano.
_META_THRESHOLDS = (0.88, 0.95)
_NANO_THRESHOLDS = (0.65, 0.65)


def thresholds(sam: Sam, config: EverythingConfig) -> tuple[float, float]:
    """Return the least predicted IoU and the least stability; by default they depend on the model."""
    defaults = _NANO_THRESHOLDS if isinstance(sam.prompt_encoder, DensePromptEncoder) else _META_THRESHOLDS
    configured = (config.pred_iou_thresh, config.stability_score_thresh)
    score, stability = (
        default if value is None else value for value, default in zip(configured, defaults, strict=True)
    )
    return score, stability


class _ResizeThin(ResizeLongestSide):
    """segment-anything's resizing, except that a thin plane keeps at least one pixel across."""

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> tuple[int, int]:
        return resized_shape((oldh, oldw), long_side_length)


class _Generator(SamAutomaticMaskGenerator):
    """segment-anything's mask generator, with progress after each batch of clicks."""

    def __init__(self, predictor: Predictor, config: EverythingConfig, progress: Progress | None) -> None:
        score, stability = thresholds(predictor.sam, config)
        overrides: dict[str, Any] = {"pred_iou_thresh": score, "stability_score_thresh": stability}
        if config.point_grids is not None:
            grids = [np.array(grid) for grid in config.point_grids]
            overrides |= {"point_grids": grids, "points_per_side": None}
        # A non-zero `min_mask_region_area` would make segment-anything import OpenCV.
        super().__init__(predictor.sam, **asdict(config) | overrides | {"min_mask_region_area": 0})
        self.min_mask_region_area = config.min_mask_region_area
        self.predictor.transform = _ResizeThin(predictor.input_size)
        self._progress = progress
        self._batches = sum(
            -(-len(grid) // config.points_per_batch) * 4**layer for layer, grid in enumerate(self.point_grids)
        )
        self._done = 0

    def _process_crop(self, *args: Any, **kwargs: Any) -> MaskData:
        data = super()._process_crop(*args, **kwargs)
        if not len(data["rles"]):  # segment-anything cannot join crops one of which is empty
            data["crop_boxes"] = torch.zeros(0, 4)
        return data

    @staticmethod
    def postprocess_small_regions(mask_data: MaskData, min_area: int, nms_thresh: float) -> MaskData:
        """Clean the masks, then drop duplicates; segment-anything does this with OpenCV."""
        if not len(mask_data["rles"]):
            return mask_data
        before = [rle_to_mask(rle) for rle in mask_data["rles"]]
        cleaned = [without_small_regions(mask, min_area) for mask in before]
        unchanged = [np.array_equal(old, new) for old, new in zip(before, cleaned, strict=True)]
        masks = torch.from_numpy(np.stack(cleaned))
        boxes = batched_mask_to_box(masks)
        kept = batched_nms(boxes.float(), torch.tensor(unchanged).float(), torch.zeros(len(boxes)), nms_thresh)
        for index in kept.tolist():
            if not unchanged[index]:
                mask_data["rles"][index] = mask_to_rle_pytorch(masks[index][None])[0]
                mask_data["boxes"][index] = boxes[index]
        mask_data.filter(kept)
        return mask_data

    def _process_batch(self, *args: Any, **kwargs: Any) -> MaskData:
        data = super()._process_batch(*args, **kwargs)
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._batches)
        return data


def everything(
    predictor: Predictor,
    image: ArrayLike,
    config: EverythingConfig | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Segment everything in a plane; returns the records of segment-anything.

    Parameters
    ----------
    image : array_like
        (y, x) or (y, x, c), any dtype.
    progress : callable, optional
        Called with the batches done and all batches; an exception that it raises ends the search.

    Returns
    -------
    list of dict
        With ``segmentation`` (bool, (y, x)), ``area``, ``bbox`` (x, y, w, h), ``predicted_iou``,
        ``stability_score``, ``point_coords`` and ``crop_box``, best first.
    """
    generator = _Generator(predictor, config or EverythingConfig(), progress)
    records = generator.generate(to_rgb8(image, predictor.preprocessing))
    return sorted(records, key=lambda record: -record["predicted_iou"])


def without_small_regions(mask: NDArray[np.bool_], area: int) -> NDArray[np.bool_]:
    """Fill holes of a mask (y, x) smaller than ``area`` pixels, then remove parts that small, except the largest."""
    full = np.ones((3, 3), np.bool_)
    holes, _ = ndi.label(~mask, full)
    sizes = np.bincount(holes.ravel())
    small = sizes < area
    small[0] = False
    filled = mask | small[holes]
    parts, count = ndi.label(filled, full)
    sizes = np.bincount(parts.ravel())
    large = sizes >= area
    large[0] = False
    if count and not large.any():
        large[1 + sizes[1:].argmax()] = True
    return np.asarray(large[parts], np.bool_)


def records_to_labels(
    records: list[dict[str, Any]], shape: tuple[int, int], smallest: int = 0, largest_share: float = 0.5
) -> NDArray[np.int32]:
    """Turn records into instance ids; where masks overlap, the smaller one is in front.

    Parameters
    ----------
    shape : tuple of int
        (y, x).
    smallest : int
        Masks with fewer pixels are left out.
    largest_share : float
        Masks that cover more than this share of the plane are background.

    Returns
    -------
    int32 (y, x)
        Numbered without gaps.
    """
    labels = np.zeros(shape, np.int32)
    kept = [r for r in records if smallest <= r["area"] <= largest_share * labels.size]
    for number, record in enumerate(sorted(kept, key=lambda record: -record["area"]), start=1):
        labels[record["segmentation"]] = number
    return np.asarray(relabel_sequential(labels)[0], np.int32)  # smaller masks may hide some

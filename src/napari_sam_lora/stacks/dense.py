"""Dense maps of a plane of any size, its objects, and their classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from monai.inferers import sliding_window_inference
from numpy.typing import ArrayLike, NDArray
from skimage.segmentation import relabel_sequential
from torch import Tensor

from napari_sam_lora.errors import InputError
from napari_sam_lora.images import fixed_window, prepare, to_rgb8
from napari_sam_lora.labels import LabelledObject, check_labels, click_at_centre, find_objects
from napari_sam_lora.model.dense.classes import classify_objects, semantic_labels
from napari_sam_lora.model.dense.dense_model import DenseModel
from napari_sam_lora.model.dense.head import probabilities
from napari_sam_lora.model.dense.instances import foreground_mask, maps_to_labels
from napari_sam_lora.model.encoder import preprocess
from napari_sam_lora.model.predictor import Predictor
from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.prompts import ObjectPrompts
from napari_sam_lora.stacks.everything import segment_prompted

Progress = Callable[[int, int], None]
# Overlap of neighbouring tiles, as a share of their side; there the two are blended.
OVERLAP = 0.25


def dense_model(predictor: Predictor) -> DenseModel:
    """Return the dense head of a predictor.

    Raises
    ------
    InputError
        If it has none.
    """
    if predictor.dense is None:
        raise InputError(
            "This model has no dense head: fine-tune it on planes whose background is known, or use clicks.",
            code="no-dense-head",
        )
    return predictor.dense


@torch.no_grad()
def dense_maps(predictor: Predictor, image: ArrayLike, progress: Progress | None = None) -> NDArray[np.float32]:
    """Predict the probability of foreground and the relative distance to the outline at each pixel of a plane.

    A decoder of micro-sam predicts nearness to the centre as well. A head that was trained on classes predicts the
    probability of each class, given that the pixel belongs to an object.

    A plane that is not longer than the model input is enlarged to it. A larger one is shown at its own resolution in
    overlapping tiles, which are blended with Gaussian weights (MONAI's ``sliding_window_inference``).

    Parameters
    ----------
    predictor : Predictor
        With a dense head.
    image : array_like
        (y, x) or (y, x, c), see `napari_sam_lora.images.prepare`.
    progress : callable, optional
        Called with the number of tiles done and their total.

    Returns
    -------
    float32 (2 + classes, y, x), or (3, y, x) of a decoder of micro-sam
        From 0 to 1, in the order of the head's ``outputs``; then the classes in the order of `DenseModel.classes`.

    Raises
    ------
    InputError
        If the predictor has no dense head, or the image is not a plane.
    """
    head = dense_model(predictor).head
    predictor = predictor.dense_base or predictor
    sam, size = predictor.sam, predictor.input_size
    shape = np.shape(image)[:2]
    if len(shape) < 2 or max(shape) <= size:
        prepared = prepare(image, size, predictor.preprocessing)
        embedding = predictor.encode_prepared(prepared).tensor
        pixels = preprocess(sam, torch.from_numpy(np.ascontiguousarray(prepared.pixels)))
        logits = _enlarged(head(embedding, pixels), size)[..., : prepared.resized_shape[0], : prepared.resized_shape[1]]
        maps = functional.interpolate(probabilities(logits, len(head.outputs)), prepared.shape, mode="bilinear")
        if progress is not None:
            progress(1, 1)
        return maps[0].float().cpu().numpy()
    preprocessing = fixed_window(image, predictor.preprocessing)
    plane = torch.from_numpy(to_rgb8(image, preprocessing)).permute(2, 0, 1)[None].to(sam.device)
    plane = (plane - sam.pixel_mean) / sam.pixel_std
    # A plane that is narrower than a tile is padded like any model input: at the end, with zeros.
    plane = functional.pad(plane, (0, max(0, size - shape[1]), 0, max(0, size - shape[0])))
    total = math.prod(_tile_count(length, size) for length in plane.shape[2:])
    done = 0

    def show(tile: Tensor) -> Tensor:
        nonlocal done
        maps = probabilities(_enlarged(head(sam.image_encoder(tile), tile), size), len(head.outputs))
        done += len(tile)
        if progress is not None:
            progress(done, total)
        return maps

    blended: Tensor = sliding_window_inference(plane, (size, size), 1, show, OVERLAP, "gaussian", sigma_scale=0.25)
    return blended[0, :, : shape[0], : shape[1]].float().cpu().numpy()


def find_instances(
    predictor: Predictor,
    image: ArrayLike,
    maps: NDArray[np.float32] | None = None,
    config: InstanceConfig | None = None,
    refine: bool | None = None,
    progress: Progress | None = None,
) -> NDArray[np.int32]:
    """Find the objects of a plane with the dense head.

    Parameters
    ----------
    predictor : Predictor
        With a dense head.
    image : array_like
        (y, x) or (y, x, c).
    maps : float32 (2 or more, y, x), optional
        From `dense_maps`, if they were computed before.
    config : InstanceConfig, optional
        By default that of the head, chosen when it was trained.
    refine : bool, optional
        Whether the mask decoder segments each found object again from its box and its deepest pixel; by default what
        suits the head.
    progress : callable, optional
        Called with the number of tiles done and their total.

    Returns
    -------
    int32 (y, x)
        Instance ids, numbered without gaps; 0 is background.

    Raises
    ------
    InputError
        If the predictor has no dense head, or the image is not a plane.
    """
    model = dense_model(predictor)
    config = config or model.instances
    maps = dense_maps(predictor, image, progress) if maps is None else maps
    labels = maps_to_labels(maps[: len(model.head.outputs)], config)
    refine = model.refine if refine is None else refine
    return refined(predictor, image, labels, config.smallest) if refine else labels


def find_classes(
    predictor: Predictor,
    image: ArrayLike,
    labels: NDArray[np.integer[Any]],
    maps: NDArray[np.float32] | None = None,
    progress: Progress | None = None,
) -> dict[int, int]:
    """Predict the class of each object of a label image.

    Parameters
    ----------
    predictor : Predictor
        With a dense head that was trained on classes.
    image : array_like
        (y, x) or (y, x, c).
    labels : int (y, x)
        0 is background.
    maps : float32 (2 + classes, y, x), optional
        From `dense_maps`, if they were computed before.
    progress : callable, optional
        Called with the number of tiles done and their total.

    Returns
    -------
    dict of int to int
        Id of the class with the largest sum of probabilities over the pixels of the object, by id of the object.

    Raises
    ------
    InputError
        If the predictor has no dense head or this has no classes, or the labels have another shape than the image.
    """
    model = model_with_classes(predictor)
    labels = check_labels(labels, (np.shape(image)[0], np.shape(image)[1]))
    maps = dense_maps(predictor, image, progress) if maps is None else maps
    return classify_objects(labels, maps[len(model.head.outputs) :], list(model.classes))


def segment_semantic(
    predictor: Predictor,
    image: ArrayLike,
    maps: NDArray[np.float32] | None = None,
    config: InstanceConfig | None = None,
    progress: Progress | None = None,
) -> NDArray[np.int32]:
    """Predict the class of each pixel of a plane.

    Parameters
    ----------
    predictor : Predictor
        With a dense head that was trained on classes.
    image, maps, progress
        See `find_classes`.
    config : InstanceConfig, optional
        Its sensitivity and smoothing decide what is foreground; by default that of the head.

    Returns
    -------
    int32 (y, x)
        Ids of classes; 0 is background.

    Raises
    ------
    InputError
        If the predictor has no dense head or this has no classes, or the image is not a plane.
    """
    model = model_with_classes(predictor)
    maps = dense_maps(predictor, image, progress) if maps is None else maps
    foreground = foreground_mask(maps, config or model.instances)
    return semantic_labels(foreground, maps[len(model.head.outputs) :], list(model.classes))


def model_with_classes(predictor: Predictor) -> DenseModel:
    """Return the dense head of a predictor that predicts classes.

    Raises
    ------
    InputError
        If it has none, or this has no classes.
    """
    model = dense_model(predictor)
    if not model.classes:
        raise InputError(
            "This model predicts no classes: fine-tune it on labels with classes, in planes that are labelled "
            "completely, and activate the adapter.",
            code="no-classes",
        )
    return model


def refined(predictor: Predictor, image: ArrayLike, labels: NDArray[np.int32], smallest: int = 0) -> NDArray[np.int32]:
    """Segment each object again from its box and its deepest pixel; where masks overlap, the surer one wins."""
    asked = {found.label: _as_prompts(found, labels) for found in find_objects(labels)}
    if not asked:
        return labels
    found = segment_prompted(predictor, image, asked)
    small = np.flatnonzero(np.bincount(found.ravel()) < smallest)
    return np.asarray(relabel_sequential(np.where(np.isin(found, small), 0, found))[0], np.int32)


def _as_prompts(found: LabelledObject, labels: NDArray[np.int32]) -> ObjectPrompts:
    """Return the box and the deepest pixel of an object."""
    y0, x0, y1, x1 = found.box
    deepest = np.add(click_at_centre(labels[y0:y1, x0:x1] == found.label), (y0, x0))
    return ObjectPrompts(box=found.box, points=deepest[None].astype(np.float64), point_labels=np.ones(1, np.intp))


def _enlarged(maps: Tensor, size: int) -> Tensor:
    """Enlarge logits to the resolution of the model input."""
    if maps.shape[-1] == size:
        return maps
    return functional.interpolate(maps, (size, size), mode="bilinear", align_corners=False)


def _tile_count(length: int, size: int) -> int:
    return math.ceil((length - size) / int(size * (1 - OVERLAP))) + 1

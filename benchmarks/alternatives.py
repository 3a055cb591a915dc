"""Alternatives to fine-tuning with the same few labels: a small U-Net from scratch, or a random forest on pixels.

Both learn three classes (background, inside, outline) and give instances: connected components of the inside, grown
over the foreground. They take no prompts: a box crops their result, and a click picks the instance under it. Where a
plane is labelled only in part, they learn from the same pixels as the dense head of fine-tuning.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.networks.nets import UNet
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.feature import multiscale_basic_features
from skimage.future import fit_segmenter
from skimage.segmentation import find_boundaries, watershed
from torch import Tensor, nn

from benchmarks.sets import SMALLEST, LabelledPlane
from napari_sam_lora.images import to_rgb8
from napari_sam_lora.labels import click_at_centre, find_objects
from napari_sam_lora.overlap import mask_iou
from napari_sam_lora.training.dense.targets import known_pixels

INSIDE, OUTLINE, UNKNOWN = 1, 2, 255
# Class probabilities (3, y, x) of a plane's pixels (y, x, channel), float32 from 0 to 1.
Classifier = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_CROP = 128
_BATCH = 8
_PEAK_RATE = 3e-3
_DIVISIBLE = 8  # product of the U-Net's strides


@dataclass(frozen=True)
class AlternativeScores:
    """Figures of one method on the objects of some planes.

    Attributes
    ----------
    box_iou : float
        Mean IoU inside the object's box: of all foreground, or of the instance with most pixels in the box, whichever
        is better for the set as a whole.
    click_iou : float
        Mean IoU of the instance under the object's most interior pixel; 0 where there is none.
    instances : tuple of int32 (y, x)
        Instance ids of each plane.
    """

    box_iou: float
    click_iou: float
    instances: tuple[NDArray[np.int32], ...]


def train_unet(
    planes: Sequence[LabelledPlane], seconds: float, seed: int = 0, peak_rate: float = _PEAK_RATE
) -> Classifier:
    """Train a U-Net from scratch on flipped, turned and brightened crops for a given time."""
    rng = np.random.default_rng(seed)
    examples = [(_padded(pixels(plane)), _padded(known_classes(plane))) for plane in planes]
    channels = examples[0][0].shape[-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = UNet(2, channels, 3, channels=(16, 32, 64, 128), strides=(2, 2, 2), num_res_units=1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=peak_rate)
    start = time.monotonic()
    net.train()
    while (passed := time.monotonic() - start) < seconds:
        # The cosine follows the clock, because the number of steps is not known in advance.
        for group in optimizer.param_groups:
            group["lr"] = peak_rate * 0.5 * (1 + np.cos(np.pi * passed / seconds))
        images, targets = _batch(examples, rng)
        if (targets == UNKNOWN).all():
            continue
        loss = nn.functional.cross_entropy(net(images), targets, ignore_index=UNKNOWN)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return partial(_apply_unet, net.eval())


def train_forest(planes: Sequence[LabelledPlane], seed: int = 0) -> Classifier:
    """Train scikit-image's random forest on multiscale intensities, edges and textures."""
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415  nothing else here needs scikit-learn

    forest = RandomForestClassifier(
        n_estimators=50, max_depth=15, max_samples=0.1, class_weight="balanced", n_jobs=-1, random_state=seed
    )
    features = np.concatenate([_features(pixels(plane)) for plane in planes])
    targets = np.concatenate([known_classes(plane).ravel() for plane in planes]).astype(np.int64)
    # Classes are counted from 1: scikit-image does not learn from 0.
    return partial(_apply_forest, fit_segmenter(np.where(targets == UNKNOWN, 0, targets + 1), features, forest))


def score(
    classifier: Classifier, planes: Sequence[LabelledPlane], objects: Sequence[tuple[int, int]]
) -> AlternativeScores:
    """Compare the result of a classifier with labels.

    Parameters
    ----------
    objects : sequence of (plane, label)
        The objects that are scored.
    """
    instances = [to_instances(classifier(pixels(plane))) for plane in planes]
    by_foreground, by_instance, by_click = [], [], []
    for index, label in objects:
        found, truth = instances[index], planes[index].labels == label
        by_foreground.append(mask_iou(_in_box(found > 0, truth), truth))
        by_instance.append(mask_iou(_in_box(found == _largest_in_box(found, truth), truth), truth))
        hit = found[click_at_centre(truth)]
        by_click.append(mask_iou(found == hit, truth) if hit else 0.0)
    box = max(float(np.mean(by_foreground)), float(np.mean(by_instance)))
    return AlternativeScores(box, float(np.mean(by_click)), tuple(instances))


def to_instances(probabilities: NDArray[np.float32]) -> NDArray[np.int32]:
    """Turn class probabilities (3, y, x) into instance ids (y, x)."""
    best = probabilities.argmax(0)
    seeds, _ = ndi.label(best == INSIDE)
    areas = np.bincount(seeds.ravel())
    seeds[areas[seeds] < SMALLEST // 3] = 0
    instances: NDArray[np.int32] = watershed(-probabilities[INSIDE], seeds, mask=best > 0).astype(np.int32)
    for found in find_objects(instances):
        if found.area < SMALLEST:
            instances[instances == found.label] = 0
    return instances


def pixels(plane: LabelledPlane) -> NDArray[np.float32]:
    """Return a plane as the model sees it, (y, x, channel) from 0 to 1; one channel if it is gray."""
    rgb = to_rgb8(plane.image)
    gray = (rgb == rgb[..., :1]).all()
    return (rgb[..., :1] if gray else rgb).astype(np.float32) / np.float32(255)


def classes(labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return background 0, inside 1 and outline 2 of a label image (y, x)."""
    out = (labels > 0).astype(np.uint8) * INSIDE
    out[find_boundaries(labels, mode="inner", background=0) & (labels > 0)] = OUTLINE
    return out


def known_classes(plane: LabelledPlane) -> NDArray[np.uint8]:
    """Return the classes of a plane uint8 (y, x); `UNKNOWN` where its labels and its background do not tell."""
    known = known_pixels(plane.labels, np.unique(plane.labels), plane.background)
    return np.where(known, classes(plane.labels), np.uint8(UNKNOWN))


def _in_box(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    rows, columns = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
    box = np.zeros_like(truth)
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return found & box


def _largest_in_box(found: NDArray[np.int32], truth: NDArray[np.bool_]) -> int:
    """Return the id of the instance with most pixels in the box; -1 if there is none."""
    areas = np.bincount(found[_in_box(found > 0, truth)], minlength=1)
    return int(areas.argmax()) if areas.any() else -1


def _batch(examples: list[tuple[NDArray[Any], NDArray[Any]]], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    images, targets = [], []
    for index in rng.integers(len(examples), size=_BATCH):
        image, target = examples[index]
        top, left = (int(rng.integers(length - _CROP + 1)) for length in target.shape)
        crop = slice(top, top + _CROP), slice(left, left + _CROP)
        turn, flip = int(rng.integers(4)), int(rng.choice((-1, 1)))
        images.append(np.rot90(image[crop], turn)[:, ::flip] ** rng.uniform(0.7, 1.4))
        targets.append(np.rot90(target[crop], turn)[:, ::flip])
    batch = torch.from_numpy(np.stack(images).astype(np.float32)).permute(0, 3, 1, 2)
    return batch, torch.from_numpy(np.stack(targets).astype(np.int64))


def _padded(array: NDArray[Any]) -> NDArray[Any]:
    """Pad to at least the size of a crop, and to multiples of the U-Net's strides."""
    padding = [(0, max(_CROP - length, -length % _DIVISIBLE)) for length in array.shape[:2]]
    return np.pad(array, padding + [(0, 0)] * (array.ndim - 2), mode="symmetric")


@torch.no_grad()
def _apply_unet(net: nn.Module, image: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    batch = torch.from_numpy(_padded(image)).permute(2, 0, 1)[None]
    return net(batch).softmax(1)[0, :, :height, :width].numpy()


def _features(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return features (pixels, f) of an image (y, x, channel)."""
    features = multiscale_basic_features(image, sigma_min=1, sigma_max=16, channel_axis=-1)
    return features.reshape(-1, features.shape[-1])


def _apply_forest(forest: Any, image: NDArray[np.float32]) -> NDArray[np.float32]:
    return forest.predict_proba(_features(image)).T.reshape(-1, *image.shape[:2]).astype(np.float32)

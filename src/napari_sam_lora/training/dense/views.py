"""Training images of the dense head: whole views, and crops at many scales, each with targets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from napari_sam_lora.images import Prepared
from napari_sam_lora.training.data.augmentation import View, turned
from napari_sam_lora.training.data.samples import Plane, nearest
from napari_sam_lora.training.dense.targets import class_target, dense_targets, known_pixels

# Range of the scale of a crop, nearly that of pre-training. With a narrower one (0.6 to 1.7, for 60 % of the crops), a
# head forgets objects of other sizes.
SCALES = (0.5, 2.0)
# A crop in which a smaller share is known is drawn again, at most this often.
_LEAST_KNOWN = 0.05
_DRAWS = 8
_GAMMA_SPREAD = 0.25
_MOST_NOISE = 0.04


@dataclass(frozen=True)
class Crop:
    """A square part of a plane at some scale, turned and with other intensities.

    Attributes
    ----------
    plane : int
        Index of the plane.
    top, left, side : int
        In pixels of its dense frame.
    turn : int
        See `View`.
    gamma : float
        Exponent of the intensities.
    noise : float
        Standard deviation, as a share of the largest intensity.
    seed : int
        Of the noise.
    """

    plane: int
    top: int
    left: int
    side: int
    turn: int
    gamma: float
    noise: float
    seed: int


@dataclass(frozen=True, eq=False)
class DenseFrame:
    """A plane at the resolution at which maps are predicted.

    Attributes
    ----------
    pixels : uint8 (y, x, 3)
    targets : float32 (3 or 4, y, x)
        Foreground, distance, and 1 where they are known; where there are classes, also the number of the class.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.float32]


class DenseViews:
    """Targets of views and crops of some planes.

    Parameters
    ----------
    planes : sequence of Plane
    learned : mapping of int to sequence of int
        Objects to learn from, by plane. Other labels are neither object nor background.
    side : int
        Of crops, in pixels of the model input.
    classes : sequence of int, optional
        Classes to learn, in the order of the head's channels.
    """

    def __init__(
        self, planes: Sequence[Plane], learned: Mapping[int, Sequence[int]], side: int, classes: Sequence[int] = ()
    ) -> None:
        self.side = side
        self.class_numbers = {class_id: number for number, class_id in enumerate(classes, start=1)}
        self._planes, self._learned = planes, learned
        self._frames: dict[int, DenseFrame] = {}
        self._whole: dict[int, NDArray[np.float32]] = {}
        used = [number for number, plane in enumerate(planes) if learned.get(number) or plane.background is not None]
        self.planes = [number for number in used if _has_background(planes[number])]

    @property
    def has_background(self) -> bool:
        """Return whether any background is known beside the rings around objects; without it nothing can be learned."""
        return bool(self.planes)

    def frame(self, number: int) -> DenseFrame:
        """Return a plane at the resolution at which maps are predicted, see `dense_maps`."""
        if number not in self._frames:
            plane = self._planes[number]
            if plane.native is None:
                self._frames[number] = DenseFrame(plane.prepared.pixels, self.whole(number))
            else:
                self._frames[number] = DenseFrame(plane.native, self._targets(number, plane.labels))
        return self._frames[number]

    def whole(self, number: int) -> NDArray[np.float32]:
        """Return the targets (3 or 4, h, w) of a plane in the frame of its prepared pixels."""
        if number not in self._whole:
            self._whole[number] = self._targets(number, self._planes[number].resized_labels)
        return self._whole[number]

    def of_view(self, view: View, size: int) -> Tensor:
        """Return the targets (1, 3 or 4, size, size) of a view of the model input; padding is not known."""
        targets = torch.from_numpy(_turned(self.whole(view.plane), view.turn))[None]
        return functional.pad(targets, (0, size - targets.shape[3], 0, size - targets.shape[2]))

    def draw(self, rng: np.random.Generator) -> Crop:
        """Draw a random crop in which something is known."""
        crop = self._draw(rng)
        for _ in range(_DRAWS):
            known = self.frame(crop.plane).targets[
                2, crop.top : crop.top + crop.side, crop.left : crop.left + crop.side
            ]
            if known.mean() >= _LEAST_KNOWN:
                break
            crop = self._draw(rng)
        return crop

    def show(self, crop: Crop) -> tuple[Prepared, Tensor]:
        """Return the pixels of a crop, and its targets (1, 3 or 4, side, side)."""
        frame = self.frame(crop.plane)
        place = slice(crop.top, crop.top + crop.side), slice(crop.left, crop.left + crop.side)
        pixels = frame.pixels[place].astype(np.float32) / 255
        pixels = np.clip(pixels, 0, 1) ** np.float32(crop.gamma)
        both = torch.from_numpy(np.concatenate([pixels.transpose(2, 0, 1), frame.targets[(slice(None), *place)]]))[None]
        if crop.side != self.side:
            size = (self.side, self.side)
            classes = functional.interpolate(both[:, 6:], size, mode="nearest-exact") if self.class_numbers else None
            both = functional.interpolate(both[:, :6], size, mode="bilinear", align_corners=False, antialias=True)
            both = both if classes is None else torch.cat([both, classes], 1)
        shown = _turned(both[0].numpy(), crop.turn)
        noise = np.random.default_rng(crop.seed).normal(0, crop.noise, shown.shape[1:]).astype(np.float32)
        bytes_ = np.rint(255 * np.clip(shown[:3] + noise, 0, 1)).astype(np.uint8).transpose(1, 2, 0)
        shown[3:6] = shown[3:6].clip(0, 1)
        targets = torch.from_numpy(shown[3:])[None]
        targets[:, 2] = (targets[:, 2] > 0.99).float()
        return Prepared(np.ascontiguousarray(bytes_), (self.side, self.side), self.side), targets

    def _draw(self, rng: np.random.Generator) -> Crop:
        number = self.planes[int(rng.integers(len(self.planes)))]
        height, width = self.frame(number).targets.shape[1:]
        scale = math.exp(rng.uniform(*np.log(SCALES)))
        side = max(8, min(height, width, round(self.side / scale)))
        side = min(side, height, width)
        return Crop(
            number,
            int(rng.integers(height - side + 1)),
            int(rng.integers(width - side + 1)),
            side,
            int(rng.integers(8)),
            math.exp(rng.normal() * _GAMMA_SPREAD),
            float(rng.uniform(0, _MOST_NOISE)),
            int(rng.integers(2**31)),
        )

    def _targets(self, number: int, labels: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        plane, shape = self._planes[number], (labels.shape[0], labels.shape[1])
        background = False if plane.background is None else nearest(plane.background, shape)
        outside = _outside_clicks(plane) * np.divide(shape, plane.prepared.shape)
        learned = list(self._learned.get(number, ()))
        known = known_pixels(labels, learned, background, np.floor(outside).astype(np.intp))
        shown = np.where(np.isin(labels, learned), labels, 0)
        channels = [*dense_targets(shown), known.astype(np.float32)]
        if self.class_numbers:
            channels.append(class_target(shown, self._numbers(plane)))
        return np.stack(channels)

    def _numbers(self, plane: Plane) -> dict[int, int]:
        """Return the number of the class of each object of a plane that has one."""
        return {label: self.class_numbers.get(class_id, 0) for label, class_id in plane.classes.items()}


def _turned(channels: NDArray[np.float32], turn: int) -> NDArray[np.float32]:
    """Turn and mirror channels (c, y, x) as in a view with this turn."""
    return np.ascontiguousarray(np.moveaxis(turned(np.moveaxis(channels, 0, -1), turn), -1, 0))


def _outside_clicks(plane: Plane) -> NDArray[np.float64]:
    """Return the clicks (n, 2) of the user on what does not belong to an object."""
    clicks = [
        given.points[0][np.asarray(given.point_labels[0]) == 0]
        for given in plane.prompts.values()
        if given.points is not None and given.point_labels is not None
    ]
    return np.concatenate([np.empty((0, 2)), *clicks])


def _has_background(plane: Plane) -> bool:
    return plane.background is not None or len(_outside_clicks(plane)) > 0

"""Turn a plane of any kind into the pixels that SAM sees, in the same way for training and inference."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from napari_sam_lora.errors import ChannelError, InputError

# Hounsfield units shown as black and white: level -/+ half the width of radiopaedia.org, "Windowing (CT)".
CT_WINDOWS: dict[str, tuple[float, float]] = {
    "abdomen": (-150.0, 250.0),
    "bone": (-500.0, 1300.0),
    "brain": (0.0, 80.0),
    "liver": (-45.0, 105.0),
    "lung": (-1350.0, 150.0),
    "mediastinum": (-125.0, 225.0),
    "spine": (-75.0, 175.0),
    "stroke": (20.0, 60.0),
}
# The intensity window of a large plane is measured on about this many of its pixels.
_MAX_SAMPLED_PIXELS = 2**22


@dataclass(frozen=True)
class StackPosition:
    """Position of a plane, or of a crop of one, in its stack.

    Attributes
    ----------
    stack : str
        Any stable name of the stack; planes with the same name belong to the same stack.
    index : tuple of int
        Position along each axis that the plane does not have, in order.
    axes : tuple of int, optional
        Axes of the stack that the plane has, vertical first; by default the last two.
    corner : tuple of int
        Of a crop: where (y, x) its first pixel lies in the plane.
    plane_shape : tuple of int, optional
        Of a crop: (y, x) of the whole plane.
    """

    stack: str
    index: tuple[int, ...] = ()
    axes: tuple[int, int] | None = None
    corner: tuple[int, int] = (0, 0)
    plane_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        axes = self.plane_axes
        object.__setattr__(self, "axes", axes)
        if len(set(axes)) != 2 or not all(0 <= axis < len(self.index) + 2 for axis in axes):
            raise InputError(
                f"{self} is not a plane of a stack: give its two axes, and its position along each other axis.",
                code="invalid-stack-position",
            )

    @property
    def plane_axes(self) -> tuple[int, int]:
        """Axes of the stack that the plane has, vertical first."""
        return self.axes or (len(self.index), len(self.index) + 1)

    def extent(self, box: tuple[int, int, int, int]) -> tuple[tuple[int, int], ...]:
        """Return the half-open range of a box (y0, x0, y1, x1) of the plane or crop along each axis of the stack."""
        (y, x), rest = self.corner, iter(self.index)
        sides = dict(zip(self.plane_axes, ((box[0] + y, box[2] + y), (box[1] + x, box[3] + x)), strict=True))
        return tuple(
            sides[axis] if axis in sides else (place := next(rest), place + 1) for axis in range(len(self.index) + 2)
        )


@dataclass(frozen=True)
class Preprocessing:
    """Mapping of intensities to the range of 0 to 255 that SAM expects.

    Attributes
    ----------
    window : tuple of float, optional
        Intensities shown as black and as white, such as one of `CT_WINDOWS`. By default they are percentiles of
        each plane, and uint8 RGB passes unchanged.
    percentiles : tuple of float
        Percentiles of the finite pixels (of all channels together) that become black and white.
    channel : int, optional
        Use this channel (last axis) of a multichannel plane as a gray image.
    """

    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] = (0.1, 99.9)
    channel: int | None = None

    def __post_init__(self) -> None:
        for name, pair in (("window", self.window), ("percentiles", self.percentiles)):
            if pair is not None and not (len(pair) == 2 and np.isfinite(pair).all() and pair[0] < pair[1]):
                raise InputError(
                    f"The {name} must be two numbers, the lower one first, not {pair}.", code=f"invalid-{name}"
                )
        if not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise InputError(
                f"The percentiles must lie between 0 and 100, not at {self.percentiles}.",
                code="percentiles-out-of-range",
            )

    @classmethod
    def ct(cls, name: str) -> Preprocessing:
        """Use the fixed window of that name in `CT_WINDOWS`, for planes in Hounsfield units."""
        if name not in CT_WINDOWS:
            raise InputError(
                f"There is no CT window {name!r}; there are {', '.join(CT_WINDOWS)}.", code="unknown-ct-window"
            )
        return cls(window=CT_WINDOWS[name])

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for an adapter's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """Make one from the values of `as_dict`."""
        window = values.get("window")
        return cls(tuple(window) if window else None, tuple(values["percentiles"]), values.get("channel"))


@dataclass(frozen=True)
class Prepared:
    """A plane as SAM sees it, before padding.

    Attributes
    ----------
    pixels : uint8 (y, x, 3)
        Resized so that the longest side is ``input_size``.
    shape : tuple of int
        (y, x) of the plane that it came from.
    input_size : int
        Side of the square that the model pads it to.
    """

    pixels: NDArray[np.uint8]
    shape: tuple[int, int]
    input_size: int

    @property
    def resized_shape(self) -> tuple[int, int]:
        """(y, x) of the resized pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @cached_property
    def key(self) -> str:
        """Content key: equal for equal pixels, plane shape and input size. Hashed once."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((self.shape, self.pixels.shape, self.input_size)).encode())
        digest.update(self.pixels.tobytes())
        return digest.hexdigest()


def prepare(image: ArrayLike, input_size: int, preprocessing: Preprocessing | None = None) -> Prepared:
    """Turn a plane into the pixels that SAM sees.

    Parameters
    ----------
    image : array_like
        (y, x), (y, x, 1), (y, x, 3) or (y, x, 4), or any number of channels if the preprocessing picks one; bool,
        integer or float. The alpha channel of RGBA is ignored.
        NaN counts as black, infinities as black or white.
    input_size : int
        Side of the model's square input in pixels.
    preprocessing : Preprocessing, optional
        The intensity window.

    Returns
    -------
    Prepared

    Raises
    ------
    InputError
        If the array is empty or not a plane.
    """
    rgb = to_rgb8(image, preprocessing)
    height, width = resized_shape(rgb.shape[:2], input_size)
    if (height, width) == rgb.shape[:2]:
        pixels = rgb.copy()  # the caller may go on changing the array
    else:  # the resampling of segment_anything.utils.transforms.ResizeLongestSide.apply_image
        pixels = np.array(Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR))
    return Prepared(pixels, (rgb.shape[0], rgb.shape[1]), input_size)


def resized_shape(shape: tuple[int, int], input_size: int) -> tuple[int, int]:
    """Scale (y, x) so that the longest side is ``input_size``; rounded as in segment-anything, at least 1."""
    scale = input_size / max(shape)
    return max(1, int(shape[0] * scale + 0.5)), max(1, int(shape[1] * scale + 0.5))


def to_rgb8(image: ArrayLike, preprocessing: Preprocessing | None = None) -> NDArray[np.uint8]:
    """Apply the intensity window and return uint8 (y, x, 3). See `prepare` for the arguments."""
    preprocessing = preprocessing or Preprocessing()
    plane = _as_plane(image, preprocessing.channel)
    if plane.shape[-1] == 3 and plane.dtype == np.uint8 and preprocessing.window is None:
        return np.ascontiguousarray(plane)
    windowed = _window(plane, preprocessing)
    return np.ascontiguousarray(np.broadcast_to(windowed, (*windowed.shape[:2], 3)))


def _as_plane(image: ArrayLike, channel: int | None) -> NDArray[Any]:
    """Check the array, pick the channel, and return it as (y, x, 1) or (y, x, 3)."""
    plane = np.asarray(image)
    if plane.dtype.kind not in "biuf":
        raise InputError(f"An image must hold numbers, not {plane.dtype}.", code="image-not-numeric")
    if plane.ndim == 2:
        plane = plane[..., None]
    if channel is not None and plane.ndim == 3:
        if not -plane.shape[-1] <= channel < plane.shape[-1]:
            raise InputError(
                f"There is no channel {channel}: the image has {plane.shape[-1]}.", code="channel-not-found"
            )
        plane = plane[..., channel, None]
    if plane.ndim != 3 or plane.shape[-1] not in (1, 3, 4):
        message = (
            f"An image must be (y, x), or (y, x, channel) with 1, 3 or 4 channels, not {np.shape(image)}. "
            "Pass one plane of a stack, or pick a channel."
        )
        if plane.ndim == 3:
            raise ChannelError(message, code="channels-not-colours")
        raise InputError(message, code="image-not-a-plane")
    if 0 in plane.shape:
        raise InputError(f"The image is empty: its shape is {np.shape(image)}.", code="image-empty")
    return plane[..., :3]


def _window(plane: NDArray[Any], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    values = plane.astype(np.float64 if plane.dtype.itemsize > 4 or plane.dtype.kind != "f" else np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(plane.shape, np.uint8)
    low, high = _limits(values[finite], plane.dtype, preprocessing)
    if high <= low:
        return np.zeros(plane.shape, np.uint8)
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    scaled = np.clip((values - low) / (high - low), 0, 1) * 255
    return np.asarray(np.rint(scaled), np.uint8)


def _limits(finite: NDArray[Any], dtype: np.dtype[Any], preprocessing: Preprocessing) -> tuple[float, float]:
    """Return the intensities shown as black and as white, from the finite values of a plane."""
    if preprocessing.window is not None:
        return preprocessing.window
    if dtype.kind == "b":
        return 0.0, 1.0
    low, high = np.percentile(finite, preprocessing.percentiles)
    if high <= low:  # the object is smaller than the share that the percentiles cut off
        low, high = finite.min(), finite.max()
    return float(low), float(high)


def fixed_window(image: ArrayLike, preprocessing: Preprocessing | None = None) -> Preprocessing:
    """Fix the intensity window to that of this plane, so that crops look as in the whole plane.

    The window of a large plane is measured on a regular grid of its pixels.
    """
    preprocessing = preprocessing or Preprocessing()
    plane = _as_plane(image, preprocessing.channel)
    passes_unchanged = plane.shape[-1] == 3 and plane.dtype == np.uint8
    if preprocessing.window is not None or passes_unchanged:
        return preprocessing
    step = int(np.ceil(np.sqrt(plane[..., 0].size / _MAX_SAMPLED_PIXELS)))
    values = plane[::step, ::step]
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return preprocessing
    low, high = _limits(finite, plane.dtype, preprocessing)
    return replace(preprocessing, window=(low, high if high > low else low + 1))

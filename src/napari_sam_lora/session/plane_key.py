"""Planes of an n-dimensional image in any orthogonal view, and the sources of their pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError

# Half-open y0, x0, y1, x1 of a rectangle in a plane.
Box = tuple[int, int, int, int]


@dataclass(frozen=True, order=True)
class PlaneKey:
    """One plane of one image.

    Attributes
    ----------
    image : str
        Id of the image in the session; a label store looks only at the axes and the index.
    axes : tuple of int
        The two displayed axes of the data array, vertical first: ``(2, 1)`` shows axis 2 downwards.
    index : tuple of int
        Position along each other axis, in the order of the axes.
    """

    image: str
    axes: tuple[int, int]
    index: tuple[int, ...] = ()

    @classmethod
    def of(cls, image: str, ndim: int, index: tuple[int, ...] = (), axes: tuple[int, int] | None = None) -> PlaneKey:
        """Make the key of a plane of the last two axes, or of other axes.

        Parameters
        ----------
        ndim : int
            Axes of the data array; a channel axis (RGB) does not count.

        Raises
        ------
        InputError
            If the axes and positions are not those of a plane.
        """
        key = cls(image, axes or (ndim - 2, ndim - 1), tuple(int(i) for i in index))
        if key.ndim != ndim or len({*key.axes}) != 2 or not all(0 <= axis < ndim for axis in key.axes):
            raise InputError(
                f"{key} is not a plane of {ndim} axes: give two axes and {ndim - 2} positions.", code="not-a-plane"
            )
        return key

    @property
    def ndim(self) -> int:
        """Number of axes of the data array."""
        return len(self.index) + 2

    @property
    def other_axes(self) -> tuple[int, ...]:
        """Axes that are not displayed."""
        return tuple(axis for axis in range(self.ndim) if axis not in self.axes)

    def on(self, image: str) -> PlaneKey:
        """Return the same plane of another image."""
        return PlaneKey(image, self.axes, self.index)

    def neighbour(self, offset: int, axis: int = -1) -> PlaneKey:
        """Return the plane ``offset`` further along one of the other axes (by default the last of them)."""
        index = list(self.index)
        index[axis] += offset
        return PlaneKey(self.image, self.axes, tuple(index))

    def slices(self, box: Box | None = None) -> tuple[int | slice, ...]:
        """Return the index into the data array for the plane, or for a box of it.

        The indexed array has the displayed axes in rising order, see `is_transposed`.
        """
        rest = iter(self.index)
        sides = (slice(None), slice(None)) if box is None else (slice(box[0], box[2]), slice(box[1], box[3]))
        return tuple(sides[self.axes.index(axis)] if axis in self.axes else next(rest) for axis in range(self.ndim))

    @property
    def is_transposed(self) -> bool:
        """Return whether the displayed axes are in falling order, so that indexed pixels must be transposed."""
        return self.axes[0] > self.axes[1]

    def shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the size (y, x) of the plane in an array of this shape."""
        return shape[self.axes[0]], shape[self.axes[1]]

    def is_in(self, shape: tuple[int, ...]) -> bool:
        """Return whether an array of this shape (channels not counted) has this plane."""
        inside = all(0 <= i < shape[axis] for i, axis in zip(self.index, self.other_axes, strict=True))
        return len(shape) == self.ndim and inside


class ImageSource(Protocol):
    """Source of the pixels of an image.

    ``read`` is called from worker threads: an implementation holds the data array, not a layer, and must not
    change anything.
    """

    @property
    def name(self) -> str:
        """Name for display."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the data array, without a channel axis."""
        ...

    @property
    def spacing(self) -> tuple[float, ...]:
        """Size of a pixel along each axis."""
        ...

    def read(self, plane: PlaneKey, box: Box | None = None) -> NDArray[Any]:
        """Load the pixels (y, x) or (y, x, c) of one plane, or of a box of it, and no others."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Image in an array; anything that can be indexed like a NumPy array works (dask, zarr).

    Parameters
    ----------
    data : array
        (…, y, x), or (…, y, x, c) if ``rgb``.
    name : str
    spacing : tuple of float, optional
        1 along each axis by default.
    rgb : bool
        Whether the last axis holds colours.
    """

    data: Any
    name: str = "image"
    spacing: tuple[float, ...] = ()
    rgb: bool = False

    def __post_init__(self) -> None:
        if len(self.shape) < 2:
            raise InputError(f"An image has at least two axes, not the shape {self.data.shape}.", code="too-few-axes")
        if not self.spacing:
            object.__setattr__(self, "spacing", (1.0,) * len(self.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the data array, without a channel axis."""
        return tuple(int(side) for side in (self.data.shape[:-1] if self.rgb else self.data.shape))

    def read(self, plane: PlaneKey, box: Box | None = None) -> NDArray[Any]:
        """Load the pixels (y, x) or (y, x, c) of one plane, or of a box of it."""
        check_plane(plane, self.shape)
        pixels = np.asarray(self.data[plane.slices(box)])
        return pixels.swapaxes(0, 1) if plane.is_transposed else pixels


def check_plane(plane: PlaneKey, shape: tuple[int, ...]) -> None:
    """Raise an InputError if an array of this shape has no such plane."""
    if not plane.is_in(shape):
        raise InputError(
            f"There is no plane {plane.index} of axes {plane.axes} in an image of shape {shape}.",
            code="plane-outside-stack",
        )


def need_image(images: Mapping[str, ImageSource], image: str) -> ImageSource:
    """Return an image of a session by id, or raise an InputError."""
    if image not in images:
        raise InputError("This image is no longer open: choose another one.", code="image-not-found")
    return images[image]


def labels_do_not_fit(labels: tuple[int, ...], image: tuple[int, ...]) -> InputError:
    """Return the error for labels and an image of different shapes."""
    return InputError(
        f"The labels have the shape {labels}, the image has {image}: choose labels of the same shape.",
        code="labels-do-not-fit",
    )


def last_axes_planes(image: str, shape: tuple[int, ...]) -> Iterator[PlaneKey]:
    """Yield all planes of the last two axes, in order."""
    for index in np.ndindex(*shape[:-2]):
        yield PlaneKey.of(image, len(shape), index)

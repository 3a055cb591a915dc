"""napari layers as the session sees them: pixels of an Image layer, and labels of a Labels layer with its undo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_sam_lora._qt.viewer.coordinates import (
    current_plane,
    data_shape,
    plane_transform,
    transform_of,
    world_to_data,
)
from napari_sam_lora.errors import InputError
from napari_sam_lora.session import PlaneKey
from napari_sam_lora.session.plane_key import Box, check_plane

__all__ = [
    "NapariSource",
    "NapariStore",
    "current_plane",
    "data_shape",
    "fits",
    "is_managed",
    "plane_transform",
    "role_of",
    "transform_of",
    "unwrap",
    "usable_image",
    "usable_labels",
    "world_to_data",
]

MARK = "napari-sam-lora"


def unwrap(viewer: Any) -> Any:
    """The viewer itself; napari gives widgets a proxy of it, and not always the same one."""
    return getattr(viewer, "__wrapped__", viewer)


def role_of(layer: Any) -> str:
    """What a layer is to this plugin: "points", "shapes", "mask", "preview"; empty for a layer of the user's."""
    mark = layer.metadata.get(MARK)
    return str(mark.get("role", "")) if isinstance(mark, dict) else ""


def is_managed(layer: Any) -> bool:
    """Whether the plugin made this layer for prompts or a preview, so that it holds no results."""
    return bool(role_of(layer))


def usable_image(layer: Any) -> bool:
    """Whether a layer can be segmented."""
    return isinstance(layer, Image) and not isinstance(layer, Labels) and len(data_shape(layer)) >= 2


def usable_labels(layer: Any) -> bool:
    """Whether labels can be written into a layer."""
    return isinstance(layer, Labels) and not layer.multiscale and not is_managed(layer)


def fits(labels: Any, image: Any) -> bool:
    """Whether a Labels layer has the pixels of an Image layer."""
    return data_shape(labels) == data_shape(image)


class NapariSource:
    """`ImageSource` over an Image layer.

    Holds the data array and not the layer, so that it can be read in a worker thread. Takes the full resolution of a
    multiscale image.

    Parameters
    ----------
    layer : napari.layers.Image
    """

    def __init__(self, layer: Any) -> None:
        self.name = str(layer.name)
        self._data = layer.data[0] if layer.multiscale else layer.data
        self._shape = data_shape(layer)
        self._spacing = tuple(float(side) for side in layer.scale)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the data array, without a channel axis."""
        return self._shape

    @property
    def spacing(self) -> tuple[float, ...]:
        """Size of a pixel along each axis."""
        return self._spacing

    def read(self, plane: PlaneKey) -> NDArray[Any]:
        """Pixels (y, x) or (y, x, c) of one plane; nothing else is loaded."""
        check_plane(plane, self._shape)
        pixels = np.asarray(self._data[plane.slices()])
        return pixels.swapaxes(0, 1) if plane.is_transposed else pixels


class NapariStore:
    """`LabelStore` over a Labels layer: writes are steps of the layer's own history, so Ctrl-Z takes them back.

    Parameters
    ----------
    layer : napari.layers.Labels
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self._open = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the label array."""
        return data_shape(self.layer)

    @property
    def largest_id(self) -> int:
        """The largest id that the dtype can hold."""
        return int(np.iinfo(self.layer.data.dtype).max)

    def read(self, plane: PlaneKey, box: Box | None = None) -> NDArray[np.int64]:
        """A copy of one plane (y, x), or of a part of it."""
        check_plane(plane, self.shape)
        pixels = np.asarray(self.layer.data[plane.slices(box)])
        return np.array(pixels.T if plane.is_transposed else pixels, np.int64)

    def write(
        self,
        plane: PlaneKey,
        where: NDArray[np.bool_],
        values: int | NDArray[np.integer[Any]],
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        """Set pixels as one undoable step, or as part of the running transaction."""
        check_plane(plane, self.shape)
        self._check_writable(values)
        pixels = np.nonzero(where)
        if not len(pixels[0]):
            return
        rest = iter(plane.index)
        shown = {axis: places + start for axis, places, start in zip(plane.axes, pixels, origin, strict=True)}
        indices = tuple(
            shown[axis] if axis in shown else np.full(len(pixels[0]), next(rest)) for axis in range(plane.ndim)
        )
        self.layer.data_setitem(indices, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes in the block are one step; if the block raises, they are taken back."""
        if self._open:
            yield  # part of the outer one
            return
        self._open = True
        failed: BaseException | None = None
        steps: list[Any] = []
        note = steps.append
        self.layer.events.paint.connect(note)
        try:
            with self.layer.block_history():
                try:
                    yield
                except BaseException as error:  # the block must end well, or napari keeps its steps for the next one
                    failed = error
        finally:
            self._open = False
            self.layer.events.paint.disconnect(note)
        if failed is not None:
            if steps:
                self.layer.undo()
            raise failed

    def undo(self) -> bool:
        """Take back the last step; False if there is none to take back."""
        return self._step("undo")

    def redo(self) -> bool:
        """Do the last step that was taken back again; False if there is none."""
        return self._step("redo")

    def max_label(self) -> int:
        """The largest id in use anywhere in the array."""
        return int(np.max(self.layer.data, initial=0)) if isinstance(self.layer.data, np.ndarray) else self._scan()

    def _scan(self) -> int:
        planes = np.ndindex(*self.shape[:-2])
        return max((int(np.max(np.asarray(self.layer.data[place]), initial=0)) for place in planes), default=0)

    def _step(self, kind: str) -> bool:
        # napari does not say whether there was anything to take back.
        if not getattr(self.layer, f"_{kind}_history", True):
            return False
        getattr(self.layer, kind)()
        return True

    def _check_writable(self, values: int | NDArray[np.integer[Any]]) -> None:
        if np.min(values, initial=0) < 0 or np.max(values, initial=0) > self.largest_id:
            raise InputError(
                f"The layer {self.layer.name!r} holds ids up to {self.largest_id}: convert it to int32 for more "
                "(right click on the layer, Convert data type)."
            )
        if self.layer.multiscale or not hasattr(self.layer.data, "__setitem__"):
            raise InputError(f"The layer {self.layer.name!r} cannot be changed: choose or make another labels layer.")


Index = tuple[int, ...]


def planes_of_stroke(event: Any) -> set[Index]:
    """Positions of the planes of the last two axes that a brush of more than two dimensions has reached.

    Empty for any other change of a Labels layer, which is in the plane that is shown. The value of the ``paint`` event
    is another one in each version of napari; what is not understood counts as nothing.

    Parameters
    ----------
    event : napari event
        Of a Labels layer.
    """
    layer = event.source
    if event.type != "paint" or layer.ndim < 3 or layer.n_edit_dimensions < 3:
        return set()
    found: set[Index] = set()
    for part in event.value:
        found |= _of_slices(part.slice_key, layer.ndim) if hasattr(part, "slice_key") else _of_indices(part)
    return found


def _of_slices(slices: Any, ndim: int) -> set[Index]:
    if len(slices) != ndim or not all(isinstance(one, slice) for one in slices):
        return set()
    return set(product(*(range(one.start, one.stop) for one in slices[:-2])))


def _of_indices(part: Any) -> set[Index]:
    """Of (arrays with a position along each axis, values before, values after)."""
    indices = part[0] if isinstance(part, tuple) and len(part) == 3 else ()
    if not isinstance(indices, tuple) or len(indices) < 3:
        return set()
    return {tuple(place) for place in np.unique(np.stack(indices[:-2], axis=1), axis=0).tolist()}

"""napari layers as image sources and label stores of the session.

Also the roles of layers that the plugin makes, and which planes a brush stroke has painted in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_sam_lora._qt.layers.coordinates import data_shape
from napari_sam_lora.errors import InputError
from napari_sam_lora.session import PlaneKey
from napari_sam_lora.session.labels.stores import Pixels, own_dtype
from napari_sam_lora.session.plane_key import Box, check_plane

# Key of this plugin in the metadata of layers, also of those that its readers make.
METADATA_KEY = "napari-sam-lora"

Index = tuple[int, ...]


def unwrap(viewer: Any) -> Any:
    """Return the viewer itself; napari gives widgets a proxy of it, and not always the same one."""
    return getattr(viewer, "__wrapped__", viewer)


def role_of(layer: Any) -> str:
    """Return the role of a layer of this plugin: "points", "shapes", "mask", "preview"; empty for a user's layer."""
    return str(_metadata_of(layer).get("role", ""))


def is_managed(layer: Any) -> bool:
    """Return whether the plugin made this layer for prompts or a preview, so that it holds no results."""
    return bool(role_of(layer))


def is_segmentable(layer: Any) -> bool:
    """Return whether a layer can be segmented: an Image layer of at least two axes."""
    return isinstance(layer, Image) and not isinstance(layer, Labels) and len(data_shape(layer)) >= 2


def is_writable(layer: Any) -> bool:
    """Return whether objects can be written into a layer: a Labels layer of the user's, not multiscale."""
    return isinstance(layer, Labels) and not layer.multiscale and not is_managed(layer)


def fits(labels: Any, image: Any) -> bool:
    """Return whether a Labels layer has the shape of an Image layer."""
    return data_shape(labels) == data_shape(image)


def placement_metadata(image: Any) -> dict[str, Any]:
    """Return the ``metadata`` argument for labels of an Image layer: where the voxels of its file lie, if known."""
    placement = _metadata_of(image).get("placement")
    return {"metadata": {METADATA_KEY: {"placement": placement}}} if placement else {}


def _metadata_of(layer: Any) -> dict[str, Any]:
    """Return what this plugin has stored in the metadata of a layer."""
    found = layer.metadata.get(METADATA_KEY)
    return found if isinstance(found, dict) else {}


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
        """Shape of the data array, without a channel axis."""
        return self._shape

    @property
    def spacing(self) -> tuple[float, ...]:
        """Size of a pixel along each axis."""
        return self._spacing

    def read(self, plane: PlaneKey, box: Box | None = None) -> NDArray[Any]:
        """Return the pixels (y, x) or (y, x, c) of one plane, or of a box of it; nothing else is loaded."""
        check_plane(plane, self._shape)
        pixels = np.asarray(self._data[plane.slices(box)])
        return pixels.swapaxes(0, 1) if plane.is_transposed else pixels


class NapariStore:
    """`LabelStore` over a Labels layer; writes are steps of the layer's own history, so that Ctrl-Z undoes them.

    Parameters
    ----------
    layer : napari.layers.Labels
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self._in_transaction = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the label array."""
        return data_shape(self.layer)

    @property
    def largest_id(self) -> int:
        """Largest id that the dtype can hold."""
        return int(np.iinfo(self.layer.data.dtype).max)

    def read(self, plane: PlaneKey, box: Box | None = None) -> Pixels:
        """Copy the pixels (y, x) of one plane, or of a box of it, in their own dtype; see `own_dtype`."""
        check_plane(plane, self.shape)
        pixels = np.asarray(self.layer.data[plane.slices(box)])
        return own_dtype(pixels.T if plane.is_transposed else pixels).copy()

    def write(
        self,
        plane: PlaneKey,
        where: NDArray[np.bool_],
        values: int | NDArray[np.integer[Any]],
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        """Set pixels, see `LabelStore.write`; napari's undo takes them back.

        Raises
        ------
        InputError
            If the layer cannot hold the values, or cannot be changed.
        """
        check_plane(plane, self.shape)
        self._check_writable(values)
        pixels = np.nonzero(where)
        if not len(pixels[0]):
            return
        rest = iter(plane.index)
        shown = {axis: positions + start for axis, positions, start in zip(plane.axes, pixels, origin, strict=True)}
        indices = tuple(
            shown[axis] if axis in shown else np.full(len(pixels[0]), next(rest)) for axis in range(plane.ndim)
        )
        self.layer.data_setitem(indices, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all writes in the block one undoable step; undo them if the block raises."""
        if self._in_transaction:
            yield  # part of the outer one
            return
        self._in_transaction = True
        failed: BaseException | None = None
        steps: list[Any] = []
        add_step = steps.append
        self.layer.events.paint.connect(add_step)
        try:
            with self.layer.block_history():
                try:
                    yield
                except BaseException as error:  # leaving the block by an error, napari would keep its steps
                    failed = error
        finally:
            self._in_transaction = False
            self.layer.events.paint.disconnect(add_step)
        if failed is not None:
            if steps:
                self.layer.undo()
            raise failed

    def undo(self) -> bool:
        """Undo the last step; return False if there is none."""
        return self._step("undo")

    def redo(self) -> bool:
        """Redo the last step that was undone; return False if there is none."""
        return self._step("redo")

    def max_label(self) -> int:
        """Return the largest id in use anywhere in the array."""
        if isinstance(self.layer.data, np.ndarray):
            return int(np.max(self.layer.data, initial=0))
        planes = np.ndindex(*self.shape[:-2])  # one by one, since a lazy array may not fit in memory
        return max((int(np.max(np.asarray(self.layer.data[index]), initial=0)) for index in planes), default=0)

    def _step(self, kind: str) -> bool:
        # napari does not tell whether there was anything to undo.
        if not getattr(self.layer, f"_{kind}_history", True):
            return False
        getattr(self.layer, kind)()
        return True

    def _check_writable(self, values: int | NDArray[np.integer[Any]]) -> None:
        if np.min(values, initial=0) < 0 or np.max(values, initial=0) > self.largest_id:
            raise InputError(
                f"The layer {self.layer.name!r} holds ids up to {self.largest_id}: convert it to int32 for more "
                "(right click on the layer, Convert data type).",
                code="id-out-of-range",
            )
        if self.layer.multiscale or not hasattr(self.layer.data, "__setitem__"):
            raise InputError(
                f"The layer {self.layer.name!r} cannot be changed: choose or make another Labels layer.",
                code="labels-read-only",
            )


def planes_of_stroke(event: Any) -> set[Index]:
    """Return the planes that a brush stroke of more than two dimensions has painted in.

    The value of the ``paint`` event differs between versions of napari; an unknown one counts as no stroke.

    Parameters
    ----------
    event : napari event
        Of a Labels layer.

    Returns
    -------
    set of tuple of int
        Positions along all axes but the last two. Empty for any other change of a layer: it is in the plane that is
        shown.
    """
    layer = event.source
    if event.type != "paint" or layer.ndim < 3 or layer.n_edit_dimensions < 3:
        return set()
    planes: set[Index] = set()
    for step in event.value:
        if hasattr(step, "slice_key"):
            planes |= _planes_of_slices(step.slice_key, layer.ndim)
        else:
            planes |= _planes_of_indices(step)
    return planes


def _planes_of_slices(slices: Any, ndim: int) -> set[Index]:
    if len(slices) != ndim or not all(isinstance(one, slice) for one in slices):
        return set()
    return set(product(*(range(one.start, one.stop) for one in slices[:-2])))


def _planes_of_indices(step: Any) -> set[Index]:
    """Return the planes of a step (arrays of positions along each axis, values before, values after)."""
    indices = step[0] if isinstance(step, tuple) and len(step) == 3 else ()
    if not isinstance(indices, tuple) or len(indices) < 3:
        return set()
    return {tuple(index) for index in np.unique(np.stack(indices[:-2], axis=1), axis=0).tolist()}

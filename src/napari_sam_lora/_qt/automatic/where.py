"""Choose the planes to search: this plane, all planes of an image, or all open images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from napari_sam_lora._qt.layers.coordinates import data_shape
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.session import PlaneKey

Where = Literal["plane", "planes", "images"]


@dataclass(frozen=True)
class Place:
    """Planes to search.

    Attributes
    ----------
    planes : tuple of PlaneKey
        The plane that is shown comes first.
    complete : int
        Number of planes that are left out, because they are marked as complete.
    images : tuple of str
        Names of the images.
    hidden : tuple of str
        Names of those that are hidden in the viewer.
    """

    planes: tuple[PlaneKey, ...] = ()
    complete: int = 0
    images: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


def place_of(controller: Controller, where: Where) -> Place:
    """Return the planes to search: the one that is shown, all of its image, or all of all open images."""
    active = controller.active_layers
    plane, layer = active.plane, active.image_layer
    if layer is None or (plane is None and where != "images"):
        return Place()
    if where == "plane":
        return Place((plane,) if plane else (), 0, (str(layer.name),))
    layers = [layer] if where == "planes" else controller.layers.images()
    layers.sort(key=lambda one: one is not layer)
    planes: list[PlaneKey] = []
    complete = 0
    for one in layers:
        same = plane if plane is not None and one is layer else None
        wanted = _all_planes(controller, one, same)
        closed = _complete(controller, one)
        planes += [key for key in wanted if key.on("") not in closed]
        complete += sum(key.on("") in closed for key in wanted)
    planes.sort(key=lambda key: key != plane)
    hidden = tuple(str(one.name) for one in layers if not one.visible)
    return Place(tuple(planes), complete, tuple(str(one.name) for one in layers), hidden)


def _all_planes(controller: Controller, layer: Any, like: PlaneKey | None) -> Sequence[PlaneKey]:
    """Return all planes of an image: in the view of a plane, or of the last two axes."""
    shape, name = data_shape(layer), controller.layers.id_of(layer)
    axes = (len(shape) - 2, len(shape) - 1) if like is None else like.axes
    sides = [range(side) for axis, side in enumerate(shape) if axis not in axes]
    return [PlaneKey(name, axes, index) for index in product(*sides)]


def _complete(controller: Controller, layer: Any) -> frozenset[PlaneKey]:
    """Return the planes marked as complete in the labels of an image; their ``image`` is empty."""
    labels = controller.layers.id_of(controller.active_layers.labels_of(layer))
    label_set = controller.session.labels.get(labels)
    return frozenset() if label_set is None else label_set.complete_planes

"""Active layers of a viewer: the image that is segmented, the labels that receive objects, and the shown plane."""

from __future__ import annotations

from typing import Any
from weakref import ref

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_sam_lora._qt.layers.coordinates import (
    current_plane,
    data_shape,
    data_to_world,
    plane_to_data,
    transform_of,
    unit_factors,
)
from napari_sam_lora._qt.layers.label_owners import LabelOwners
from napari_sam_lora._qt.layers.layer_registry import LayerRegistry
from napari_sam_lora._qt.layers.napari_stores import fits, is_managed, placement_metadata
from napari_sam_lora.errors import InputError
from napari_sam_lora.session import PlaneKey, Session

TRANSFORM_EVENTS = ("scale", "translate", "rotate", "shear", "affine", "units")


class ActiveLayers(QObject):
    """Chosen image and labels of a viewer, and the plane of the image that is shown.

    The image follows the layer that is selected: a visible image, or labels of one. Where the chosen
    image is hidden or removed, a visible one is chosen. The labels follow the image.

    Signals
    -------
    image_chosen, target_chosen, plane_changed : ()
    view_moved : ()
        The viewer shows another position, which may be in the same plane of the image.
    image_shown : ()
        An image became visible, or hidden.
    image_moved : ()
        The image has another transform.

    Attributes
    ----------
    image_layer : napari.layers.Image or None
    target_layer : napari.layers.Labels or None
    plane : PlaneKey or None
    owners : LabelOwners
        Which labels belong to which image.
    """

    image_chosen = Signal()
    target_chosen = Signal()
    plane_changed = Signal()
    view_moved = Signal()
    image_shown = Signal()
    image_moved = Signal()

    def __init__(self, viewer: Any, session: Session, registry: LayerRegistry, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._session, self._registry = viewer, session, registry
        self.image_layer: Any | None = None
        self.target_layer: Any | None = None
        self.plane: PlaneKey | None = None
        self.owners = LabelOwners(session, registry)
        self._wants_new = False
        self._inserted: Any | None = None
        self._selected: ref[Any] | None = None
        registry.images_changed.connect(self._check_image)
        registry.labels_changed.connect(self._check_target)
        registry.pixels_changed.connect(self.update_plane)
        registry.image_shown.connect(self._on_image_shown)
        registry.objects_changed.connect(self._on_objects)
        layers = viewer.layers
        layers.events.inserted.connect(self._on_inserted)
        layers.selection.events.active.connect(self._on_selected)
        dims = viewer.dims.events
        self._dims_events = [dims.point, dims.order, dims.ndisplay, dims.ndim]
        for event in self._dims_events:
            event.connect(self._on_dims)
        self._check_image()

    def choose_image(self, layer: Any | None) -> None:
        """Segment this layer."""
        if layer is self.image_layer:
            return
        if self.image_layer is not None:
            for name in TRANSFORM_EVENTS:
                getattr(self.image_layer.events, name).disconnect(self._on_moved)
        self.image_layer, self._wants_new = layer, False
        if layer is not None:
            for name in TRANSFORM_EVENTS:
                getattr(layer.events, name).connect(self._on_moved)
        self.plane = None if layer is None else current_plane(self._viewer, layer, self._registry.id_of(layer))
        self.image_chosen.emit()
        self.plane_changed.emit()
        self._set_target(None if layer is None else self.owners.labels_of(layer))

    def select_image(self, layer: Any | None) -> None:
        """Segment this layer, which becomes visible and is selected in place of another image."""
        selection = self._viewer.layers.selection
        if layer is not None and not layer.visible:
            layer.visible = True
        self.choose_image(layer)
        if layer is not None and selection.active in self._registry.images():
            selection.active = layer

    @property
    def is_hidden(self) -> bool:
        """Return whether the image is not visible, so that prompts on it would be blind."""
        return self.image_layer is not None and not self.image_layer.visible

    def choose_target(self, layer: Any | None) -> None:
        """Write the objects of the image into this layer; None for a new one."""
        self._wants_new = layer is None
        if layer is not None and self.image_layer is not None:
            self.owners.pair(self.image_layer, layer)
        self._set_target(layer)

    def labels_of(self, image: Any) -> Any | None:
        """Return the Labels layer that receives the objects of any image; None if one will be made."""
        if image is self.image_layer:
            return self.target_layer
        return self.owners.labels_of(image, taken=self.target_layer)

    def image_of(self, labels: Any) -> Any | None:
        """Return the image that any labels show; None if no image fits."""
        return self.image_layer if labels is self.target_layer else self.owners.likely_image_of(labels)

    def fitting_labels(self) -> list[Any]:
        """Return the Labels layers with the shape of the image."""
        image = self.image_layer
        return [] if image is None else [layer for layer in self._registry.labels() if fits(layer, image)]

    def make_target(self) -> Any:
        """Add an empty Labels layer for the image, choose it, and return it.

        Raises
        ------
        InputError
            If there is no image, or labels of its shape do not fit in memory.
        """
        if self.image_layer is None:
            raise InputError("There is no image: open one, or try File ▸ Open Sample ▸ SAM LoRA.", code="no-image")
        made = self.make_labels(self.image_layer)
        self.choose_target(made)
        return made

    def make_labels(self, image: Any) -> Any:
        """Add an empty Labels layer for any image, and return it.

        Raises
        ------
        InputError
            If labels of this shape do not fit in memory.
        """
        shape = data_shape(image)
        try:
            data = np.zeros(shape, np.int32 if np.prod(shape, dtype=np.float64) < 2**31 else np.uint16)
        except MemoryError as error:
            raise InputError(
                f"Labels for an image of {shape} do not fit in memory: crop the image, or add a Labels layer with a "
                "zarr array yourself and choose it.",
                code="labels-too-large",
            ) from error
        layers = self._viewer.layers
        active = layers.selection.active
        made = self._viewer.add_labels(
            data, name=name_of_labels(image), **transform_of(image), **placement_metadata(image)
        )
        layers.move(layers.index(made), layers.index(image) + 1)  # below the prompts
        layers.selection.active = active
        self.owners.pair(image, made)
        return made

    def go_to(self, plane: PlaneKey, centre: tuple[float, ...] | None) -> None:
        """Show a plane, with a position in data coordinates in the middle.

        Raises
        ------
        InputError
            If the layer of the plane is not in the viewer.
        """
        layer, viewer = self._registry.layer_of(plane.image), self._viewer
        if layer is None:
            raise InputError(
                "The layer of this object was removed: open it again to show the object.", code="layer-not-open"
            )
        offset = viewer.dims.ndim - layer.ndim
        shown = [axis + offset for axis in plane.axes]
        viewer.dims.ndisplay = 2
        if tuple(viewer.dims.displayed) != tuple(shown):
            viewer.dims.order = (*(axis for axis in range(viewer.dims.ndim) if axis not in shown), *shown)
        position = plane_to_data(np.zeros((1, 2)), plane)[0]
        if centre is not None:
            position[list(plane.axes)] = np.asarray(centre, np.float64)[list(plane.axes)]
        matrix, start = data_to_world(layer)
        world = (matrix @ position + start) / unit_factors(viewer, layer)
        for axis in plane.other_axes:
            viewer.dims.set_point(axis + offset, float(world[axis]))
        if centre is not None:
            camera = getattr(viewer, "scene", viewer).camera  # napari 0.9 moved it and warns at the former place
            camera.center = (0.0, *(float(world[axis]) for axis in plane.axes))

    def update_plane(self) -> None:
        """Find out which plane is shown; emits `plane_changed` if it is another one."""
        layer = self.image_layer
        plane = None if layer is None else current_plane(self._viewer, layer, self._registry.id_of(layer))
        if plane != self.plane:
            self.plane = plane
            self.plane_changed.emit()

    def close(self) -> None:
        """Disconnect from the viewer and forget its layers."""
        layers = self._viewer.layers
        layers.events.inserted.disconnect(self._on_inserted)
        layers.selection.events.active.disconnect(self._on_selected)
        self._inserted = self._selected = None
        for event in self._dims_events:
            event.disconnect(self._on_dims)
        if self.image_layer is not None:
            for name in TRANSFORM_EVENTS:
                getattr(self.image_layer.events, name).disconnect(self._on_moved)
        self.image_layer = self.target_layer = self.plane = None

    def _on_dims(self, event: Any = None) -> None:
        self._registry.watch_shown_planes()
        self.update_plane()
        self.view_moved.emit()

    def _on_inserted(self, event: Any) -> None:
        self._inserted = event.value

    def _on_selected(self, event: Any = None) -> None:
        """Follow the layer that the user has selected.

        napari selects each new layer, and whoever adds one for prompts or labels selects the former layer again:
        neither is the user's choice, unless the new layer is an image.
        """
        active, images = self._viewer.layers.selection.active, self._registry.images()
        if active is None or is_managed(active) or (active is self._inserted and active not in images):
            return
        self._inserted, before = None, None if self._selected is None else self._selected()
        if active is before:
            return
        self._selected = ref(active)
        image = self.owners.image_of(active) if active in self._registry.labels() else active
        if image is not None and image in images and image.visible:
            self.choose_image(image)

    def _on_image_shown(self, layer: Any) -> None:
        if self.is_hidden:
            active = self._viewer.layers.selection.active
            visible = [image for image in self._registry.images() if image.visible]
            if visible:
                self.choose_image(active if active in visible else visible[-1])
        self.image_shown.emit()

    def _on_objects(self, labels: str) -> None:
        """Let labels that no image owns belong to the image that the user paints or segments them over."""
        target, image = self.target_layer, self.image_layer
        if target is None or image is None or labels != self._registry.id_of(target):
            return
        if self.owners.image_of(target) is None:
            self.owners.pair(image, target)

    def _on_moved(self, event: Any = None) -> None:
        self.image_moved.emit()
        self.update_plane()

    def _check_image(self) -> None:
        images = self._registry.images()
        if self.image_layer not in images:
            active = self._viewer.layers.selection.active
            shown = [image for image in images if image.visible] or images
            self.choose_image(active if active in shown else shown[-1] if shown else None)
        else:
            self.update_plane()

    def _check_target(self) -> None:
        """Keep the labels of the image while they are there and fit."""
        image, target = self.image_layer, self.target_layer
        own = None if image is None else self.owners.labels_of(image)
        if target is not None and target is not own:
            may_stay = target in self.fitting_labels() and self.owners.may_receive(target, image)
            if not may_stay:
                self._set_target(None)
        if self.target_layer is None and not self._wants_new:
            self._set_target(own)

    def _set_target(self, layer: Any | None) -> None:
        self._session.labels.target = self._registry.id_of(layer)
        if layer is not self.target_layer:
            self.target_layer = layer
            self.target_chosen.emit()


def name_of_labels(image: Any) -> str:
    """Return the name of the Labels layer that is made for an image."""
    return f"{image.name} labels"

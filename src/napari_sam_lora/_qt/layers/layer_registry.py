"""Registry of the layers that the session works on, with ids that stay when layers are renamed or moved."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from qtpy.QtCore import QObject, QTimer, Signal

from napari_sam_lora._qt.layers.coordinates import current_plane, data_shape
from napari_sam_lora._qt.layers.napari_stores import (
    NapariSource,
    NapariStore,
    is_managed,
    is_segmentable,
    is_writable,
    planes_of_stroke,
)
from napari_sam_lora.session import PlaneKey, Session


class LayerRegistry(QObject):
    """Follows the layer list of a viewer and tells the session which images and labels come, go or change.

    Signals
    -------
    images_changed, labels_changed : ()
        Image or Labels layers were added, removed, renamed or moved.
    image_shown : (object)
        An image became visible, or hidden.
    pixels_changed : (str)
        The image with this id has other data now.
    objects_changed : (str)
        See `LabelSet.objects_changed`; with the id of the Labels layer.
    stepped : (str, Step)
        See `LabelSet.stepped`; with the id of the Labels layer.
    layers_changed : ()
        Layers of any kind were added, removed, renamed or moved.
    layer_removed : (object)
        A layer of any kind was removed.
    """

    images_changed = Signal()
    labels_changed = Signal()
    image_shown = Signal(object)
    pixels_changed = Signal(str)
    objects_changed = Signal(str)
    stepped = Signal(str, object)
    layers_changed = Signal()
    layer_removed = Signal(object)

    def __init__(self, viewer: Any, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._session = viewer, session
        self._ids: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._layers: dict[str, Any] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._watched: dict[str, PlaneKey] = {}
        self._painted: dict[str, set[tuple[int, ...]]] = {}
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._report_painted)
        events = viewer.layers.events
        self._connected = [
            (events.inserted, self._on_inserted),
            (events.removed, self._on_removed),
            (events.reordered, self._on_reordered),
        ]
        for emitter, call in self._connected:
            emitter.connect(call)
        for layer in viewer.layers:
            self._add(layer)

    def id_of(self, layer: Any) -> str:
        """Return the id of a layer; empty if it has none."""
        return "" if layer is None else self._ids.get(layer, "")

    def layer_of(self, name: str) -> Any | None:
        """Return the layer with this id; None if it is not in the viewer."""
        return self._layers.get(name)

    def images(self) -> list[Any]:
        """Return the Image layers of the session, in the order of the layer list."""
        return [layer for layer in self._viewer.layers if self.id_of(layer) in self._session.images]

    def images_below(self, layer: Any) -> list[Any]:
        """Return the Image layers of the session below a layer, in the order of the layer list."""
        layers = self._viewer.layers
        return [image for image in self.images() if layers.index(image) < layers.index(layer)]

    def labels(self) -> list[Any]:
        """Return the Labels layers of the session, in the order of the layer list."""
        return [layer for layer in self._viewer.layers if self.id_of(layer) in self._session.labels]

    def watch_shown_planes(self) -> None:
        """Let the session remember the labels of the shown planes, to find later what was painted in them."""
        for name, labels in list(self._session.labels.items()):
            layer = self._layers[name]
            plane = current_plane(self._viewer, layer, name) if layer.visible else None
            if plane is not None and self._watched.get(name) != plane:
                self._watched[name] = plane
                labels.watch(plane)

    def flush(self) -> None:
        """Report to the session at once what was painted."""
        if self._timer.isActive():
            self._timer.stop()
            self._report_painted()

    def close(self) -> None:
        """Disconnect from the viewer and all layers."""
        self._timer.stop()
        for emitter, call in self._connected:
            emitter.disconnect(call)
        for layer in list(self._layers.values()):
            self._disconnect(layer)
        self._layers.clear()

    # Layers that come and go

    def _on_inserted(self, event: Any) -> None:
        self._add(event.value)
        self.layers_changed.emit()

    def _on_removed(self, event: Any) -> None:
        self._remove(event.value)
        self.layer_removed.emit(event.value)
        self.layers_changed.emit()

    def _on_reordered(self, event: Any = None) -> None:
        self.images_changed.emit()
        self.labels_changed.emit()
        self.layers_changed.emit()

    def _add(self, layer: Any) -> None:
        if is_managed(layer) or not (is_segmentable(layer) or is_writable(layer)):
            return
        name = self._ids.get(layer) or self._free_id(str(layer.name))
        self._ids[layer] = name
        self._layers[name] = layer
        self._shapes[name] = data_shape(layer)
        layer.events.name.connect(self._on_renamed)
        layer.events.data.connect(self._on_data)
        if is_segmentable(layer):
            self._session.add_image(name, NapariSource(layer))
            layer.events.visible.connect(self._on_visible)
            self.images_changed.emit()
        else:
            self._add_labels(name, layer)
            layer.events.paint.connect(self._on_painted)
            layer.events.set_data.connect(self._on_refreshed)
            self.labels_changed.emit()

    def _add_labels(self, name: str, layer: Any) -> None:
        target = self._session.labels.target
        labels = self._session.labels.add(name, NapariStore(layer))
        self._session.labels.target = target  # the user chooses which labels receive objects
        labels.objects_changed.connect(lambda: self.objects_changed.emit(name))
        labels.stepped.connect(lambda step: self.stepped.emit(name, step))
        self._watched.pop(name, None)
        self.watch_shown_planes()

    def _remove(self, layer: Any) -> None:
        name = self.id_of(layer)
        if name not in self._layers:
            return
        self._disconnect(layer)
        del self._layers[name], self._shapes[name]
        self._painted.pop(name, None)
        self._watched.pop(name, None)
        if name in self._session.images:
            self._session.remove_image(name)
            self.images_changed.emit()
        else:
            self._session.labels.remove(name)
            self.labels_changed.emit()

    def _disconnect(self, layer: Any) -> None:
        layer.events.name.disconnect(self._on_renamed)
        layer.events.data.disconnect(self._on_data)
        if is_segmentable(layer):
            layer.events.visible.disconnect(self._on_visible)
        if is_writable(layer):
            layer.events.paint.disconnect(self._on_painted)
            layer.events.set_data.disconnect(self._on_refreshed)

    def _free_id(self, wanted: str) -> str:
        used = {*self._ids.values(), *self._session.images, *self._session.labels}
        names = (wanted if number == 1 else f"{wanted} ({number})" for number in range(1, len(used) + 2))
        return next(name for name in names if name not in used)

    # Layers that change

    def _on_renamed(self, event: Any) -> None:
        source = self._session.images.get(self.id_of(event.source))
        if isinstance(source, NapariSource):
            source.name = str(event.source.name)
        self._on_reordered()

    def _on_visible(self, event: Any) -> None:
        self.image_shown.emit(event.source)

    def _on_data(self, event: Any) -> None:
        """Tell the session that the whole array of a layer was replaced."""
        layer, name = event.source, self.id_of(event.source)
        has_same_shape = data_shape(layer) == self._shapes.get(name)
        self._shapes[name] = data_shape(layer)
        if name in self._session.images:
            self._session.add_image(name, NapariSource(layer))
            self.pixels_changed.emit(name)
            if not has_same_shape:
                self.labels_changed.emit()
        elif has_same_shape:
            self._on_painted(event)
        else:
            self._session.labels.remove(name)
            self._add_labels(name, layer)
            self.labels_changed.emit()

    def _on_painted(self, event: Any) -> None:
        name = self.id_of(event.source)
        labels = self._session.labels.get(name)
        if labels is not None and not labels.is_editing:
            self._painted.setdefault(name, set()).update(planes_of_stroke(event))
            self._timer.start()

    def _on_refreshed(self, event: Any) -> None:
        """Handle napari's undo, among others; a change of the plane refreshes the layer too, but paints nothing."""
        name = self.id_of(event.source)
        plane = current_plane(self._viewer, event.source, name)
        if plane is not None and plane == self._watched.get(name):
            self._on_painted(event)

    def _report_painted(self) -> None:
        painted, self._painted = self._painted, {}
        for name in painted.keys() & self._session.labels.keys():
            layer = self._layers[name]
            for index in painted[name]:
                self._session.labels[name].note_painted(PlaneKey.of(name, layer.ndim, index))
            shown = current_plane(self._viewer, layer, name) or self._watched.get(name)
            plane = shown or PlaneKey.of(name, layer.ndim, (0,) * (layer.ndim - 2))
            self._session.labels[name].note_painted(plane)

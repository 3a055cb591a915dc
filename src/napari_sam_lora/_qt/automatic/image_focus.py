"""Let one of several images that lie on top of each other be seen."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from napari_sam_lora._qt.viewer.controller import Controller


def is_covered(controller: Controller, image: Any) -> bool:
    """Return whether another visible image lies above an image. In grid mode none does."""
    images = controller.layers.images()
    above = images[images.index(image) + 1 :] if image in images else []
    viewer = controller.viewer
    grid = getattr(viewer, "canvas", viewer).grid  # napari 0.9 moved it and warns at the former place
    return not grid.enabled and any(other.visible for other in above)


def uncover(controller: Controller, image: Any) -> None:
    """Choose an image to segment and let it be seen, for good: it becomes visible, and those above it are hidden."""
    ImageFocus(controller).show(image)


class ImageFocus:
    """Hides the images above the one to look at, with their labels, until `restore`.

    Parameters
    ----------
    controller : Controller
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._was_visible: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
        self._former: Any | None = None

    def show(self, image: Any) -> None:
        """Choose an image to segment, and let it be seen with its labels. In grid mode no image covers another."""
        controller = self._controller
        former = self._former or controller.active_layers.image_layer
        self.restore()
        self._former = former
        controller.active_layers.choose_image(image)
        labels = controller.active_layers.labels_of(image)
        self._set(image, True)
        if labels is not None:
            self._set(labels, True)
        if not is_covered(controller, image):
            return
        images = controller.layers.images()
        for other in images[images.index(image) + 1 :]:
            self._set(other, False)
        for other in controller.layers.labels():
            owner = controller.active_layers.owners.image_of(other)
            if other is not labels and owner not in (None, image):
                self._set(other, False)

    def restore(self) -> None:
        """Choose the image again that was chosen before the first `show`, and show and hide the layers as then."""
        former, self._former = self._former, None
        for layer, visible in list(self._was_visible.items()):
            if layer in self._controller.viewer.layers:
                layer.visible = visible
        self._was_visible.clear()
        if former in self._controller.layers.images():
            self._controller.active_layers.choose_image(former)

    def _set(self, layer: Any, visible: bool) -> None:
        if layer.visible != visible:
            self._was_visible.setdefault(layer, layer.visible)
            layer.visible = visible

"""Pair each image with the Labels layer that receives its objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary, ref

from napari_sam_lora._qt.layers.layer_registry import LayerRegistry
from napari_sam_lora._qt.layers.napari_stores import fits
from napari_sam_lora.session import LabelSet, Session


class LabelOwners:
    """Pairs of images and Labels layers, chosen by the user or known from prompts and names.

    Parameters
    ----------
    session : Session
    registry : LayerRegistry
    """

    def __init__(self, session: Session, registry: LayerRegistry) -> None:
        self._session, self._registry = session, registry
        self._chosen: WeakKeyDictionary[Any, ref[Any]] = WeakKeyDictionary()
        self._former: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

    def pair(self, image: Any, labels: Any) -> None:
        """Let an image have these labels."""
        self._chosen[image] = ref(labels)
        self._former[labels] = self._registry.id_of(image)

    def image_of(self, labels: Any) -> Any | None:
        """Return the image that labels belong to; None if nothing tells."""
        images = {self._registry.id_of(one): one for one in self._registry.images() if fits(labels, one)}
        paired = [one for one in images.values() if self._chosen_by(one) is labels]
        if paired:
            return paired[-1]
        label_set = self._session.labels.get(self._registry.id_of(labels))
        known = [] if label_set is None else known_images(label_set, labels, images)
        return images[known[0]] if known else None

    def likely_image_of(self, labels: Any) -> Any | None:
        """Return the image that labels show: their own, else the next below them, else any; None if none fits."""
        fitting = [image for image in self._registry.images() if fits(labels, image)]
        return self.image_of(labels) or self._image_below(labels) or (fitting[0] if fitting else None)

    def may_receive(self, labels: Any, image: Any) -> bool:
        """Return whether labels are those of an image, or of no other.

        Labels that nothing ties to an image are those of the next below them; empty ones may be those of any. Labels
        of an image that was removed are nobody's.
        """
        owner = self.image_of(labels)
        if owner is not None:
            return owner is image
        label_set = self._session.labels.get(self._registry.id_of(labels))
        if label_set is None or not label_set.records():
            return True
        images = {plane.image for record in label_set.records() for plane in record.prompts}
        is_left = not {*images, self._former.get(labels, "")} <= {"", *self._session.images}  # its image was removed
        return not is_left and self._image_below(labels) in (None, image)

    def labels_of(self, image: Any, taken: Any | None = None) -> Any | None:
        """Return the labels of an image: those paired with it, else the last that may be its own; None if none may.

        Labels next above the image come before others.

        Parameters
        ----------
        image : napari.layers.Image
        taken : napari.layers.Labels, optional
            Labels of another image.
        """
        labels = [layer for layer in self._registry.labels() if fits(layer, image)]
        chosen = self._chosen_by(image)
        if chosen in labels:
            return chosen
        free = [layer for layer in labels if layer is not taken and self.may_receive(layer, image)]
        near = [layer for layer in free if image in (self.image_of(layer), self._image_below(layer))]
        return next(reversed(near or free), None)

    def _image_below(self, labels: Any) -> Any | None:
        below = [image for image in self._registry.images_below(labels) if fits(labels, image)]
        return below[-1] if below else None

    def _chosen_by(self, image: Any) -> Any | None:
        chosen = self._chosen.get(image)
        return None if chosen is None else chosen()


def known_images(label_set: LabelSet, layer: Any, images: Mapping[str, Any]) -> list[str]:
    """Return the images that labels surely belong to, by id: those with their prompts, then those with their name."""
    drawn_on = Counter(plane.image for record in label_set.records() for plane in record.prompts)
    prompted = [image for image, _ in drawn_on.most_common() if image in images]
    named = [image for image, one in images.items() if str(layer.name).startswith(str(one.name))]
    named.sort(key=lambda image: len(images[image].name), reverse=True)
    return [*prompted, *named]

"""What can be trained on: the label layers of a viewer, each with its image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.napari_stores import fits
from napari_sam_lora.session import LabelSet, ObjectRecord
from napari_sam_lora.text import pluralize

# Objects whose side is less than this in the model's input are hard for it to see.
TINY = 8.0
FEW, ENOUGH = 3, 20


@dataclass(frozen=True)
class TrainingPair:
    """A label image and the image that it belongs to.

    Attributes
    ----------
    image, labels : str
        Ids in the session; the image is empty if none has the shape of the labels.
    image_name, labels_name : str
        Of the layers.
    images : tuple of str
        Ids of all images of this shape.
    planes, complete : int
        Planes with labels, and how many of them are marked as complete.
    objects, prompted : int
        Objects, counted in every plane that they are in, and how many have prompts.
    spacing : tuple of float
        Size of a pixel (y, x).
    sides : tuple of float
        Square root of the area of each object's box in its plane, as a share of the plane's longest side.
    missing : tuple of str
        Names of classes that no object has.
    ids : frozenset of int
        In use.
    """

    image: str
    labels: str
    image_name: str
    labels_name: str
    images: tuple[str, ...]
    planes: int
    complete: int
    objects: int
    prompted: int
    spacing: tuple[float, ...]
    sides: tuple[float, ...]
    missing: tuple[str, ...]
    ids: frozenset[int]


def find_pairs(controller: Controller, chosen: Mapping[str, str], only_checked: bool) -> list[TrainingPair]:
    """The pairs of a viewer, in the order of its layer list; only those with labels.

    Parameters
    ----------
    controller : Controller
    chosen : mapping of str to str
        Ids of images that the user chose, by those of labels.
    only_checked : bool
        Leave out objects that were neither painted nor approved.
    """
    found = []
    for layer in controller.label_layers(fitting=False):
        labels = controller.id_of(layer)
        known = controller.session.labels.get(labels)
        if known is not None:
            records = [one for one in known.records() if one.is_checked or not only_checked]
            if records:
                found.append(_describe(controller, layer, records, known, chosen.get(labels, "")))
    return found


def _describe(
    controller: Controller, layer: Any, records: Sequence[ObjectRecord], known: LabelSet, chosen: str
) -> TrainingPair:
    images = {controller.id_of(one): one for one in controller.image_layers() if fits(layer, one)}
    labels = controller.id_of(layer)
    image = chosen if chosen in images else _likely_image(known, layer, images, controller.viewer.layers)
    shape = known.store.shape
    known.labelled_planes()  # looks at all planes, of a large image too
    places = [plane for record in records for plane in known.where(record.id)]
    planes = set(places)
    boxes = [known.stats(record.id).box[-2:] for record in records]
    sides = [np.sqrt((y.stop - y.start) * (x.stop - x.start)) / max(shape[-2:]) for y, x in boxes]
    in_use = {record.class_id for record in records}
    return TrainingPair(
        image=image,
        labels=labels,
        image_name=str(images[image].name) if image else "",
        labels_name=str(layer.name),
        images=tuple(images),
        planes=len(planes),
        complete=len(known.complete_planes & planes),
        objects=len(places),
        prompted=sum(bool(record.prompts) for record in records),
        spacing=tuple(float(side) for side in layer.scale[-2:]),
        sides=tuple(float(side) for side in sides),
        missing=tuple(one.name for one in known.classes if one.id not in in_use),
        ids=frozenset(record.id for record in records),
    )


def _likely_image(known: LabelSet, layer: Any, images: Mapping[str, Any], layers: Any) -> str:
    """The image that most prompts were drawn on; or that the labels are named after; or the next below; or any."""
    drawn_on = Counter(plane.image for record in known.records() for plane in record.prompts)
    prompted = [image for image, _ in drawn_on.most_common() if image in images]
    named = [image for image, one in images.items() if str(layer.name).startswith(str(one.name))]
    named.sort(key=lambda image: len(images[image].name), reverse=True)
    own = layers.index(layer)
    heights = {image: layers.index(one) for image, one in images.items()}
    below = sorted((image for image in images if heights[image] < own), key=heights.__getitem__, reverse=True)
    return next(iter([*prompted, *named, *below, *images]), "")


def cautions(pairs: Sequence[TrainingPair], meaning: str, input_size: int) -> list[str]:
    """What a user should know before training, in plain words; empty if all is well.

    Parameters
    ----------
    pairs : sequence of TrainingPair
        Those that are included.
    meaning : str
        What labels mean, see `TrainConfig`.
    input_size : int
        Of the model, in pixels.
    """
    objects = sum(pair.objects for pair in pairs)
    said = []
    if not objects:
        return ["Nothing to learn from yet: segment or paint a few objects; ten are a good start."]
    if meaning == "instances" and objects < FEW:
        said.append(
            f"Only {pluralize(objects, 'object')}: whether training helps cannot be checked with fewer than {FEW}, "
            f"and is sure with about {ENOUGH}."
        )
    sides = [side * input_size for pair in pairs for side in pair.sides]
    if np.median(sides) < TINY:
        said.append(
            f"Most objects are tiny: less than {TINY:.0f} pixels across for the model. Crop the image, or load the "
            "model with a larger input size."
        )
    said += [f"No object of the class {name} in {pair.labels_name}." for pair in pairs for name in pair.missing]
    if meaning == "classes" and len({pair.ids for pair in pairs}) > 1:
        everywhere = frozenset.union(*(pair.ids for pair in pairs))
        for pair in pairs:
            lost = ", ".join(str(one) for one in sorted(everywhere - pair.ids)[:5])
            if lost:
                said.append(f"{pair.labels_name} has nothing of class {lost}.")
    pixels = [max(pair.spacing) for pair in pairs]
    if max(pixels) > 1.5 * min(pixels):
        said.append(
            "The images have different pixel sizes: objects of one kind look larger in some. That is fine if it is so "
            "in the images that you will segment."
        )
    return said

"""Candidates for the training set: the labels layers of a viewer, each with its image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_sam_lora._qt.layers.napari_stores import fits
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.session import LabelSet, ObjectRecord
from napari_sam_lora.text import pluralize

TINY_PIXELS = 8.0  # objects with a shorter side in the model's input are hard to segment
MIN_OBJECTS, ENOUGH_OBJECTS = 3, 20
TICK_DONE = "Tick Done where every object is labelled, and Find everything learns as well."
APPROVE_ALL = "Approve all objects of a plane that is done, and Find everything learns as well."
NOTHING_INCLUDED = "Nothing to learn from yet. Segment or paint a few objects; ten are a good start."


@dataclass(frozen=True)
class TrainingPair:
    """A label image and the image that it belongs to.

    Attributes
    ----------
    image, labels : str
        Ids in the session; the image is empty if none has the shape of the labels.
    image_name, labels_name : str
        Names of the layers.
    images : tuple of str
        Ids of all images of this shape.
    planes, complete : int
        Number of planes with labels, and how many of them are marked as complete.
    background : int
        Number of complete planes without an object that is left out: from their background, the dense head learns.
    objects, prompted : int
        Number of objects, counted in every plane they are in, and how many have prompts.
    spacing : tuple of float
        Size of a pixel (y, x).
    sides : tuple of float
        Square root of the area of each object's box in its plane, as a share of the plane's longest side.
    missing : tuple of str
        Names of classes that no object has.
    ids : frozenset of int
        Ids of the objects.
    """

    image: str
    labels: str
    image_name: str
    labels_name: str
    images: tuple[str, ...]
    planes: int
    complete: int
    background: int
    objects: int
    prompted: int
    spacing: tuple[float, ...]
    sides: tuple[float, ...]
    missing: tuple[str, ...]
    ids: frozenset[int]


def find_pairs(controller: Controller, chosen: Mapping[str, str], only_checked: bool) -> list[TrainingPair]:
    """Return the pairs of a viewer whose labels have objects, in the order of the layer list.

    Parameters
    ----------
    controller : Controller
    chosen : mapping of str to str
        Ids of the images that the user has chosen, by ids of labels.
    only_checked : bool
        Leave out objects that were neither painted, corrected nor approved.
    """
    pairs = []
    for layer in controller.layers.labels():
        labels = controller.layers.id_of(layer)
        label_set = controller.session.labels.get(labels)
        if label_set is not None:
            records = [one for one in label_set.records() if one.is_checked or not only_checked]
            if records:
                pairs.append(_describe(controller, layer, records, label_set, chosen.get(labels, ""), only_checked))
    return pairs


def _describe(
    controller: Controller,
    layer: Any,
    records: Sequence[ObjectRecord],
    label_set: LabelSet,
    chosen: str,
    only_checked: bool,
) -> TrainingPair:
    images = {controller.layers.id_of(one): one for one in controller.layers.images() if fits(layer, one)}
    labels = controller.layers.id_of(layer)
    image = chosen if chosen in images else controller.layers.id_of(controller.active_layers.image_of(layer))
    shape = label_set.store.shape
    label_set.labelled_planes()  # reads all planes, so that `where` knows them
    object_planes = [
        plane
        for record in records
        for plane in label_set.where(record.id)
        if record.is_checked_in(plane) or not only_checked
    ]
    planes = set(object_planes)
    complete = label_set.complete_planes & planes
    unchecked = [
        plane
        for record in (label_set.records() if only_checked else ())
        for plane in label_set.where(record.id)
        if not record.is_checked_in(plane)
    ]
    boxes = [label_set.stats(record.id).box[-2:] for record in records]
    sides = [np.sqrt((y.stop - y.start) * (x.stop - x.start)) / max(shape[-2:]) for y, x in boxes]
    in_use = {record.class_id for record in records}
    return TrainingPair(
        image=image,
        labels=labels,
        image_name=str(images[image].name) if image else "",
        labels_name=str(layer.name),
        images=tuple(images),
        planes=len(planes),
        complete=len(complete),
        background=len(complete.difference(unchecked)),
        objects=len(object_planes),
        prompted=sum(bool(record.prompts) for record in records),
        spacing=tuple(float(side) for side in layer.scale[-2:]),
        sides=tuple(float(side) for side in sides),
        missing=tuple(one.name for one in label_set.classes if one.id not in in_use),
        ids=frozenset(record.id for record in records),
    )


def hint_for_dense_head(pairs: Sequence[TrainingPair]) -> str:
    """Return what the user can do so that the dense head learns from a training set; empty if it does, or is empty."""
    if not pairs or any(pair.background for pair in pairs):
        return ""
    return APPROVE_ALL if any(pair.complete for pair in pairs) else TICK_DONE


def training_warnings(pairs: Sequence[TrainingPair], meaning: str, input_size: int) -> list[str]:
    """Return what may go wrong with a training set, as sentences for the user; empty if nothing is wrong.

    Parameters
    ----------
    pairs : sequence of TrainingPair
        Pairs that are included in the training set.
    meaning : str
        Meaning of the labels, see `TrainConfig`.
    input_size : int
        Input size of the model, in pixels.
    """
    objects = sum(pair.objects for pair in pairs)
    if not objects:
        return [NOTHING_INCLUDED]
    warnings = []
    if meaning == "instances" and objects < MIN_OBJECTS:
        warnings.append(
            f"Only {pluralize(objects, 'object')}: at least {MIN_OBJECTS} are needed to check whether training helps, "
            f"and about {ENOUGH_OBJECTS} to be sure of it."
        )
    sides = [side * input_size for pair in pairs for side in pair.sides]
    if np.median(sides) < TINY_PIXELS:
        warnings.append(
            f"Most objects are tiny: smaller than {TINY_PIXELS:.0f} pixels in the input of the model. Crop the image, "
            "or load the model with a larger input size."
        )
    warnings += [f"No object of the class {name} in {pair.labels_name}." for pair in pairs for name in pair.missing]
    if meaning == "classes" and len({pair.ids for pair in pairs}) > 1:
        everywhere = frozenset.union(*(pair.ids for pair in pairs))
        for pair in pairs:
            absent = ", ".join(str(class_id) for class_id in sorted(everywhere - pair.ids)[:5])
            if absent:
                warnings.append(f"{pair.labels_name} has no pixels of class {absent}.")
    pixels = [max(pair.spacing) for pair in pairs]
    if max(pixels) > 1.5 * min(pixels):
        warnings.append(
            "The images have different pixel sizes, so objects of one kind look larger in some of them. That is fine "
            "if the images that you will segment differ in the same way."
        )
    return warnings

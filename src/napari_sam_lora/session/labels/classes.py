"""Lists of classes: new classes, lists that are merged, and classes that a model predicts for found objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.session.labels.records import ObjectClass

# The palette of Okabe and Ito, which is safe for colour-blind people.
_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")


@dataclass(frozen=True)
class PredictedClass:
    """Class that a model predicts for an object.

    Attributes
    ----------
    id : int
        Id in the adapter.
    name : str
        Empty if the adapter has no name for it.
    """

    id: int
    name: str


def new_class(present: Sequence[ObjectClass], name: str = "", class_id: int = 0) -> ObjectClass:
    """Make a class with a colour that is not used yet; by default with the id above all others, and named by its id."""
    class_id = class_id or max((one.id for one in present), default=0) + 1
    used = {one.colour for one in present}
    colours = [_as_rgb(colour) for colour in _COLOURS]
    colour = next((one for one in colours if one not in used), colours[class_id % len(colours)])
    return ObjectClass(class_id, name or f"class {class_id}", colour)


def merge_classes(
    present: Sequence[ObjectClass], others: Mapping[int, str]
) -> tuple[tuple[ObjectClass, ...], dict[int, int]]:
    """Find classes of another list in the present one, and add those that it lacks.

    Classes are the same if they have the same name; a class without a name is that with its id.

    Parameters
    ----------
    present : sequence of ObjectClass
    others : mapping of int to str
        Names of the other classes by their id.

    Returns
    -------
    classes : tuple of ObjectClass
        The present ones, and then new ones; these keep their id if it is free.
    ids : dict of int to int
        Id in ``classes`` by id in ``others``.
    """
    classes, ids = list(present), {}
    for class_id, name in others.items():
        same = (one for one in classes if (one.name == name if name else one.id == class_id))
        found = next(same, None)
        if found is None:
            is_free = all(one.id != class_id for one in classes)
            found = new_class(classes, name, class_id if is_free else 0)
            classes.append(found)
        ids[class_id] = found.id
    return tuple(classes), ids


def predict_classes(
    instances: NDArray[np.integer[Any]], maps: NDArray[np.floating[Any]], names: Mapping[int, str]
) -> dict[int, PredictedClass]:
    """Return the predicted class of each object of a plane.

    Parameters
    ----------
    instances : int (y, x)
    maps : float (n, y, x)
        Maps of the dense head; those of the classes are the last.
    names : mapping of int to str
        Names by class id, in the order of the maps, see `DenseModel.classes`.

    Returns
    -------
    dict of int to PredictedClass
        By id of the object; empty if the model predicts no classes.
    """
    from napari_sam_lora.model.dense.classes import classify_objects  # noqa: PLC0415

    if not names:
        return {}
    found = classify_objects(instances, maps[-len(names) :], list(names))
    return {label: PredictedClass(class_id, names[class_id]) for label, class_id in found.items()}


def _as_rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red / 255, green / 255, blue / 255

"""Choose the classes that a run learns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from napari_sam_lora.model.dense.head import MOST_CLASSES
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.text import Caution
from napari_sam_lora.training.data.samples import ObjectRef, Plane


def classes_to_learn(
    planes: Sequence[Plane], objects: Iterable[ObjectRef], config: TrainConfig, names: Mapping[int, str]
) -> dict[int, str]:
    """Return the classes of some objects, in the order of their ids, with their names.

    One class of instances says nothing, so it is none; where labels are classes it is one. More than the dense head can
    predict are none either: ids of objects were taken for classes.

    Parameters
    ----------
    planes : sequence of Plane
    objects : iterable of ObjectRef
        Those that are trained on.
    config : TrainConfig
    names : mapping of int to str
        Names by class id; a class without one has an empty name.
    """
    found = {planes[ref.plane].classes.get(ref.label, 0) for ref in objects} - {0}
    fewest = 1 if config.labels == "classes" else 2
    if not (config.dense and fewest <= len(found) <= MOST_CLASSES):
        return {}
    return {class_id: str(names.get(class_id, "")) for class_id in sorted(found)}


def too_many_classes(planes: Sequence[Plane], config: TrainConfig) -> list[Caution]:
    """Say that no classes are learned because there are more than the dense head can predict."""
    count = len({class_id for plane in planes for class_id in plane.classes.values()})
    if not config.dense or count <= MOST_CLASSES:
        return []
    message = f"Classes are not learned: there are {count}, and at most {MOST_CLASSES} are possible."
    return [Caution(message, "too-many-classes")]

"""Labelled images of a folder, as stacks that a viewer can show and that training can learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.io.datasets import Sample, read_dataset
from napari_sam_lora.io.tables.classes import ObjectClasses
from napari_sam_lora.session.jobs.worker import CancelToken
from napari_sam_lora.session.labels.classes import merge_classes
from napari_sam_lora.session.labels.label_set import LabelSet
from napari_sam_lora.session.plane_key import PlaneKey
from napari_sam_lora.session.training_export import TABLE


@dataclass(frozen=True, eq=False)
class LabelledStack:
    """Labelled images of one shape and dtype.

    Attributes
    ----------
    name : str
    images : array (plane, y, x) or (plane, y, x, channel); without the first axis if it is a single image
    labels : int32 (plane, y, x) or (y, x)
    complete : tuple of PlaneKey
        Planes in which every object is labelled; their ``image`` is empty.
    classes : ObjectClasses
        Classes of the objects, and the names of these classes.
    """

    name: str
    images: NDArray[Any]
    labels: NDArray[np.int32]
    complete: tuple[PlaneKey, ...]
    classes: ObjectClasses

    def describe(self, label_set: LabelSet) -> None:
        """Tell the set of these labels which planes are complete, and the classes of its objects."""
        present, ids = merge_classes((), self.classes.names)
        by_object = self.classes.by_object
        records = [replace(one, class_id=ids.get(by_object.get(one.id, 0), 0)) for one in label_set.records()]
        label_set.restore(records, self.complete, present)


def read_labelled_stacks(token: CancelToken, folder: Path) -> list[LabelledStack]:
    """Read a folder with ``images/`` and ``labels/`` or ``masks/``, or one of `write_planes`.

    Images of one shape and dtype become one stack, in the order of the files.

    Raises
    ------
    InputError
        If the folder cannot be read, see `read_dataset`.
    """
    table = folder / TABLE
    dataset = read_dataset(table if table.is_file() else folder, progress=token.progress)
    groups: dict[tuple[Any, ...], list[Sample]] = {}
    for sample in dataset.samples:
        groups.setdefault((sample.image.shape, sample.image.dtype), []).append(sample)
    stacks = []
    for number, samples in enumerate(groups.values(), start=1):
        name = samples[0].name if len(samples) == 1 else f"{folder.name}{f' {number}' if len(groups) > 1 else ''}"
        labels, by_object = _with_one_class_per_id(samples)
        names = {number: dataset.class_names.get(number, "") for number in sorted({*by_object.values()})}
        images = np.stack([one.image for one in samples])
        is_single = len(samples) == 1
        stacks.append(
            LabelledStack(
                name,
                images[0] if is_single else images,
                labels[0] if is_single else labels,
                tuple(_complete_planes(samples)),
                ObjectClasses(by_object, names),
            )
        )
    return stacks


def _with_one_class_per_id(samples: Sequence[Sample]) -> tuple[NDArray[np.int32], dict[int, int]]:
    """Stack labels, int32 (plane, y, x), and return them with the class of each object that has one.

    An object with the id of an object of another class in an earlier plane gets a free id.
    """
    labels = np.stack([one.labels for one in samples]).astype(np.int32)
    classes: dict[int, int] = {}
    free = int(labels.max()) + 1
    for plane, sample in zip(labels, samples, strict=True):
        for label in np.unique(sample.labels[sample.labels > 0]).tolist():
            class_id = sample.classes.get(label, 0)
            if classes.setdefault(label, class_id) != class_id:
                plane[sample.labels == label] = free
                classes[free] = class_id
                free += 1
    return labels, {label: class_id for label, class_id in classes.items() if class_id}


def _complete_planes(samples: Sequence[Sample]) -> Iterator[PlaneKey]:
    for number, sample in enumerate(samples):
        if sample.complete:
            yield PlaneKey.of("", 2) if len(samples) == 1 else PlaneKey.of("", 3, (number,))

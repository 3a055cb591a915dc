"""Export of object records for files: COCO, the table of objects, and prompt files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.tables.objects import ObjectInfo
from napari_sam_lora.io.tables.prompts import ObjectPrompts, write_prompts
from napari_sam_lora.session.labels.label_set import LabelSet
from napari_sam_lora.session.labels.records import ObjectRecord
from napari_sam_lora.session.plane_key import PlaneKey
from napari_sam_lora.session.prompting.draft import PromptItem


def object_infos(labels: LabelSet) -> dict[int, ObjectInfo]:
    """Collect class, origin, score and prompts of each object of a label image."""
    names = {one.id: one.name for one in labels.classes}
    return {
        record.id: ObjectInfo(
            class_id=record.class_id,
            class_name=names.get(record.class_id, ""),
            origin=record.origin,
            score=record.score,
            approved=record.approved,
            adapter=record.adapter,
            prompts=_prompts(record, labels.store.shape),
        )
        for record in labels.records()
    }


def export_prompts(path: str | Path, labels: LabelSet, image: str = "") -> Path:
    """Write the boxes and points of all objects as a prompt file for ``segment --prompts``.

    Raises
    ------
    InputError
        If no object has prompts in planes of the last two axes.
    """
    prompts = {label: info.prompts for label, info in object_infos(labels).items() if info.prompts}
    if not prompts:
        raise InputError(
            "There are no prompts to write: the objects were painted, or prompted in other views.",
            code="no-stored-prompts",
        )
    return write_prompts(path, prompts, image)


def _prompts(record: ObjectRecord, shape: tuple[int, ...]) -> tuple[ObjectPrompts, ...]:
    """Return one prompt for each commit in a plane of the last two axes."""
    exported = []
    for plane, stored in record.prompts.items():
        if plane.axes == (len(shape) - 2, len(shape) - 1) and plane.is_in(shape):
            exported += [_convert_row(_plane_number(plane, shape), prompts.row) for prompts in stored]
    return tuple(exported)


def _plane_number(plane: PlaneKey, shape: tuple[int, ...]) -> int:
    """Return the number of a plane in its stack, from 0."""
    return int(np.ravel_multi_index(plane.index, shape[:-2])) if plane.index else 0


def _convert_row(number: int, row: Sequence[PromptItem]) -> ObjectPrompts:
    """Convert the items of one commit for a prompt file; of several boxes the last is used."""
    boxes = [item.coordinates.ravel() for item in row if item.kind == "box"]
    points = [item for item in row if item.kind == "point"]
    box = None
    if boxes:
        y0, x0, y1, x1 = (float(value) for value in boxes[-1])
        box = (y0, x0, y1, x1)
    return ObjectPrompts(
        plane=number,
        box=box,
        points=tuple((float(item.coordinates[0, 0]), float(item.coordinates[0, 1])) for item in points),
        point_labels=tuple(int(item.positive) for item in points),
        others=tuple(dict.fromkeys(item.kind for item in row if item.kind not in ("box", "point"))),
    )

"""What a session knows of objects, for files: COCO, the table of objects, prompt files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.tables.objects import ObjectInfo, PlanePrompt, write_prompts
from napari_sam_lora.session.labels.label_set import LabelSet
from napari_sam_lora.session.labels.records import ObjectRecord
from napari_sam_lora.session.plane_key import PlaneKey
from napari_sam_lora.session.prompting.draft import PromptItem


def object_infos(labels: LabelSet) -> dict[int, ObjectInfo]:
    """What is known of each object of a label image beside its pixels."""
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
    """Write the boxes and points of all objects as a prompt file, which ``segment --prompts`` reads.

    Raises
    ------
    InputError
        If there are none in planes of the last two axes.
    """
    prompts = {label: info.prompts for label, info in object_infos(labels).items() if info.prompts}
    if not prompts:
        raise InputError("There are no prompts to write: the objects were painted, or prompted in other views.")
    return write_prompts(path, prompts, image)


def _prompts(record: ObjectRecord, shape: tuple[int, ...]) -> tuple[PlanePrompt, ...]:
    """One for each commit in a plane of the last two axes."""
    made = []
    for plane, stored in record.prompts.items():
        if plane.axes == (len(shape) - 2, len(shape) - 1) and plane.is_in(shape):
            made += [_as_prompt(_number(plane, shape), prompts.row) for prompts in stored]
    return tuple(made)


def _number(plane: PlaneKey, shape: tuple[int, ...]) -> int:
    """Which plane of the stack it is, from 0."""
    return int(np.ravel_multi_index(plane.index, shape[:-2])) if plane.index else 0


def _as_prompt(number: int, row: Sequence[PromptItem]) -> PlanePrompt:
    boxes = [item.coordinates.ravel() for item in row if item.kind == "box"]
    points = [item for item in row if item.kind == "point"]
    box = None
    if boxes:
        y0, x0, y1, x1 = (float(value) for value in boxes[-1])
        box = (y0, x0, y1, x1)
    return PlanePrompt(
        plane=number,
        box=box,
        points=tuple((float(item.coordinates[0, 0]), float(item.coordinates[0, 1])) for item in points),
        point_labels=tuple(int(item.positive) for item in points),
        others=tuple(dict.fromkeys(item.kind for item in row if item.kind not in ("box", "point"))),
    )

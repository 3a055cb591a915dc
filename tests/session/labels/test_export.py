"""Records of objects are exported with them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from error_codes import raises

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.tables.prompts import read_prompts
from napari_sam_lora.io.writers import save_labels
from napari_sam_lora.masks import ObjectMask
from napari_sam_lora.regions import Region
from napari_sam_lora.session import ArrayStore, LabelSet, MaskOptions, ObjectClass, PlaneKey, Preview
from napari_sam_lora.session.labels.export import export_prompts, object_infos
from napari_sam_lora.session.prompting.draft import make_item

from ..helpers import rectangle

SHAPE = (3, 20, 30)


def _labels() -> LabelSet:
    """Make two objects in plane 2: one from a box and clicks, the other from a scribble."""
    labels = LabelSet(ArrayStore(np.zeros(SHAPE, np.int32)), [ObjectClass(4, "nucleus", (1, 0, 0))])
    plane = (20, 30)
    rows = (
        (
            make_item(0, "box", [2, 3, 9, 12], True, plane),
            make_item(1, "point", [4, 5], True, plane),
            make_item(2, "point", [1, 1], False, plane),
        ),
        (make_item(3, "scribble", [[12, 12], [15, 20]], True, plane),),
    )
    masks = rectangle(plane, 2, 3, 9, 12), rectangle(plane, 11, 11, 16, 21)
    labels.commit(
        Preview(
            plane=PlaneKey.of("image", 3, (2,)),
            rows=rows,
            objects=(0, 1),
            shape=plane,
            masks=(ObjectMask(Region.of(masks[0]), 0.75), ObjectMask(Region.of(masks[1]), 0.5)),
            options=MaskOptions(),
            adapter="mine",
        )
    )
    labels.set_class([1], 4)
    return labels


def test_the_table_has_class_score_adapter_and_prompts(tmp_path: Path) -> None:
    labels = _labels()
    (path,) = save_labels(tmp_path / "a.csv", labels.store.data, infos=object_infos(labels))  # type: ignore[attr-defined]
    first, second = csv.DictReader(path.open(encoding="utf-8"))
    assert (first["class"], first["score"], first["adapter"], first["origin"]) == (
        "nucleus",
        "0.75",
        "mine",
        "prompted",
    )
    assert json.loads(first["prompts"]) == [
        {"plane": 2, "box": [2, 3, 9, 12], "points": [[4, 5], [1, 1]], "point_labels": [1, 0]}
    ]
    assert json.loads(second["prompts"]) == [{"plane": 2, "others": ["scribble"]}]


def test_prompts_are_written_for_the_command_line(tmp_path: Path) -> None:
    path = export_prompts(tmp_path / "prompts.json", _labels(), "stack.tif")
    planes = read_prompts(path).for_image(Path("stack.tif"))
    assert list(planes) == [2]
    assert planes[2].ids == (1,)
    assert planes[2].prompts.point_count(0) == 2
    with raises(InputError, "no-stored-prompts"):
        export_prompts(tmp_path / "none.json", LabelSet(ArrayStore(np.zeros(SHAPE, np.int32))))

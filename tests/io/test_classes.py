"""Classes of objects in labelled sets: COCO categories, and files of classes beside a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from error_codes import raises

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.datasets import read_dataset
from napari_sam_lora.io.pixel_size import PixelSize
from napari_sam_lora.io.tables.classes import ObjectClasses, read_object_classes, write_object_classes
from napari_sam_lora.io.tables.objects import ObjectInfo, write_object_table

LABELS = np.zeros((20, 30), np.int64)
LABELS[2:8, 2:8], LABELS[10:18, 20:28] = 1, 7


def test_a_file_keeps_classes_and_names(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for classes in (
        ObjectClasses({1: 4, 7: 9, 8: 4}, {4: "nucleus", 9: "débris, old"}),
        ObjectClasses({1: 4}),
        ObjectClasses(),
    ):
        assert read_object_classes(write_object_classes(path, classes)) == classes


def test_a_table_of_objects_can_be_read_too(tmp_path: Path) -> None:
    infos = {1: ObjectInfo(class_id=4, class_name="nucleus"), 7: ObjectInfo()}
    path = write_object_table(tmp_path / "a.csv", LABELS, PixelSize((1, 1, 1)), infos)
    assert read_object_classes(path) == ObjectClasses({1: 4}, {4: "nucleus"})


@pytest.mark.parametrize("row", ["1,x,a", "1,,a", "x,1,a", "1.5,2,a"])
def test_rows_without_numbers_are_refused(row: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"id,class_id,class\n{row}\n")
    with raises(InputError, "bad-class-row"):
        read_object_classes(path)


def _table(folder: Path, names: tuple[str, ...]) -> Path:
    rows = ["image,labels,classes"]
    for number, name in enumerate(names):
        np.save(folder / f"image_{number}.npy", np.full((20, 30), number, np.uint8))
        np.save(folder / f"labels_{number}.npy", LABELS)
        if name:
            write_object_classes(folder / f"classes_{number}.csv", ObjectClasses({1: 4, 7: 9}, {4: name, 9: "debris"}))
        rows.append(f"image_{number}.npy,labels_{number}.npy,{f'classes_{number}.csv' if name else ''}")
    (folder / "set.csv").write_text("\n".join(rows))
    return folder / "set.csv"


def test_a_table_names_files_of_classes(tmp_path: Path) -> None:
    dataset = read_dataset(_table(tmp_path, ("nucleus", "")))
    assert [dict(sample.classes) for sample in dataset.samples] == [{1: 4, 7: 9}, {}]
    assert [dict(pair[5]) for pair in dataset.pairs] == [{1: 4, 7: 9}, {}]
    assert dataset.class_names == {4: "nucleus", 9: "debris"}


def test_a_class_has_one_name(tmp_path: Path) -> None:
    with raises(InputError, "class-names-differ"):
        read_dataset(_table(tmp_path, ("nucleus", "cell")))


def test_planes_of_a_stack_share_its_classes(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.zeros((3, 20, 30), np.uint8))
    np.save(tmp_path / "labels.npy", np.stack([LABELS, 0 * LABELS, LABELS]))
    write_object_classes(tmp_path / "classes.csv", ObjectClasses({1: 4, 7: 9}))
    (tmp_path / "set.csv").write_text("image,labels,classes\nimage.npy,labels.npy,classes.csv")
    samples = read_dataset(tmp_path / "set.csv", axes="ZYX").samples
    assert [dict(sample.classes) for sample in samples] == [{1: 4, 7: 9}] * 2


def _coco(folder: Path) -> Path:
    np.save(folder / "a.npy", np.zeros((20, 30), np.uint8))
    squares: list[Any] = [[2, 2, 8, 2, 8, 8, 2, 8], [20, 10, 28, 10, 28, 18, 20, 18], [12, 2, 18, 2, 18, 8, 12, 8]]
    annotations = [
        {"id": 50 + number, "image_id": 7, "category_id": category, "segmentation": [corners]}
        for number, (corners, category) in enumerate(zip(squares, (4, 9, "none"), strict=True))
    ]
    categories = [{"id": 4, "name": "nucleus"}, {"id": 9, "name": "debris"}]
    content = {
        "images": [{"id": 7, "file_name": "a.npy"}], "annotations": annotations, "categories": categories,
    }  # fmt: skip
    (folder / "set.json").write_text(json.dumps(content))
    return folder / "set.json"


def test_categories_of_coco_are_classes(tmp_path: Path) -> None:
    dataset = read_dataset(_coco(tmp_path))
    assert dataset.samples[0].labels[5, 5] == 1
    assert dict(dataset.samples[0].classes) == {1: 4, 2: 9}
    assert dataset.class_names == {4: "nucleus", 9: "debris"}


def test_where_labels_are_categories_they_need_no_mapping(tmp_path: Path) -> None:
    path = _coco(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"].pop()
    path.write_text(json.dumps(content))
    dataset = read_dataset(path, classes=True)
    assert dataset.samples[0].labels[5, 5] == 4
    assert dict(dataset.samples[0].classes) == {}
    assert dataset.class_names == {4: "nucleus", 9: "debris"}

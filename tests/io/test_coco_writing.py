"""COCO files that are written are read back to the pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.coco.reading import rasterise, read_coco
from napari_sam_lora.io.coco.run_lengths import compress_runs, decode_runs, encode_runs
from napari_sam_lora.io.coco.writing import CocoPlane, write_coco
from napari_sam_lora.io.tables.objects import ObjectInfo
from napari_sam_lora.io.writers import save_labels


def _blobs(seed: int = 0) -> NDArray[np.int64]:
    """Ragged objects, some of several parts."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((40, 50), np.int64)
    for label in (1, 2, 5, 300):
        y, x = rng.integers(0, 30, 2)
        labels[y : y + 9, x : x + 12] = np.where(rng.random((9, 12)) > 0.3, label, labels[y : y + 9, x : x + 12])
    return labels


@pytest.mark.parametrize("outline", ["auto", "rle"])
@pytest.mark.parametrize("seed", range(5))
def test_objects_are_read_back_to_the_pixel(tmp_path: Path, outline: Any, seed: int) -> None:
    labels = _blobs(seed)
    path = write_coco(tmp_path / "a.json", [CocoPlane("a.png", labels)], outline=outline)
    (image,) = read_coco(path)
    assert image.file_name == "a.png"
    ids = [label for label in np.unique(labels) if label]
    again = rasterise(image, labels.shape)
    np.testing.assert_array_equal(np.array([0, *ids])[again], labels)


def test_polygons_are_exact_for_objects_without_holes(tmp_path: Path) -> None:
    labels = np.zeros((12, 15), np.int64)
    labels[0:5, 0:4] = 1  # at the border
    labels[6, 7] = 2  # a single pixel
    labels[8:11, 9:14] = 3
    labels[8, 9] = 0
    path = write_coco(tmp_path / "a.json", [CocoPlane("a.png", labels)], outline="polygons")
    content = json.loads(path.read_text())
    assert all(isinstance(one["segmentation"], list) for one in content["annotations"])
    np.testing.assert_array_equal(rasterise(read_coco(path)[0], labels.shape), labels)
    assert content["annotations"][1]["bbox"] == [7, 6, 1, 1]


def test_an_object_with_a_hole_gets_run_lengths(tmp_path: Path) -> None:
    labels = np.zeros((9, 9), np.int64)
    labels[2:7, 2:7] = 1
    labels[4, 4] = 0
    path = write_coco(tmp_path / "a.json", [CocoPlane("a.png", labels)])
    (annotation,) = json.loads(path.read_text())["annotations"]
    assert annotation["segmentation"]["size"] == [9, 9]
    assert annotation["area"] == 24
    np.testing.assert_array_equal(rasterise(read_coco(path)[0], labels.shape), labels)


def test_run_lengths_are_those_of_the_coco_tools() -> None:
    mask = np.zeros((3, 2), np.bool_)
    mask[1, 0] = mask[0, 1] = True
    assert encode_runs(mask) == [1, 1, 1, 1, 2]
    assert compress_runs([1, 1, 1, 1, 2]) == "11101"  # from the fourth on less the last but one: 1 1 1, 1 - 1, 2 - 1
    assert encode_runs(~mask) == [0, 1, 1, 1, 1, 2]
    np.testing.assert_array_equal(decode_runs(encode_runs(mask), (3, 2)), mask)


def test_classes_become_categories_and_scores_are_kept(tmp_path: Path) -> None:
    infos = {1: ObjectInfo(2, "nucleus", score=0.9), 5: ObjectInfo(4, "debris")}
    save_labels(tmp_path / "a.json", _blobs(), infos=infos, image="cells.tif")
    content = json.loads((tmp_path / "a.json").read_text())
    names = {one["id"]: one["name"] for one in content["categories"]}
    assert names == {2: "nucleus", 4: "debris", 5: "object"}
    by_label = {one["label"]: one for one in content["annotations"]}
    assert {label: names[one["category_id"]] for label, one in by_label.items()} == {
        1: "nucleus",
        2: "object",
        5: "debris",
        300: "object",
    }
    assert by_label[1]["score"] == 0.9
    assert "score" not in by_label[2]
    classes = rasterise(read_coco(tmp_path / "a.json")[0], (40, 50), classes=True)
    assert set(np.unique(classes)) == {0, 2, 4, 5}


def test_the_planes_of_a_stack_are_images_called_as_the_pngs(tmp_path: Path) -> None:
    stack = np.stack([_blobs(0), _blobs(1)])
    save_labels(tmp_path / "a.json", stack, image="stack.tif")
    assert [image.file_name for image in read_coco(tmp_path / "a.json")] == ["stack_0000.png", "stack_0001.png"]


def test_an_unknown_outline_is_refused(tmp_path: Path) -> None:
    with raises(InputError, "unknown-outline", match="polygons"):
        write_coco(tmp_path / "a.json", [], outline="circles")  # type: ignore[arg-type]

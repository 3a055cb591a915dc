"""Reading COCO annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from error_codes import raises

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.coco.reading import CocoImage, rasterise, read_coco, segmentation_mask
from napari_sam_lora.io.coco.run_lengths import decode_runs

SQUARE = [10, 20, 16, 20, 16, 24, 10, 24]  # x, y: columns 10 to 15, rows 20 to 23


def test_a_polygon_covers_the_pixels_whose_centres_it_holds() -> None:
    mask = segmentation_mask([SQUARE], (40, 50))
    expected = np.zeros((40, 50), bool)
    expected[20:24, 10:16] = True
    np.testing.assert_array_equal(mask, expected)


def test_an_object_of_two_polygons_is_their_union() -> None:
    mask = segmentation_mask([SQUARE, [0, 0, 3, 0, 3, 2, 0, 2]], (40, 50))
    assert mask.sum() == 24 + 6
    assert mask[0, 2]


def test_run_lengths_go_down_the_columns_and_begin_outside() -> None:
    mask = decode_runs([1, 2, 3], (2, 3))
    assert mask.tolist() == [[False, True, False], [True, False, False]]
    assert decode_runs([0, 6], (2, 3)).all()


def test_run_lengths_as_text_are_those_of_the_coco_tools() -> None:
    # pycocotools: encode of a 4 x 4 mask with rows 1:3, columns 1:3 gives counts b"52203" (5, 2, 2, 2, 5).
    mask = segmentation_mask({"size": [4, 4], "counts": "52203"}, (4, 4))
    expected = np.zeros((4, 4), bool)
    expected[1:3, 1:3] = True
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("seed", range(5))
def test_text_and_list_of_run_lengths_give_the_same_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inside = np.repeat(rng.integers(0, 2, 30), rng.integers(1, 300, 30)).astype(bool)
    shape = (len(inside), 1)
    edges = np.flatnonzero(np.diff(inside)) + 1
    runs = np.diff([0, *edges, len(inside)]).tolist()
    counts = [0, *runs] if inside[0] else runs
    want = inside.reshape(1, -1).T
    np.testing.assert_array_equal(decode_runs(counts, shape), want)
    np.testing.assert_array_equal(segmentation_mask({"size": shape, "counts": _to_text(counts)}, shape), want)


def _to_text(counts: list[int]) -> str:
    """Compress run lengths, written independently from the description of the format."""
    text = ""
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        while True:
            bits, value = value & 0x1F, value >> 5
            done = value == (-1 if bits & 0x10 else 0)
            text += chr(48 + (bits if done else bits | 0x20))
            if done:
                break
    return text


def _annotation(number: int, segmentation: Any, category: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": 7, "category_id": category, "segmentation": segmentation, **more}


def test_objects_are_numbered_and_the_smaller_one_is_in_front() -> None:
    large = [0, 0, 40, 0, 40, 40, 0, 40]
    image = CocoImage("a.png", (_annotation(50, [SQUARE], 3), _annotation(51, [large], 9)), 0)
    labels = rasterise(image, (40, 50))
    assert labels[21, 12] == 1
    assert labels[5, 5] == 2
    assert labels[5, 45] == 0
    classes = rasterise(image, (40, 50), classes=True)
    assert (classes[21, 12], classes[5, 5]) == (3, 9)


def test_crowds_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    content = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}],
        "annotations": [_annotation(1, [SQUARE]), _annotation(2, {"counts": [4], "size": [2, 2]}, iscrowd=1)],
    }
    path.write_text(json.dumps(content))
    first, second = read_coco(path)
    assert (first.file_name, len(first.annotations), first.crowds) == ("a.png", 1, 1)
    assert (second.file_name, len(second.annotations), second.crowds) == ("b.png", 0, 0)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("{", "not-json"),
        ("[]", "not-coco"),
        ("{}", "not-coco"),
        ('{"images": [{"id": 1}], "annotations": []}', "not-coco"),
        ('{"images": [], "annotations": [{"image_id": 3}]}', "not-coco"),
    ],
)
def test_a_file_that_is_not_coco_is_refused(content: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with raises(InputError, code, match=r"a\.json"):
        read_coco(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([[1, 2, 3, 4]], "invalid-polygon"),
        ([[1, 2, 3, 4, 5]], ValueError),
        ([["a"] * 6], ValueError),
        ([[float("nan")] * 6], "invalid-polygon"),
        (7, TypeError),
        ({"counts": [3], "size": [40, 50]}, "run-lengths-do-not-fit"),
        ({"counts": [2000], "size": [50, 40]}, "mask-does-not-fit"),
        ({"counts": [2010, -10], "size": [40, 50]}, "run-lengths-do-not-fit"),
        ({"counts": "o", "size": [40, 50]}, IndexError),
        ({"counts": " ", "size": [40, 50]}, "run-lengths-invalid-character"),
        ({"counts": [2000]}, KeyError),
    ],
)
def test_a_damaged_annotation_is_named(segmentation: Any, reason: str | type[Exception]) -> None:
    with raises(InputError, "annotation-damaged", match=r"a\.png: annotation 50") as raised:
        rasterise(CocoImage("a.png", (_annotation(50, segmentation),), 0), (40, 50))
    cause = raised.value.__cause__
    assert type(cause) is reason if isinstance(reason, type) else getattr(cause, "code", None) == reason

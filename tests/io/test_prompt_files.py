"""Reading and writing boxes and points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from error_codes import raises

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.tables.prompts import ObjectPrompts, read_prompts, write_prompts


def _csv(folder: Path, text: str) -> Path:
    (folder / "p.csv").write_text(text)
    return folder / "p.csv"


def _json(folder: Path, content: Any) -> Path:
    (folder / "p.json").write_text(json.dumps(content))
    return folder / "p.json"


def test_each_row_of_boxes_is_an_object(tmp_path: Path) -> None:
    prompts = read_prompts(_csv(tmp_path, "y0,x0,y1,x1\n1,2,3,4\n5,6,7.5,8\n")).for_image(Path("any.png"))
    assert prompts[0].ids == (1, 2)
    assert prompts[0].prompts.boxes is not None
    np.testing.assert_array_equal(prompts[0].prompts.boxes, [[1, 2, 3, 4], [5, 6, 7.5, 8]])


def test_rows_of_one_object_belong_together(tmp_path: Path) -> None:
    text = """image,object,y0,x0,y1,x1,y,x,label
a.png,7,1,2,30,40,,,
a.png,7,,,,,5,6,
a.png,7,,,,,8,9,0
a.png,9,,,,,20,21,1
b,1,,,,,3,4,
"""
    file = read_prompts(_csv(tmp_path, text))
    assert file.images == ("a.png", "b")
    (plane,) = file.for_image(tmp_path / "a.png").values()
    assert plane.ids == (7, 9)
    assert [plane.prompts.has_box(row) for row in (0, 1)] == [True, False]
    assert plane.prompts.points is not None
    assert plane.prompts.point_labels is not None
    np.testing.assert_array_equal(plane.prompts.points[0], [[5, 6], [8, 9]])
    assert plane.prompts.point_labels[0].tolist() == [1, 0]
    np.testing.assert_array_equal(plane.prompts.points[1], [[20, 21]])
    assert len(file.for_image(tmp_path / "b.tif")[0].prompts) == 1
    assert file.for_image(Path("c.png")) == {}
    assert file.unused([Path("a.png"), Path("c.png")]) == ["b"]


def test_json_says_the_same(tmp_path: Path) -> None:
    entries = [
        {"box": [1, 2, 30, 40], "points": [[5, 6], [8, 9]], "point_labels": [1, 0], "object": 7},
        {"points": [[20, 21]], "object": 9, "plane": 3},
    ]
    planes = read_prompts(_json(tmp_path, {"a.png": entries})).for_image(Path("a.png"))
    assert planes[0].ids == (7,)
    assert planes[3].ids == (9,)
    assert planes[0].prompts.point_labels is not None
    assert planes[0].prompts.point_labels[0].tolist() == [1, 0]
    alone = read_prompts(_json(tmp_path, entries[:1]))
    assert alone.images == ()
    assert alone.for_image(Path("whatever.png"))[0].ids == (7,)


def test_names_that_are_not_numbers_are_counted(tmp_path: Path) -> None:
    file = read_prompts(_csv(tmp_path, "object,y,x\nnucleus,1,2\ncell,3,4\n"))
    assert file.for_image(Path("a.png"))[0].ids == (1, 2)


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("", "no-prompts", r"p\.csv"),
        ("y,x\n", "no-prompts", r"p\.csv"),
        ("x_min,y,x\n1,2,3\n", "unknown-columns", "x_min"),
        ("y,x\n1,b\n", "not-numbers", "line 2: 'b'"),
        ("y,x\n1,\n", "not-numbers", "line 2: ''"),
        ("y,x,plane\n1,2,-1\n", "not-a-whole-number", "line 2: '-1'"),
        ("image,y,x\na.png,,\n", "row-without-prompt", "line 2"),
        ("object,y0,x0,y1,x1\n1,1,1,2,2\n1,1,1,2,2\n", "second-box", "line 3: object 1"),
    ],
)
def test_a_table_that_cannot_be_used_is_explained(text: str, code: str, named: str, tmp_path: Path) -> None:
    with raises(InputError, code, match=named):
        read_prompts(_csv(tmp_path, text))


@pytest.mark.parametrize(
    ("content", "code", "named"),
    [
        ({}, "no-prompts", r"p\.json"),
        ({"a.png": {}}, "prompts-not-a-list", r"p\.json"),
        (5, "prompts-not-a-list", r"p\.json"),
        ([{"bbox": [1, 2, 3, 4]}], "unknown-keys", "object 1: .* bbox"),
        ([{"box": "all"}], "not-numbers", "object 1: a box"),
        ([{"points": [1, 2]}], "not-numbers", "object 1: a box"),
        ([{"box": [1, 2, 3, 4], "plane": "first"}], "not-a-whole-number", "'first'"),
        ([{"box": [1, 2, 3, 4], "object": 1}] * 2, "object-twice", "object 1"),
    ],
)
def test_json_that_cannot_be_used_is_explained(content: Any, code: str, named: str, tmp_path: Path) -> None:
    with raises(InputError, code, match=named):
        read_prompts(_json(tmp_path, content))


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"box": [1, 2, 3]}, "box-not-four-numbers"),
        ({"box": [5, 2, 3, 4]}, "box-without-area"),
        ({"points": [[1, 2]], "point_labels": [2]}, "point-label-not-0-or-1"),
        ({"points": [[1, 2]], "point_labels": [1, 1]}, "point-labels-do-not-fit"),
        ({}, "no-prompts"),
    ],
)
def test_an_invalid_prompt_is_reported_with_file_and_image(entry: dict[str, Any], code: str, tmp_path: Path) -> None:
    file = read_prompts(_json(tmp_path, {"a.png": [entry]}))
    with raises(InputError, code, match=r"p\.json, a\.png: "):
        file.for_image(Path("a.png"))


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"box": [5, 10, 400, 30]}, None),
        ({"box": [20, 10, 30, 30]}, "box-outside-plane"),
        ({"box": [-9, 10, 0, 30]}, "box-outside-plane"),
        ({"points": [[0, 0], [19, 29]]}, None),
        ({"points": [[0, 0], [29, 19]]}, "point-outside-plane"),
        ({"box": [5, 10, 15, 30], "points": [[3, -1]]}, "point-outside-plane"),
    ],
)
def test_prompts_outside_the_plane_are_refused(entry: dict[str, Any], code: str | None, tmp_path: Path) -> None:
    plane = read_prompts(_json(tmp_path, [{"object": 7} | entry])).for_image(Path("a.png"))[0]
    if code is None:
        plane.check_inside((20, 30))
    else:
        with raises(InputError, code, match=r"object 7 .*\(20, 30\).* y, x"):
            plane.check_inside((20, 30))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.txt").touch()
    with raises(InputError, "wrong-file-ending", match=r"p\.txt"):
        read_prompts(tmp_path / "p.txt")
    for name in ("p.csv", "p.json"):
        with raises(InputError, "file-not-readable", match=name):
            read_prompts(tmp_path / name)
    (tmp_path / "p.json").write_text("{")
    with raises(InputError, "not-json", match=r"p\.json"):
        read_prompts(tmp_path / "p.json")


@pytest.mark.parametrize("name", ["prompts.csv", "prompts.json"])
@pytest.mark.parametrize("image", ["", "stack.tif"])
def test_prompts_are_read_back_by_the_command_line(tmp_path: Path, name: str, image: str) -> None:
    prompts = {
        3: [ObjectPrompts(1, (1, 2, 8.5, 9), ((4, 5), (0, 0)), (1, 0))],
        9: [ObjectPrompts(1, None, ((6, 7),), (1,)), ObjectPrompts(0, None, (), (), ("mask",))],
    }
    path = write_prompts(tmp_path / name, prompts, image)
    planes = read_prompts(path).for_image(Path(image or "any.tif"))
    assert list(planes) == [1]
    assert planes[1].ids == (3, 9)
    found = planes[1].prompts
    assert found.boxes is not None
    assert found.points is not None
    assert found.point_labels is not None
    assert found.boxes[0].tolist() == [1, 2, 8.5, 9]
    assert not found.has_box(1)
    assert found.points[0].tolist() == [[4, 5], [0, 0]]
    assert found.point_labels[0].tolist() == [1, 0]
    assert found.points[1].tolist() == [[6, 7]]


def test_prompts_that_a_file_cannot_hold_are_refused(tmp_path: Path) -> None:
    with raises(InputError, "no-prompts"):
        write_prompts(tmp_path / "a.csv", {1: [ObjectPrompts(0, None, (), (), ("mask",))]})

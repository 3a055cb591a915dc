"""Boxes and points in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.tables.prompts import read_prompts


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
    (asked,) = file.for_image(tmp_path / "a.png").values()
    assert asked.ids == (7, 9)
    assert [asked.prompts.has_box(row) for row in (0, 1)] == [True, False]
    assert asked.prompts.points is not None
    assert asked.prompts.point_labels is not None
    np.testing.assert_array_equal(asked.prompts.points[0], [[5, 6], [8, 9]])
    assert asked.prompts.point_labels[0].tolist() == [1, 0]
    np.testing.assert_array_equal(asked.prompts.points[1], [[20, 21]])
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
    ("text", "message"),
    [
        ("", "no prompts"),
        ("y,x\n", "no prompts"),
        ("x_min,y,x\n1,2,3\n", "unknown columns x_min"),
        ("y,x\n1,b\n", "line 2: 'b' is not a number"),
        ("y,x\n1,\n", "line 2: '' is not a number"),
        ("y,x,plane\n1,2,-1\n", "line 2: '-1' is not a whole number"),
        ("image,y,x\na.png,,\n", "line 2: a row needs a box"),
        ("object,y0,x0,y1,x1\n1,1,1,2,2\n1,1,1,2,2\n", "line 3: object 1 has a box already"),
    ],
)
def test_a_table_that_cannot_be_used_is_explained(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_prompts(_csv(tmp_path, text))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no prompts"),
        ({"a.png": {}}, "needs a list"),
        (5, "needs a list"),
        ([{"bbox": [1, 2, 3, 4]}], "object 1: unknown bbox"),
        ([{"box": "all"}], "object 1: a box is"),
        ([{"points": [1, 2]}], "object 1: a box is"),
        ([{"box": [1, 2, 3, 4], "plane": "first"}], "whole number"),
        ([{"box": [1, 2, 3, 4], "object": 1}] * 2, "object 1 is there twice"),
    ],
)
def test_json_that_cannot_be_used_is_explained(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_prompts(_json(tmp_path, content))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"box": [1, 2, 3]}, "four numbers"),
        ({"box": [5, 2, 3, 4]}, "must have an area"),
        ({"points": [[1, 2]], "point_labels": [2]}, "point label"),
        ({"points": [[1, 2]], "point_labels": [1, 1]}, "needs one label"),
        ({}, "neither a box nor a point|boxes, points or masks"),
    ],
)
def test_a_prompt_that_makes_no_sense_is_told_with_file_and_image(
    entry: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = read_prompts(_json(tmp_path, {"a.png": [entry]}))
    with pytest.raises(InputError, match=rf"p\.json, a\.png: .*({message})"):
        file.for_image(Path("a.png"))


@pytest.mark.parametrize(
    ("entry", "inside"),
    [
        ({"box": [5, 10, 400, 30]}, True),
        ({"box": [20, 10, 30, 30]}, False),
        ({"box": [-9, 10, 0, 30]}, False),
        ({"points": [[0, 0], [19, 29]]}, True),
        ({"points": [[0, 0], [29, 19]]}, False),
        ({"box": [5, 10, 15, 30], "points": [[3, -1]]}, False),
    ],
)
def test_prompts_outside_the_plane_are_told(entry: dict[str, Any], inside: bool, tmp_path: Path) -> None:
    asked = read_prompts(_json(tmp_path, [{"object": 7} | entry])).for_image(Path("a.png"))[0]
    if inside:
        asked.check_inside((20, 30))
    else:
        with pytest.raises(InputError, match=r"of object 7 lies outside the image of .* the order is y, x"):
            asked.check_inside((20, 30))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.txt").touch()
    with pytest.raises(InputError, match=r"unlike p\.txt"):
        read_prompts(tmp_path / "p.txt")
    for name in ("p.csv", "p.json"):
        with pytest.raises(InputError, match="cannot be read"):
            read_prompts(tmp_path / name)
    (tmp_path / "p.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        read_prompts(tmp_path / "p.json")

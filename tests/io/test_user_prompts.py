"""Prompts of a training set as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from error_codes import raises

from napari_sam_lora.errors import InputError
from napari_sam_lora.images import StackPosition
from napari_sam_lora.io.datasets import read_dataset
from napari_sam_lora.io.tables.user_prompts import read_user_prompts, write_user_prompts
from napari_sam_lora.io.tiff.writing import write_labels
from napari_sam_lora.prompts import Prompts

MASK = np.zeros((1, 6, 8), np.bool_)
MASK[0, 2:4, 3:7] = True
PROMPTS = {
    7: Prompts(boxes=[[1.5, 2, 4, 6]], points=[[[2, 3], [0, 0]]], point_labels=[[1, 0]]),
    2: Prompts(masks=MASK),
    300: Prompts(points=[[[5, 5]]]),
}


def _plain(row: Prompts) -> list[object]:
    points, labels = row.points or (), row.point_labels or ()
    arrays = [row.boxes, row.masks, *points, *labels]
    return [None if value is None else value.tolist() for value in arrays]


def _all_plain(prompts: dict[int, Prompts]) -> dict[int, list[object]]:
    return {label: _plain(row) for label, row in prompts.items()}


def test_prompts_of_every_kind_come_back_as_they_were(tmp_path: Path) -> None:
    again = read_user_prompts(write_user_prompts(tmp_path / "prompts.npz", PROMPTS))
    assert list(again) == list(PROMPTS)
    assert _all_plain(again) == _all_plain(PROMPTS)
    assert again[2].masks is not None
    assert again[2].masks.dtype == np.bool_


@pytest.mark.parametrize("content", [b"", b"PK no archive", None])
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "other.npz"
    if content is None:
        np.savez(path, images=np.zeros(3))
    else:
        path.write_bytes(content)
    with raises(InputError, "not-a-prompt-file", match=r"other\.npz"):
        read_user_prompts(path)


@pytest.mark.parametrize("flipped", [0b1, 0b1000, 0b11111111])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, flipped: int) -> None:
    path = write_user_prompts(tmp_path / "prompts.npz", PROMPTS)
    whole, expected = path.read_bytes(), _all_plain(PROMPTS)
    refusals = []
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ flipped]) + whole[place + 1 :])
        try:
            again = read_user_prompts(path)
        except InputError as error:
            refusals.append(error)
        else:  # such as in the date of an entry
            assert _all_plain(again) == expected
    assert len(refusals) > len(whole) / 2
    assert {error.code for error in refusals} <= {"not-a-prompt-file", "file-not-readable"}
    assert all("prompts.npz" in str(error) for error in refusals)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", np.array([print], object))
    with raises(InputError, "not-a-prompt-file", match=r"bad\.npz"):
        read_user_prompts(tmp_path / "bad.npz")


def test_a_table_names_prompts_and_the_place_of_planes(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.arange(48, dtype=np.uint8).reshape(6, 8))
    write_labels(tmp_path / "labels.tif", np.eye(6, 8, dtype=np.int64) * 7)
    write_user_prompts(tmp_path / "prompts.npz", PROMPTS)
    table = tmp_path / "planes.csv"
    table.write_text("image,labels,prompts,stack,plane,axes\nimage.npy,labels.tif,prompts.npz,cells,3 1,0 3\n")
    ((_, labels, prompts, position, *_),) = read_dataset(table).pairs
    assert labels.max() == 7
    assert list(prompts) == [7, 2, 300]
    assert position == StackPosition("cells", (3, 1), (0, 3))
    table.write_text("image,labels,stack,plane,axes\nimage.npy,labels.tif,cells,3 1,0\n")
    with raises(InputError, "invalid-axes", match="line 2"):
        read_dataset(table)

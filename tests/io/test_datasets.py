"""Labelled image sets on disk."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from error_codes import raises
from numpy.typing import NDArray
from PIL import Image

from napari_sam_lora.errors import InputError
from napari_sam_lora.images import StackPosition
from napari_sam_lora.io.datasets import name_some, read_dataset


def _plane(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 4, (12, 16), np.uint8)


def _write(path: Path, pixels: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    elif path.suffix == ".npy":
        np.save(path, pixels)
    else:
        tifffile.imwrite(path, pixels, photometric="minisblack")


@pytest.mark.parametrize("folder", ["labels", "masks"])
def test_images_and_labels_of_the_same_name_belong_together_whatever_their_kind(folder: str, tmp_path: Path) -> None:
    _write(tmp_path / "images" / "b.png", _plane(1))
    _write(tmp_path / "images" / "a.tif", _plane(2).astype(np.uint16) * 900)
    _write(tmp_path / folder / "b.npy", _plane(3))
    _write(tmp_path / folder / "a.png", _plane(4))
    seen: list[tuple[int, int]] = []
    dataset = read_dataset(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert [sample.name for sample in dataset.samples] == ["a.tif", "b.png"]
    first, second = dataset.pairs
    np.testing.assert_array_equal(first[0], _plane(2).astype(np.uint16) * 900)
    np.testing.assert_array_equal(first[1], _plane(4))
    np.testing.assert_array_equal(second[1], _plane(3))
    assert first[1].max() == 3
    assert dataset.warnings == ()
    assert seen == [(1, 2), (2, 2)]


def test_what_has_no_partner_is_left_out_and_named(tmp_path: Path) -> None:
    for name in ("a.png", "lone.png"):
        _write(tmp_path / "images" / name, _plane(1))
    for name in ("a.png", "orphan.png"):
        _write(tmp_path / "labels" / name, _plane(1))
    dataset = read_dataset(tmp_path)
    assert len(dataset.samples) == 1
    assert len(dataset.warnings) == 2
    assert "images without labels are left out: lone.png" in dataset.warnings[0]
    assert "label images without an image are left out: orphan.png" in dataset.warnings[1]


def test_everything_that_is_wrong_is_named_in_one_error(tmp_path: Path) -> None:
    for name in ("good", "large", "broken"):
        _write(tmp_path / "images" / f"{name}.png", _plane(1))
        _write(tmp_path / "labels" / f"{name}.png", _plane(1))
    _write(tmp_path / "labels" / "large.png", np.zeros((5, 6), np.uint8))
    (tmp_path / "images" / "broken.png").write_bytes(b"no")
    with raises(InputError, "several-problems") as raised:
        read_dataset(tmp_path)
    message = str(raised.value)
    assert message.startswith("2 of 3 images")
    assert re.search(r"large\.png.*\(12, 16\).*large\.png.*\(5, 6\)", message)
    assert "broken.png" in message
    assert "good.png" not in message


@pytest.mark.parametrize(("damaged", "code"), [("images", "file-not-readable"), ("labels", "labels-do-not-fit")])
def test_problems_of_one_kind_give_the_error_their_code(damaged: str, code: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        _write(tmp_path / "images" / f"{name}.png", _plane(1))
        _write(tmp_path / "labels" / f"{name}.png", _plane(1))
        if damaged == "images":
            (tmp_path / "images" / f"{name}.png").write_bytes(b"no")
        else:
            _write(tmp_path / "labels" / f"{name}.png", np.zeros((5, 6), np.uint8))
    with raises(InputError, code, match=r"a\.png.*b\.png"):
        read_dataset(tmp_path)


def test_folders_can_be_named(tmp_path: Path) -> None:
    _write(tmp_path / "photos" / "a.png", _plane(1))
    _write(tmp_path / "ids" / "a.png", _plane(2))
    dataset = read_dataset(tmp_path, image_folder=tmp_path / "photos", label_folder=tmp_path / "ids")
    np.testing.assert_array_equal(dataset.samples[0].labels, _plane(2))


def test_a_folder_that_is_no_set_is_explained(tmp_path: Path) -> None:
    with raises(InputError, "dataset-not-found", match="nowhere"):
        read_dataset(tmp_path / "nowhere")
    with raises(InputError, "folder-not-found", match="images"):
        read_dataset(tmp_path)
    _write(tmp_path / "images" / "a.png", _plane(1))
    with raises(InputError, "no-label-folder", match="labels/.*masks/.*--label-folder"):
        read_dataset(tmp_path)
    _write(tmp_path / "labels" / "b.png", _plane(1))
    with raises(InputError, "no-common-names", match="images.*labels"):
        read_dataset(tmp_path)
    _write(tmp_path / "masks" / "a.png", _plane(1))
    with raises(InputError, "several-label-folders", match="labels/.*masks/.*--label-folder"):
        read_dataset(tmp_path)
    _write(tmp_path / "images" / "a.tif", _plane(1))
    with raises(InputError, "same-name-twice", match=r"a\.png and a\.tif"):
        read_dataset(tmp_path, label_folder=tmp_path / "labels")
    (tmp_path / "set.txt").touch()
    with raises(InputError, "wrong-file-ending", match=r"set\.txt"):
        read_dataset(tmp_path / "set.txt")


def test_planes_of_a_stack_with_labels_are_samples(tmp_path: Path) -> None:
    stack, labels = np.stack([_plane(n) for n in range(3)]), np.zeros((3, 12, 16), np.uint8)
    labels[[0, 2], 3:6, 4:8] = 2
    _write(tmp_path / "images" / "s.tif", stack)
    _write(tmp_path / "labels" / "s.tif", labels)
    dataset = read_dataset(tmp_path)
    assert [sample.name for sample in dataset.samples] == ["s.tif[0]", "s.tif[2]"]
    np.testing.assert_array_equal(dataset.samples[1].image, stack[2])
    assert [pair[3] for pair in dataset.pairs] == [StackPosition("s", (0,)), StackPosition("s", (2,))]
    np.testing.assert_array_equal(dataset.samples[1].labels, labels[2])


def test_channels_of_the_image_are_not_looked_for_in_the_labels(tmp_path: Path) -> None:
    _write(tmp_path / "images" / "a.npy", np.zeros((2, 12, 16)))
    _write(tmp_path / "labels" / "a.png", _plane(1))
    dataset = read_dataset(tmp_path, axes="CYX")
    assert dataset.samples[0].image.shape == (12, 16, 2)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_names_images_and_labels_relative_to_itself(separator: str, tmp_path: Path) -> None:
    _write(tmp_path / "x" / "a.png", _plane(1))
    _write(tmp_path / "y" / "b.png", _plane(2))
    rows = [("Image", "Labels"), ("x/a.png", "y/b.png")]
    (tmp_path / "set.csv").write_text("\n".join(map(separator.join, rows)), encoding="utf-8-sig")
    dataset = read_dataset(tmp_path / "set.csv")
    np.testing.assert_array_equal(dataset.samples[0].labels, _plane(2))


def test_a_table_that_cannot_be_used_is_explained(tmp_path: Path) -> None:
    table = tmp_path / "set.csv"
    for text, code, named in (
        ("", "table-empty", "image and labels"),
        ("image,labels\n", "table-empty", "image and labels"),
        ("image,labels\na.png,\n", "row-incomplete", "line 2"),
        ("a.png,b.png\nc.png,d.png\n", "row-incomplete", "columns image and labels"),
        ("image,labels\na.png,b.png\n", "file-not-found", r"a\.png"),
    ):
        table.write_text(text)
        with raises(InputError, code, match=named):
            read_dataset(table)
    table.write_bytes(b"\xff\xfe\x00")
    with raises(InputError, "not-csv", match=r"set\.csv"):
        read_dataset(table)


def test_a_coco_file_gives_instances_or_classes(tmp_path: Path) -> None:
    _write(tmp_path / "images" / "a.png", _plane(1))
    square = [2, 3, 6, 3, 6, 8, 2, 8]
    content = {
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "bare.png"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 5, "segmentation": [square]},
            {"id": 2, "image_id": 1, "category_id": 5, "segmentation": {"size": [12, 16], "counts": [180, 12]}},
            {"id": 3, "image_id": 1, "category_id": 5, "segmentation": [square], "iscrowd": 1},
        ],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(content))
    dataset = read_dataset(path)
    labels = dataset.samples[0].labels
    assert (labels[3:8, 2:6] == 1).all()
    assert (labels[:, 15] == 2).all()
    assert np.count_nonzero(labels) == 20 + 12
    assert "bare.png" in dataset.warnings[0]
    assert "1 annotations of crowds" in dataset.warnings[1]
    assert set(np.unique(read_dataset(path, classes=True).samples[0].labels)) == {0, 5}
    with raises(InputError, "file-not-found", match="elsewhere"):
        read_dataset(path, image_folder=tmp_path / "elsewhere")
    path.write_text('{"images": [], "annotations": []}')
    with raises(InputError, "no-annotations", match=r"coco\.json"):
        read_dataset(path)


def test_only_the_first_of_many_names_are_listed() -> None:
    assert name_some("abc") == "a, b, c"
    assert name_some("abcdefgh") == "a, b, c, d, e and 3 more"


def test_stacks_of_one_name_in_two_folders_are_two_stacks(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        for kind in ("image", "labels"):
            _write(tmp_path / folder / f"{kind}.tif", np.stack([_plane(n) for n in range(2)]))
    (tmp_path / "set.csv").write_text("image,labels\na/image.tif,a/labels.tif\nb/image.tif,b/labels.tif\n")
    stacks = {pair[3].stack for pair in read_dataset(tmp_path / "set.csv").pairs if pair[3] is not None}
    assert stacks == {"a/image.tif", "b/image.tif"}


def test_a_table_says_which_files_are_planes_of_one_stack(tmp_path: Path) -> None:
    for name in ("z0.png", "z1.png", "lone.png"):
        _write(tmp_path / name, _plane(1))
    (tmp_path / "set.csv").write_text(
        "image,labels,stack,plane\nz0.png,z0.png,em,0\nz1.png,z1.png,em,7.0\nlone.png,lone.png,,\n"
    )
    positions = [pair[3] for pair in read_dataset(tmp_path / "set.csv").pairs]
    assert positions == [StackPosition("em", (0,)), StackPosition("em", (7,)), None]


@pytest.mark.parametrize("number", ["", "-1", "1.5", "first"])
def test_a_plane_without_its_number_is_refused(number: str, tmp_path: Path) -> None:
    _write(tmp_path / "a.png", _plane(1))
    (tmp_path / "set.csv").write_text(f"image,labels,stack,plane\na.png,a.png,em,{number}\n")
    with raises(InputError, "plane-number-missing", match=r"set\.csv, line 2: .* plane"):
        read_dataset(tmp_path / "set.csv")


@pytest.mark.parametrize("axes", ["0", "0 1 2", "1 1", "0 3", "-1 0", "0,1", "y x"])
def test_axes_that_a_plane_cannot_have_are_refused(axes: str, tmp_path: Path) -> None:
    _write(tmp_path / "a.png", _plane(1))
    table = tmp_path / "set.csv"
    table.write_text(f'image,labels,stack,plane,axes\na.png,a.png,em,4,0 2\na.png,a.png,em,4,"{axes}"\n')
    with raises(InputError, "invalid-axes", match=rf"set\.csv, line 3: .* axes .*'{axes}'.* 0 to 2"):
        read_dataset(table)


def test_a_table_says_which_axes_of_a_stack_a_plane_has(tmp_path: Path) -> None:
    _write(tmp_path / "a.png", _plane(1))
    (tmp_path / "set.csv").write_text("image,labels,stack,plane,axes\na.png,a.png,em,4,2 0\na.png,a.png,em,4,\n")
    positions = [pair[3] for pair in read_dataset(tmp_path / "set.csv").pairs]
    assert positions == [StackPosition("em", (4,), (2, 0)), StackPosition("em", (4,), (1, 2))]

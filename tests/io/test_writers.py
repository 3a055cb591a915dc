"""Writing labels in all formats."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from error_codes import raises
from numpy.typing import NDArray
from PIL import Image
from volume_files import affine, load, write_series, write_volume
from warning_codes import warns

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.images import read_labels
from napari_sam_lora.io.nifti import write_nifti
from napari_sam_lora.io.pixel_size import PixelSize
from napari_sam_lora.io.shared.existing_files import keep_previous
from napari_sam_lora.io.tables.objects import ObjectInfo
from napari_sam_lora.io.tables.prompts import ObjectPrompts, write_prompts
from napari_sam_lora.io.tiff import writing
from napari_sam_lora.io.volumes import read_layers
from napari_sam_lora.io.writers import default_ending, save_labels, write_layer

MICROSCOPE = {"scale": (0.3, 0.2, 0.1), "units": ("micrometer",) * 3}
VOLUMES = {
    "straight": affine(),
    "mirrored": affine(flips=(-1, -1, 1)),
    "sagittal": affine()[:, [2, 0, 1, 3]],
    "oblique": affine(angles=(20, -12, 33)),
    "oblique, mirrored, anisotropic": affine((0.4, 0.4, 6), (160, 15, -70), (-1, 1, 1)),
    "sheared": affine() @ np.array([[1, 0.2, 0, 0], [0, 1, 0.1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
}


def _labels(shape: tuple[int, ...] = (3, 8, 9), largest: int = 300) -> NDArray[Any]:
    labels = np.random.default_rng(1).integers(0, largest, shape).astype(np.int32)
    labels.flat[-1] = largest
    return labels


@pytest.mark.parametrize("name", VOLUMES)
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize("big_endian", [False, True])
def test_labels_of_a_nifti_are_written_on_its_own_voxels(
    tmp_path: Path, name: str, ending: str, big_endian: bool
) -> None:
    truth = np.random.default_rng(0).integers(0, 300, (5, 6, 7)).astype(np.int16)
    source = write_volume(tmp_path / f"head.{ending}", truth, VOLUMES[name], big_endian)
    ((shown, attributes, _),) = read_layers(source)
    (path,) = save_labels(tmp_path / "out" / f"labels.{ending}", shown, attributes)
    before, after = load(source), load(path)
    np.testing.assert_array_equal(np.asarray(after.dataobj), truth)
    np.testing.assert_array_equal(after.affine, before.affine)
    assert after.header.get_xyzt_units() == before.header.get_xyzt_units()
    assert after.header.get_intent()[0] == "label"
    assert after.get_data_dtype() == np.uint16


@pytest.mark.parametrize("name", ["straight", "mirrored", "sagittal", "oblique"])
def test_labels_of_a_dicom_series_lie_on_it_as_a_nifti(tmp_path: Path, name: str) -> None:
    data = np.random.default_rng(0).integers(-900, 900, (5, 6, 7)).astype(np.int16)
    ((shown, attributes, _),) = read_layers(write_series(tmp_path / "ct", data, VOLUMES[name]))
    (path,) = save_labels(tmp_path / "labels.nii.gz", (shown > 0).astype(np.uint8), attributes)
    image = load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), (data > 0).transpose(2, 1, 0))
    np.testing.assert_allclose(image.affine, np.diag([-1, -1, 1, 1]) @ VOLUMES[name], atol=1e-4)
    ((again, placed, kind),) = read_layers(path)
    assert kind == "labels"
    np.testing.assert_array_equal(again, shown > 0)
    np.testing.assert_allclose(placed["scale"], attributes["scale"], rtol=1e-5)


def test_a_layer_that_was_moved_is_written_where_it_is_now(tmp_path: Path) -> None:
    ((shown, attributes, _),) = read_layers(write_volume(tmp_path / "head.nii", _labels((5, 6, 7)), affine()))
    moved = attributes | {"translate": np.add(attributes["translate"], (10, 0, 0))}
    (path,) = save_labels(tmp_path / "labels.nii", shown.astype(int), moved)
    np.testing.assert_allclose(load(path).affine[2, 3], affine()[2, 3] + 10, rtol=1e-6)


def test_labels_of_a_microscope_image_have_its_pixel_size_in_nifti(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "labels.nii.gz", _labels(), MICROSCOPE)
    image = load(path)
    np.testing.assert_allclose(list(image.header.get_zooms()), (0.1, 0.2, 0.3), rtol=1e-6)
    assert image.header.get_xyzt_units()[0] == "micron"
    np.testing.assert_array_equal(read_labels(path), _labels())


def test_labels_over_time_keep_their_axes_in_nifti(tmp_path: Path) -> None:
    source = write_volume(tmp_path / "beating_seg.nii", _labels((5, 6, 7, 4)), VOLUMES["oblique"])
    ((shown, attributes, kind),) = read_layers(source)
    assert kind == "labels"
    (path,) = save_labels(tmp_path / "labels.nii", shown, attributes)
    np.testing.assert_array_equal(np.asarray(load(path).dataobj), _labels((5, 6, 7, 4)))
    np.testing.assert_array_equal(load(path).affine, load(source).affine)


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
@pytest.mark.parametrize("largest", [300, 65535, 65536, 2**32 - 1])
@pytest.mark.parametrize("shape", [(8, 9), (3, 8, 9), (2, 3, 8, 9), (1, 8, 9)])
def test_tiffs_keep_ids_axes_and_pixel_size(tmp_path: Path, name: str, largest: int, shape: tuple[int, ...]) -> None:
    labels = np.random.default_rng(0).integers(0, largest, shape).astype(np.int64)
    labels.flat[0] = largest
    layer = {"scale": (1.0, 0.3, 0.2, 0.1)[-len(shape) :], "units": ("s", "um", "um", "um")[-len(shape) :]}
    (path,) = save_labels(tmp_path / name, labels, layer)
    np.testing.assert_array_equal(read_labels(path), labels.reshape([s for s in shape if s > 1]))
    ((shown, attributes, _),) = read_layers(path)
    np.testing.assert_array_equal(shown, labels.reshape(shown.shape))
    np.testing.assert_allclose(attributes["scale"][-2:], (0.2, 0.1), rtol=1e-6)
    assert attributes["units"][-2:] == ("µm", "µm")
    if len(shape) > 2 and shape[-3] > 1:
        np.testing.assert_allclose(attributes["scale"][-3], 0.3, rtol=1e-6)


def test_fiji_finds_an_imagej_hyperstack(tmp_path: Path) -> None:
    (path,) = save_labels(tmp_path / "a.tif", _labels(), MICROSCOPE)
    with tifffile.TiffFile(path) as file:
        assert file.is_imagej
        assert file.imagej_metadata["slices"] == 3
        assert file.imagej_metadata["unit"] == "um"
        assert file.imagej_metadata["spacing"] == pytest.approx(0.3)
        assert file.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE


def test_an_image_above_four_gigabytes_becomes_a_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "CLASSIC_BYTES", 100)
    (path,) = save_labels(tmp_path / "a.tif", _labels(), MICROSCOPE)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
    np.testing.assert_array_equal(read_labels(path), _labels())
    assert read_layers(path)[0][1]["units"] == ("µm",) * 3


def test_planes_become_numbered_pngs(tmp_path: Path) -> None:
    paths = save_labels(tmp_path / "cells.png", _labels())
    assert [path.name for path in paths] == ["cells_0000.png", "cells_0001.png", "cells_0002.png"]
    for path, plane in zip(paths, _labels(), strict=True):
        np.testing.assert_array_equal(read_labels(path), plane)
    (single,) = save_labels(tmp_path / "small.png", np.array([[0, 1], [2, 255]]))
    with Image.open(single) as image:
        assert image.mode == "L"


def test_png_refuses_ids_that_it_cannot_hold(tmp_path: Path) -> None:
    with raises(InputError, "ids-too-large", match="65535"):
        save_labels(tmp_path / "a.png", np.array([[0, 70000]]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("p1.nii.gz", "p1.nii.gz"),
        ("P1.NII", "P1.NII"),
        ("p1", "p1.ome.tif"),
        ("cells 0.5 um.2", "cells 0.5 um.2.ome.tif"),
    ],
)
def test_the_ending_that_was_typed_decides_over_the_default(tmp_path: Path, typed: str, written: str) -> None:
    assert write_layer(tmp_path / typed, _labels(), {}, ".ome.tif") == [str(tmp_path / written)]
    np.testing.assert_array_equal(read_labels(tmp_path / written), _labels())


def test_an_unknown_ending_is_refused_with_those_that_are_possible(tmp_path: Path) -> None:
    with raises(InputError, "wrong-file-ending", match=r"p1\.zip .*\.tif, .*\.nii\.gz, .*\.csv"):
        write_layer(tmp_path / "p1.zip", _labels(), {}, ".tif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("image", "ending"),
    [
        ("a.nii", ".nii"),
        ("a.nii.gz", ".nii.gz"),
        ("a.OME.tif", ".ome.tif"),
        ("a.png", ".png"),
        ("a.dcm", ".nii.gz"),
        ("a.jpg", ".tif"),
    ],
)
def test_labels_have_the_format_of_their_image_by_default(image: str, ending: str) -> None:
    assert default_ending(Path(image)) == ending


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.nii", "a.nii.gz", "a.json", "a.csv", "a.png"])
class TestEveryFormat:
    """Tests that hold for all writers."""

    def test_a_file_is_never_silently_replaced(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"mine")
        with raises(InputError, "file-exists", match=name):
            save_labels(tmp_path / name, _labels((8, 9)))
        assert (tmp_path / name).read_bytes() == b"mine"
        save_labels(tmp_path / name, _labels((8, 9)), overwrite=True)
        assert (tmp_path / name).read_bytes() != b"mine"

    def test_a_file_that_napari_replaces_is_kept_under_another_name(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"mine")
        with warns("previous-file-kept"):
            assert write_layer(str(tmp_path / name), _labels((8, 9)), {"name": "cells"}, ".tif") == [
                str(tmp_path / name)
            ]
        (kept,) = tmp_path.glob("*previous*")
        assert kept.read_bytes() == b"mine"
        with raises(InputError, "labels-negative"):
            write_layer(str(tmp_path / name), np.full((8, 9), -1), {"name": "cells"}, ".tif")
        assert (tmp_path / name).read_bytes() not in (b"", b"mine")

    def test_paths_may_have_spaces_and_any_letters(self, tmp_path: Path, name: str) -> None:
        (path,) = save_labels(tmp_path / "mes données" / f"клетки 细胞 {name}", _labels((8, 9)))
        assert path.stat().st_size > 0

    def test_a_full_disk_leaves_no_file(self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("napari_sam_lora.files.os.replace", fail)
        with pytest.raises(OSError, match="No space"):
            save_labels(tmp_path / name, _labels((8, 9)))
        assert list(tmp_path.iterdir()) == []

    def test_negative_ids_are_refused(self, tmp_path: Path, name: str) -> None:
        with raises(InputError, "labels-negative"):
            save_labels(tmp_path / name, np.array([[0, -1]]))


def test_an_unknown_kind_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with raises(InputError, "wrong-file-ending", match=r"a\.xyz.*\.nii\.gz"):
        save_labels(tmp_path / "a.xyz", _labels())


def test_the_table_has_areas_in_physical_units_and_what_is_known(tmp_path: Path) -> None:
    labels = np.zeros((6, 8), np.int32)
    labels[1:3, 2:6] = 7
    infos = {7: ObjectInfo(2, "cell", "prompted", 0.91, True, "nuclei", (ObjectPrompts(0, (1, 2, 3, 6)),))}
    layer = {"scale": (0.5, 0.25), "units": ("micrometer",) * 2}
    (path,) = save_labels(tmp_path / "a.csv", labels, layer, infos=infos)
    (row,) = csv.DictReader(path.open(encoding="utf-8"))
    assert (row["id"], row["class"], row["pixels"], row["unit"]) == ("7", "cell", "8", "µm²")
    assert float(row["area"]) == pytest.approx(8 * 0.125)
    assert (float(row["centroid_y"]), float(row["centroid_x"])) == (1.5, 3.5)
    assert [row[name] for name in ("y0", "x0", "y1", "x1")] == ["1", "2", "3", "6"]
    assert (row["score"], row["adapter"], row["origin"], row["approved"]) == ("0.91", "nuclei", "prompted", "1")
    assert json.loads(row["prompts"]) == [{"plane": 0, "box": [1, 2, 3, 6]}]


def test_the_table_of_a_stack_has_volumes(tmp_path: Path) -> None:
    labels = np.zeros((3, 6, 8), np.int32)
    labels[1:, 1:3, 2:6] = 70_000
    (path,) = save_labels(tmp_path / "a.csv", labels, MICROSCOPE)
    (row,) = csv.DictReader(path.open(encoding="utf-8"))
    assert (row["id"], row["unit"]) == ("70000", "µm³")
    assert float(row["volume"]) == pytest.approx(16 * 0.3 * 0.2 * 0.1)
    assert float(row["centroid_z"]) == 1.5


def test_a_pixel_size_of_unknown_unit_is_no_length() -> None:
    assert not PixelSize.of_layer({"scale": (2, 1, 1), "units": ("pixel",) * 3}).is_known
    assert PixelSize.of_layer({"scale": (2, 1), "units": ("mm",) * 2}).micrometres == (1000, 2000, 1000)


def test_a_file_in_the_way_is_put_back_if_nothing_takes_its_place(tmp_path: Path) -> None:
    target = tmp_path / "cells.prompts.csv"
    target.write_text("earlier", "utf-8")
    with raises(InputError, "no-prompts"), keep_previous([target, tmp_path / "other.csv"]):
        write_prompts(target, {})
    assert target.read_text("utf-8") == "earlier"
    assert list(tmp_path.iterdir()) == [target]

"""Reading volumes as napari layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from error_codes import raises
from volume_files import affine, write_series, write_volume
from warning_codes import warns

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.images import list_images, read_image, stem
from napari_sam_lora.io.placement import layer_affine
from napari_sam_lora.io.volumes import get_reader, read_layers

SHAPE = (5, 6, 7)
AFFINES = {
    "straight": affine(),
    "mirrored": affine(flips=(-1, -1, 1)),
    "head first": affine(flips=(1, 1, -1)),
    "sagittal": affine()[:, [2, 0, 1, 3]],
    "oblique": affine(angles=(20, -12, 33)),
    "oblique and mirrored": affine(angles=(160, 15, -70), flips=(-1, 1, 1)),
}


def _ct(shape: tuple[int, ...] = SHAPE) -> Any:
    return np.random.default_rng(0).integers(-1000, 1500, shape).astype(np.int16)


def _world_of(layer: Any, index: tuple[int, ...]) -> Any:
    return (layer_affine(layer[1], 3) @ [*index, 1])[:3]


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_every_voxel_of_a_nifti_lies_where_the_file_says(tmp_path: Path, name: str, ending: str) -> None:
    data = _ct()
    ((shown, attributes, kind),) = read_layers(write_volume(tmp_path / f"head.{ending}", data, AFFINES[name]))
    assert kind == "image"
    assert attributes["name"] == "head"
    for index in [(0, 0, 0), (4, 1, 2), (2, 5, 6)]:
        (place,) = np.argwhere(shown == data[index])[:1]
        if np.count_nonzero(shown == data[index]) > 1:
            continue
        right, anterior, superior = (AFFINES[name] @ [*index, 1])[:3]
        np.testing.assert_allclose(
            _world_of((shown, attributes), tuple(place)), [superior, -anterior, -right], atol=1e-4
        )


@pytest.mark.parametrize("name", AFFINES)
def test_head_is_up_the_stack_and_the_back_is_down_the_screen(tmp_path: Path, name: str) -> None:
    ((_, attributes, _),) = read_layers(write_volume(tmp_path / "head.nii", _ct(), AFFINES[name]))
    assert (np.diag(layer_affine(attributes, 3))[:3] > 0).all()
    assert (np.asarray(attributes["scale"]) > 0).all()
    assert attributes["axis_labels"] == ("z", "y", "x")
    assert attributes["units"] == ("mm", "mm", "mm")


def test_a_straight_volume_has_its_spacing_as_scale_and_no_affine(tmp_path: Path) -> None:
    ((shown, attributes, _),) = read_layers(write_volume(tmp_path / "head.nii", _ct(), affine()))
    np.testing.assert_allclose(attributes["scale"], [2.5, 0.8, 0.7], rtol=1e-6)
    assert "affine" not in attributes
    assert shown.shape == (7, 6, 5)


def test_a_big_endian_file_is_read_in_native_order(tmp_path: Path) -> None:
    data = _ct()
    ((shown, _, _),) = read_layers(write_volume(tmp_path / "head.nii", data, affine(flips=(-1, -1, 1)), True))
    np.testing.assert_array_equal(shown, data.T)
    assert shown.dtype.isnative


def test_time_stands_before_z_with_its_own_step_and_unit(tmp_path: Path) -> None:
    path = write_volume(tmp_path / "beating.nii", _ct((5, 6, 7, 4)), affine())
    ((shown, attributes, _),) = read_layers(path)
    assert shown.shape == (4, 7, 6, 5)
    assert attributes["axis_labels"] == ("t", "z", "y", "x")
    assert attributes["units"] == ("s", "mm", "mm", "mm")
    assert len(attributes["scale"]) == 4


@pytest.mark.parametrize("path", ["liver_seg.nii", "labelsTr/liver_01.nii.gz", "masks/a.nii"])
def test_a_volume_called_labels_is_a_labels_layer(tmp_path: Path, path: str) -> None:
    (tmp_path / path).parent.mkdir(exist_ok=True)
    data = np.random.default_rng(0).integers(0, 300, SHAPE).astype(np.float32)
    ((shown, _, kind),) = read_layers(write_volume(tmp_path / path, data, affine()))
    assert kind == "labels"
    assert shown.dtype.kind == "i"
    assert shown.max() == data.max()


def test_a_volume_of_few_whole_numbers_is_a_labels_layer_and_a_scan_is_not(tmp_path: Path) -> None:
    few = np.random.default_rng(0).integers(0, 4, (20, 20, 20)).astype(np.uint8)
    assert read_layers(write_volume(tmp_path / "a.nii", few, affine()))[0][2] == "labels"
    many = np.random.default_rng(0).integers(0, 256, (20, 20, 20)).astype(np.uint8)
    assert read_layers(write_volume(tmp_path / "b.nii", many, affine()))[0][2] == "image"


@pytest.mark.parametrize("name", AFFINES)
def test_a_dicom_series_lies_where_its_slices_say(tmp_path: Path, name: str) -> None:
    data, matrix = _ct(), AFFINES[name]
    folder = write_series(tmp_path / "série 1", data, matrix)
    ((shown, attributes, kind),) = read_layers(folder)
    assert kind == "image"
    assert attributes["name"] == "chest"
    assert shown.dtype == np.int16
    for index in [(0, 0, 0), (4, 1, 2), (2, 5, 6)]:
        if np.count_nonzero(data == data[index]) == 1:
            (place,) = np.argwhere(shown == data[index])
            left, posterior, superior = (matrix @ [index[2], index[1], index[0], 1])[:3]
            np.testing.assert_allclose(
                _world_of((shown, attributes), tuple(place)), [superior, posterior, left], atol=1e-3
            )


def test_the_order_of_slices_is_that_of_their_places_not_of_names_and_numbers(tmp_path: Path) -> None:
    data = _ct()
    ((first, _, _),) = read_layers(write_series(tmp_path / "a", data, affine()))
    ((second, _, _),) = read_layers(write_series(tmp_path / "b", data, affine(), order=-1))
    np.testing.assert_array_equal(first, data)
    np.testing.assert_array_equal(second, data)


def test_two_series_of_a_folder_are_two_layers_and_folders_are_looked_into(tmp_path: Path) -> None:
    write_series(tmp_path / "study" / "1", _ct(), affine(), "native")
    write_series(tmp_path / "study" / "2", _ct(), affine(), "contrast")
    assert [layer[1]["name"] for layer in read_layers(tmp_path / "study")] == ["native", "contrast"]


def test_a_missing_slice_gives_a_warning(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", _ct(), affine())
    next(folder.glob("*2.dcm")).unlink()
    with warns("uneven-slices"):
        read_layers(folder)


def test_a_single_slice_is_read_too(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", _ct(), affine())
    ((shown, _, _),) = read_layers(next(folder.glob("*2.dcm")))
    np.testing.assert_array_equal(shown[0], _ct()[2])


@pytest.mark.parametrize("name", ["head.nii", "head.nii.gz", "slices/a.dcm", "cells.tif"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_gives_a_clear_message(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    data = _ct((20, 20, 20))
    if name.endswith(".dcm"):
        write_series(path.parent, data[:1], affine())
        next(path.parent.glob("*0.dcm")).rename(path)
    elif name.endswith(".tif"):
        tifffile.imwrite(path, data, compression="zlib")
    else:
        write_volume(path, data, affine())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    code = "file-not-readable"
    if name.endswith(".dcm"):
        code = {0.0: "not-dicom", 0.3: "no-dicom-image"}.get(share, code)
    with raises(InputError, code, match=path.name):
        read_layers(path)


def test_imagej_pixel_sizes_are_kept(tmp_path: Path) -> None:
    data = np.zeros((4, 2, 6, 5), np.uint16)
    described = {"axes": "ZCYX", "spacing": 0.3, "unit": "um"}
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, resolution=(1 / 0.1, 1 / 0.2), metadata=described)
    layers = read_layers(tmp_path / "a.tif")
    assert len(layers) == 2
    for shown, attributes, kind in layers:
        assert kind == "image"
        assert shown.shape == (4, 6, 5)
        np.testing.assert_allclose(attributes["scale"], [0.3, 0.2, 0.1], rtol=1e-5)
        assert attributes["units"] == ("µm", "µm", "µm")


def test_ome_pixel_sizes_are_kept(tmp_path: Path) -> None:
    described = {"axes": "TZYX", "PhysicalSizeX": 65, "PhysicalSizeY": 70, "PhysicalSizeZ": 300}
    described |= {f"PhysicalSize{axis}Unit": "nm" for axis in "XYZ"} | {"TimeIncrement": 1.5, "TimeIncrementUnit": "s"}
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((2, 3, 6, 5), np.uint16), metadata=described)
    ((shown, attributes, _),) = read_layers(tmp_path / "a.ome.tif")
    assert shown.shape == (2, 3, 6, 5)
    assert attributes["scale"] == [1.5, 300, 70, 65]
    assert attributes["units"] == ("s", "nm", "nm", "nm")
    assert attributes["name"] == "a"


def test_colours_stay_one_layer(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((6, 5, 3), np.uint8), photometric="rgb")
    ((shown, attributes, _),) = read_layers(tmp_path / "a.tif")
    assert shown.shape == (6, 5, 3)
    assert attributes["rgb"]


def test_the_reader_takes_what_it_can_read_by_content(tmp_path: Path) -> None:
    image, text = tmp_path / "plain.tif", tmp_path / "text.tif"
    tifffile.imwrite(image, np.zeros((6, 5), np.uint8))
    text.write_text("no image")
    (tmp_path / "pictures").mkdir()
    assert get_reader(str(text)) is None
    assert get_reader(str(tmp_path / "pictures")) is None
    assert get_reader([str(image), str(text)]) is None
    reader = get_reader([str(image)])
    assert reader is not None
    assert reader([str(image)])[0][0].shape == (6, 5)


def test_files_of_the_same_shape_become_a_stack_if_napari_wants_one(tmp_path: Path) -> None:
    for number in range(3):
        tifffile.imwrite(
            tmp_path / f"{number}.tif",
            np.full((6, 5), number, np.uint8),
            imagej=True,
            resolution=(5, 10),
            metadata={"unit": "um"},
        )
    paths = [str(tmp_path / f"{number}.tif") for number in range(3)]
    reader = get_reader(paths)
    assert reader is not None
    ((data, attributes, _),) = reader(paths)
    assert data[:, 0, 0].tolist() == [0, 1, 2]
    assert attributes["axis_labels"] == ("file", "y", "x")
    np.testing.assert_allclose(attributes["scale"], [1, 0.1, 0.2])


def test_whole_numbers_of_32_bits_are_labels_in_a_tiff_and_not_in_a_scan(tmp_path: Path) -> None:
    many = np.random.default_rng(0).integers(0, 500, (20, 20, 20)).astype(np.int32)
    tifffile.imwrite(tmp_path / "a.tif", many)
    assert read_layers(tmp_path / "a.tif")[0][2] == "labels"
    assert read_layers(write_volume(tmp_path / "a.nii", many, affine()))[0][2] == "image"


def test_a_folder_of_dicom_slices_is_taken_and_another_is_not(tmp_path: Path) -> None:
    reader = get_reader(str(write_series(tmp_path / "ct", _ct(), affine())))
    assert reader is not None
    assert len(reader(str(tmp_path / "ct"))) == 1
    (tmp_path / "empty").mkdir()
    assert get_reader(str(tmp_path / "empty")) is None
    with raises(InputError, "no-dicom-image", match="empty"):
        read_layers(tmp_path / "empty")


def test_the_command_line_takes_a_dicom_folder_for_one_image(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct.1", _ct(), affine())
    assert list_images(folder) == [folder]
    assert stem(folder) == "ct.1"
    file = read_image(folder)
    assert file.stack_shape == (5,)
    np.testing.assert_array_equal(file.data, _ct())
    for path in write_series(tmp_path / "b", _ct(), affine(), "another").iterdir():
        path.rename(folder / f"b{path.name}")
    with raises(InputError, "several-series", match="2 series"):
        read_image(folder)


def test_a_volume_without_a_place_keeps_its_voxel_size(tmp_path: Path) -> None:
    path = write_volume(tmp_path / "head.nii", _ct(), affine())
    content = bytearray(path.read_bytes())
    content[280:328] = bytes(48)  # the rows of the sform
    path.write_bytes(content)
    with warns("position-missing"):
        ((shown, attributes, _),) = read_layers(path)
    np.testing.assert_allclose(attributes["scale"], [2.5, 0.8, 0.7], rtol=1e-6)
    assert shown.shape == (7, 6, 5)

"""Pixel sizes, units and points in time: from files to layers, and from layers to files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from volume_files import load

from napari_sam_lora.io.pixel_size import PixelSize
from napari_sam_lora.io.units import length_unit, time_unit
from napari_sam_lora.io.volumes import attributes_of, read_layers
from napari_sam_lora.io.writers import save_labels

# OME's schema 2016-06, UnitsLength, as far as they are used here.
OME_LENGTHS = {"pm", "Å", "nm", "µm", "mm", "cm", "dm", "m", "km", "in"}
TIME_SERIES: dict[str, Any] = {
    "scale": (2.5, 0.2, 0.1),
    "units": ("second", "um", "um"),
    "axis_labels": ("t", "y", "x"),
}


def _labels(shape: tuple[int, ...] = (3, 8, 9), largest: int = 300) -> Any:
    labels = np.random.default_rng(0).integers(0, 9, shape)
    labels.flat[-1] = largest
    return labels


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("micrometer", "µm"),
        ("Microns", "µm"),
        ("um", "µm"),
        ("\N{GREEK SMALL LETTER MU}m", "µm"),
        ("\\u00B5m", "µm"),
        ("millimetre", "mm"),
        ("inches", "in"),
        ("Angstrom", "Å"),
        ("pixel", ""),
        ("reference frame", ""),
        ("sec", ""),
        ("", ""),
    ],
)
def test_lengths_are_known_by_many_names(name: str, symbol: str) -> None:
    assert length_unit(name) == symbol


def test_times_are_known_by_many_names() -> None:
    assert [time_unit(name) for name in ("sec", "Seconds", "msec", "min", "hours", "um")] == [
        "s",
        "s",
        "ms",
        "min",
        "h",
        "",
    ]


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
@pytest.mark.parametrize(
    "unit", ["\N{GREEK SMALL LETTER MU}m", "centimeter", "inch", "angstrom", "picometer", "meter", "nm", "micron"]
)
def test_all_units_of_length_survive_a_tiff(tmp_path: Path, name: str, unit: str) -> None:
    layer = {"scale": (3, 2, 1), "units": (unit,) * 3}
    (path,) = save_labels(tmp_path / name, _labels(), layer)
    ((_, attributes, _),) = read_layers(path)
    np.testing.assert_allclose(attributes["scale"], (3, 2, 1), rtol=1e-6)
    assert set(attributes["units"]) == {length_unit(unit)}
    assert set(attributes["units"]) <= OME_LENGTHS


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
@pytest.mark.parametrize("largest", [300, 70_000])
def test_a_time_series_stays_one(tmp_path: Path, name: str, largest: int) -> None:
    (path,) = save_labels(tmp_path / name, _labels(largest=largest), TIME_SERIES)
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == "TYX"
    ((_, attributes, _),) = read_layers(path)
    assert attributes["axis_labels"] == ("t", "y", "x")
    assert attributes["units"] == ("s", "µm", "µm")
    np.testing.assert_allclose(attributes["scale"], (2.5, 0.2, 0.1), rtol=1e-6)


def test_a_volume_over_time_keeps_the_time_between_its_points(tmp_path: Path) -> None:
    layer = {"scale": (500, 3, 2, 1), "units": ("ms", "um", "um", "um")}
    (path,) = save_labels(tmp_path / "a.tif", _labels((2, 3, 8, 9)), layer)
    ((_, attributes, _),) = read_layers(path)
    np.testing.assert_allclose(attributes["scale"], (0.5, 3, 2, 1), rtol=1e-6)
    assert attributes["units"][0] == "s"


def test_an_imagej_stack_can_be_shown_by_all_versions_of_imagej(tmp_path: Path) -> None:
    labels = _labels()
    labels[0] = 0
    (path,) = save_labels(tmp_path / "a.tif", labels)
    with tifffile.TiffFile(path) as file:
        # Versions before 1.52p look at all planes of a compressed stack only if there is an orientation.
        assert file.pages[0].tags["Orientation"].value == 1
        # The range of the first plane, which is empty, would show all others white.
        assert (file.imagej_metadata["min"], file.imagej_metadata["max"]) == (0, 300)
        assert len(file.pages) == file.imagej_metadata["images"] == 3


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_what_imagej_cannot_hold_has_its_pixel_size_in_the_tags_too(tmp_path: Path, name: str) -> None:
    layer = {"scale": (0.3, 0.2, 0.1), "units": ("um",) * 3}
    (path,) = save_labels(tmp_path / name, _labels(largest=70_000), layer)
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        tags = file.pages[0].tags
        assert tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
        x, y = (tags[name].value[0] / tags[name].value[1] for name in ("XResolution", "YResolution"))
        np.testing.assert_allclose((1e4 / x, 1e4 / y), (0.1, 0.2), rtol=1e-6)


def test_an_unknown_unit_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    data = np.zeros((3, 8, 9), np.uint16)
    tifffile.imwrite(path, data, imagej=True, resolution=(10, 10), metadata={"axes": "ZYX", "unit": "cells"})
    ((_, attributes, _),) = read_layers(path)
    assert attributes["units"] == ("pixel",) * 3
    assert attributes["scale"] == [1, 1, 1]


def test_an_image_file_says_which_axes_its_labels_have(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    described = {"axes": "TCYX", "unit": "um", "finterval": 2.0}
    data = np.zeros((3, 2, 8, 9), np.uint16)
    tifffile.imwrite(path, data, imagej=True, resolution=(10, 5), metadata=described)
    attributes = attributes_of(path)
    assert attributes["axis_labels"] == ("t", "y", "x")
    np.testing.assert_allclose(attributes["scale"], (2, 0.2, 0.1))
    assert not PixelSize.of_layer(attributes).has_depth


def test_spacing_in_several_units_is_converted_to_one() -> None:
    size = PixelSize.of_layer({"scale": (0.3, 200, 100), "units": ("um", "nm", "nm")})
    np.testing.assert_allclose(size.spacing, (300, 200, 100))
    assert size.unit == "nm"


def test_objects_of_a_time_series_have_areas_and_no_volumes(tmp_path: Path) -> None:
    labels = np.zeros((3, 8, 9), np.int32)
    labels[:2, 1:3, 2:6] = 7
    (path,) = save_labels(tmp_path / "a.csv", labels, TIME_SERIES)
    (row,) = csv.DictReader(path.open(encoding="utf-8"))
    assert "volume" not in row
    assert float(row["area"]) == pytest.approx(16 * 0.02)
    assert row["unit"] == "µm²"
    assert (row["t0"], row["t1"]) == ("0", "2")


@pytest.mark.parametrize(("unit", "code", "factor"), [("nm", "micron", 1e-3), ("cm", "mm", 10), ("um", "micron", 1)])
def test_a_nifti_is_in_a_unit_that_it_can_name(tmp_path: Path, unit: str, code: str, factor: float) -> None:
    layer = {"scale": (3, 2, 1), "units": (unit,) * 3}
    image = load(save_labels(tmp_path / "a.nii", _labels(), layer)[0])
    assert image.header.get_xyzt_units()[0] == code
    np.testing.assert_allclose(image.header.get_zooms(), np.array([1, 2, 3]) * factor, rtol=1e-6)

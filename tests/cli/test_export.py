"""The export command, and other formats of segment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_sam_lora.io.images import read_labels
from napari_sam_lora.io.tiff.writing import write_labels

from .conftest import Run, plane

SMALL = ("--input-size", "64")


def _volume(path: Path) -> Path:
    """Write a NIfTI of two equal planes, stored from right to left: (x, y, z) = (64, 64, 2)."""
    stack = np.stack([plane(1)[0], plane(1)[0]])  # (z, y, x), the last two to the back and to the left
    nibabel.save(nibabel.Nifti1Image(stack.T, np.diag([-0.5, -0.5, 3, 1])), path)
    return path


def _load(path: Path) -> Any:
    return nibabel.load(path)


def test_a_volume_is_segmented_to_a_nifti_with_its_affine(tmp_path: Path, run: Run) -> None:
    image = _volume(tmp_path / "ct.nii.gz")
    (tmp_path / "boxes.csv").write_text("plane,object,y0,x0,y1,x1\n1,7,5,5,30,30\n")
    options = ("--prompts", tmp_path / "boxes.csv", "--format", "nii.gz", *SMALL)
    result = run("segment", image, "--output", tmp_path / "out", *options)
    assert (result.code, result.err) == (0, "")
    written = _load(tmp_path / "out" / "ct.nii.gz")
    np.testing.assert_array_equal(written.affine, _load(image).affine)
    labels = np.asarray(written.dataobj)
    assert labels.shape == (64, 64, 2)
    assert set(np.unique(labels[..., 1])) == {0, 7}
    assert not labels[..., 0].any()


@pytest.mark.parametrize("ending", ["nii.gz", "nii", "tif", "ome.tif", "json", "csv", "png"])
def test_labels_are_converted_with_what_their_image_says(tmp_path: Path, run: Run, ending: str) -> None:
    image = _volume(tmp_path / "ct.nii")
    labels = np.stack([plane(1)[1], plane(2)[1]])
    source = write_labels(tmp_path / "labels.tif", labels)
    target = tmp_path / "out" / f"labels.{ending}"
    result = run("export", source, "--image", image, "--output", target)
    assert (result.code, result.err) == (0, "")
    if ending.startswith("nii"):
        np.testing.assert_array_equal(np.asarray(_load(target).dataobj), labels.T)
        np.testing.assert_array_equal(_load(target).affine, _load(image).affine)
    elif "tif" in ending:
        np.testing.assert_array_equal(read_labels(target), labels)
    elif ending == "csv":
        assert "mm³" in target.read_text("utf-8")
    elif ending == "json":
        assert [one["file_name"] for one in json.loads(target.read_text())["images"]] == ["ct_0000.png", "ct_0001.png"]
    else:
        assert len(list(target.parent.glob("labels_*.png"))) == 2


def test_nothing_is_replaced_unless_asked_for(tmp_path: Path, run: Run) -> None:
    source = write_labels(tmp_path / "labels.tif", plane(1)[1])
    (tmp_path / "a.png").write_bytes(b"mine")
    result = run("export", source, "--output", tmp_path / "a.png")
    assert (result.code, result.error_code) == (1, "file-exists")
    assert (tmp_path / "a.png").read_bytes() == b"mine"
    assert run("export", source, "--output", tmp_path / "a.png", "--overwrite").code == 0
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), plane(1)[1])


def test_labels_of_another_image_are_refused(tmp_path: Path, run: Run) -> None:
    source = write_labels(tmp_path / "labels.tif", plane(1)[1])
    result = run("export", source, "--image", _volume(tmp_path / "ct.nii"), "--output", tmp_path / "a.nii")
    assert (result.code, result.error_code) == (1, "labels-do-not-fit")
    assert "labels.tif" in result.message


def test_the_pixel_size_of_a_tiff_is_kept(tmp_path: Path, run: Run) -> None:
    (tmp_path / "in").mkdir()
    tifffile.imwrite(
        tmp_path / "in" / "a.tif", plane(1)[0], imagej=True, resolution=(5, 5), metadata={"unit": "um", "axes": "YX"}
    )
    (tmp_path / "boxes.csv").write_text("y0,x0,y1,x1\n5,5,30,30\n")
    options = ("--output", tmp_path / "out", "--prompts", tmp_path / "boxes.csv", *SMALL)
    assert run("segment", tmp_path / "in", *options).code == 0
    with tifffile.TiffFile(tmp_path / "out" / "a.tif") as file:
        assert file.is_imagej
        assert file.imagej_metadata["unit"] == "um"
        assert file.pages[0].tags["XResolution"].value[0] / file.pages[0].tags["XResolution"].value[1] == 5


def test_pictures_have_no_pixel_size(tmp_path: Path, run: Run) -> None:
    Image.fromarray(plane(1)[1]).save(tmp_path / "labels.png")
    assert run("export", tmp_path / "labels.png", "--output", tmp_path / "a.csv").code == 0
    assert "pixel²" in (tmp_path / "a.csv").read_text("utf-8")

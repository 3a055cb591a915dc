"""`segment --propagate`: objects of a plane are followed through stacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from napari_sam_lora.overlap import mask_iou

from .conftest import Run, plane

SMALL = ("--input-size", "128")


def write_stack(path: Path, planes: int = 4) -> NDArray[np.int64]:
    """Write the same three discs in every plane, with pixel sizes for Fiji; returns the labels of a plane."""
    image, labels = plane(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path,
        np.repeat(image[None], planes, 0),
        imagej=True,
        resolution=(4.0, 4.0),
        metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"},
    )
    return labels.astype(np.int64)


def test_boxes_of_one_plane_become_labels_of_the_stack(run: Run, tmp_path: Path) -> None:
    truth = write_stack(tmp_path / "stack.tif")
    ys, xs = np.nonzero(truth == 2)
    prompts = tmp_path / "boxes.csv"
    prompts.write_text(f"plane,object,y0,x0,y1,x1\n1,7,{ys.min()},{xs.min()},{ys.max() + 1},{xs.max() + 1}\n")
    result = run(
        "segment", tmp_path / "stack.tif", "--output", tmp_path, "--prompts", prompts, "--propagate", *SMALL,
        "--format", "ome.tif",
    )  # fmt: skip
    assert result.code == 0, result.err
    labels = tifffile.imread(tmp_path / "stack.ome.tif")
    assert labels.shape == (4, 64, 64)
    assert set(np.unique(labels)) == {0, 7}
    for one in labels:
        assert mask_iou(one == 7, truth == 2) > 0.7


def test_drawn_labels_of_a_folder_of_stacks_are_followed_and_pixel_sizes_kept(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        truth = write_stack(tmp_path / "stacks" / f"{name}.tif")
        seeds = np.zeros((4, 64, 64), np.uint16)
        seeds[2] = truth
        (tmp_path / "seeds").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "seeds" / f"{name}.tif", seeds, photometric="minisblack", metadata={"axes": "ZYX"})
    result = run(
        "segment", tmp_path / "stacks", "--output", tmp_path / "out", "--seeds", tmp_path / "seeds", "--propagate",
        "--first", "1", *SMALL,
    )  # fmt: skip
    assert result.code == 0, result.err
    for name in ("a", "b"):
        with tifffile.TiffFile(tmp_path / "out" / f"{name}.tif") as file:
            labels, metadata = file.asarray(), file.imagej_metadata
        assert not labels[0].any()
        assert np.array_equal(labels[2], truth)
        assert mask_iou(labels[3] == 1, truth == 1) > 0.7
        assert metadata is not None
        assert metadata["spacing"] == 2.0


def test_the_place_of_a_nifti_volume_is_kept(run: Run, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed")
    image, truth = plane(1)
    affine = np.array([[-0.5, 0, 0, 10], [0, 0.5, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])
    volume = np.repeat(image[None], 3, 0)
    nibabel.save(nibabel.Nifti1Image(volume.T, affine), tmp_path / "mri.nii.gz")
    seeds = np.zeros((3, 64, 64), np.uint8)
    seeds[1] = truth
    nibabel.save(nibabel.Nifti1Image(seeds.T, affine), tmp_path / "seeds.nii.gz")
    result = run(
        "segment", tmp_path / "mri.nii.gz", "--output", tmp_path / "out", "--seeds", tmp_path / "seeds.nii.gz",
        "--propagate", "--format", "nii.gz", *SMALL,
    )  # fmt: skip
    assert result.code == 0, result.err
    made = nibabel.load(tmp_path / "out" / "mri.nii.gz")
    assert np.allclose(made.affine, affine)
    assert np.array_equal(np.asarray(made.dataobj)[..., 1].T, truth)
    assert mask_iou(np.asarray(made.dataobj)[..., 2].T == 1, truth == 1) > 0.7


def test_options_that_contradict_each_other_are_refused(run: Run, tmp_path: Path) -> None:
    write_stack(tmp_path / "stack.tif")
    tifffile.imwrite(tmp_path / "seeds.tif", plane(1)[1])
    seeds = np.repeat(plane(1)[1][None], 4, 0)
    tifffile.imwrite(tmp_path / "all.tif", seeds, photometric="minisblack", metadata={"axes": "ZYX"})
    (tmp_path / "boxes.csv").write_text("plane,object,y0,x0,y1,x1\n5,7,10,10,20,20\n")
    command = ("segment", tmp_path / "stack.tif", "--output", tmp_path / "out")
    cases = (
        (("--seeds", tmp_path / "seeds.tif"), "option-without-propagate", "--seeds"),
        (("--direction", "up"), "option-without-propagate", "--direction"),
        (("--propagate",), "prompts-or-seeds", "--prompts"),
        (("--propagate", "--seeds", tmp_path / "seeds.tif"), "seed-plane-missing", "--seed-plane"),
        (("--propagate", "--seeds", tmp_path / "seeds.tif", "--seed-plane", "9"), "plane-outside-stack", "plane 9"),
        (("--propagate", "--seeds", tmp_path / "all.tif", "--seed-plane", "-1"), "plane-outside-stack", "plane -1"),
        (("--propagate", "--prompts", tmp_path / "boxes.csv"), "plane-outside-stack", "plane 5: the planes are 0 to 3"),
        (("--propagate", "--seeds", tmp_path / "nothing"), "file-not-found", "nothing"),
        (
            ("--propagate", "--seeds", tmp_path / "seeds.tif", "--points-per-side", "4"),
            "option-of-everything-mode",
            "--points-per-side",
        ),
        (
            ("--propagate", "--seeds", tmp_path / "seeds.tif", "--first", "3", "--last", "1"),
            "first-plane-after-last",
            "(3)",
        ),
    )
    for more, error_code, name in cases:
        result = run(*command, *more, *SMALL)
        assert (result.code, result.error_code) == (1, error_code)
        assert name in result.message, result.message
    assert not (tmp_path / "out").exists()

"""Segmenting the image files of a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora import Model
from napari_sam_lora.batch.files import STEPS_PER_IMAGE, FolderResult, plan_folder, segment_folder
from napari_sam_lora.errors import InputError

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture
def images(tmp_path: Path, nuclei: Pair) -> Path:
    """Make a folder with a small plane and a stack of two of them."""
    folder, plane = tmp_path / "images", nuclei[0][:96, :96]
    folder.mkdir()
    tifffile.imwrite(folder / "plane.tif", plane)
    tifffile.imwrite(folder / "stack.tif", np.stack([plane, plane]), metadata={"axes": "ZYX"})
    return folder


def segment(model: Model, targets: dict[Path, Path], overwrite: bool = False) -> tuple[FolderResult, list[Any]]:
    """Segment a folder; also return all calls of the progress callback."""
    calls: list[tuple[int, int]] = []
    result = segment_folder(
        model, targets, adapter=None, overwrite=overwrite, progress=lambda done, total: calls.append((done, total))
    )
    return result, calls


def test_label_files_have_the_names_of_their_images(images: Path, tmp_path: Path) -> None:
    output = tmp_path / "labels"
    assert plan_folder(images, output) == {images / name: output / name for name in ("plane.tif", "stack.tif")}


def test_label_files_beside_the_images_are_not_images(images: Path) -> None:
    tifffile.imwrite(images / "plane_labels.tif", np.zeros((96, 96), np.uint8))
    planned = plan_folder(images, images)
    assert [target.name for target in planned.values()] == ["plane_labels.tif", "stack_labels.tif"]
    assert images / "plane_labels.tif" not in planned


def test_a_folder_that_is_missing_or_has_no_image_is_refused(tmp_path: Path) -> None:
    with raises(InputError, "folder-not-found", match="missing"):
        plan_folder(tmp_path / "missing", tmp_path)
    (tmp_path / "empty").mkdir()
    with raises(InputError, "no-image-in-folder", match="empty"):
        plan_folder(tmp_path / "empty", tmp_path)


def test_two_images_with_the_same_label_file_are_refused(images: Path, tmp_path: Path) -> None:
    tifffile.imwrite(images / "plane.tiff", np.zeros((96, 96), np.uint8))
    with raises(InputError, "outputs-of-one-name", match=r"plane\.tif"):
        plan_folder(images, tmp_path / "labels")


def test_each_image_gets_a_label_file_of_its_shape(nano: Model, images: Path, tmp_path: Path) -> None:
    targets = plan_folder(images, tmp_path / "labels")
    result, _ = segment(nano, targets)
    assert result.written == tuple(targets.values())
    assert (result.skipped, result.problems) == (0, ())
    plane, stack = (tifffile.imread(target) for target in result.written)
    assert plane.shape == (96, 96)
    assert stack.shape == (2, 96, 96)
    assert result.objects == plane.max() + stack.max()
    np.testing.assert_array_equal(stack[0], plane)


def test_objects_of_a_stack_have_other_ids_in_each_plane(nano: Model, images: Path, tmp_path: Path) -> None:
    target = tmp_path / "stack.tif"
    segment(nano, {images / "stack.tif": target})
    first, second = (set(np.unique(plane)) - {0} for plane in tifffile.imread(target))
    assert first
    assert len(first) == len(second)
    assert not first & second


def test_images_with_a_label_file_are_skipped_unless_it_may_be_overwritten(
    nano: Model, images: Path, tmp_path: Path
) -> None:
    target = tmp_path / "plane.tif"
    tifffile.imwrite(target, np.full((96, 96), 7, np.uint8))
    result, _ = segment(nano, {images / "plane.tif": target})
    assert result == FolderResult((), 0, 1, ())
    assert (tifffile.imread(target) == 7).all()
    result, _ = segment(nano, {images / "plane.tif": target}, overwrite=True)
    assert result.written == (target,)
    assert not (tifffile.imread(target) == 7).all()


def test_an_image_that_cannot_be_read_is_reported_and_the_others_are_segmented(
    nano: Model, images: Path, tmp_path: Path
) -> None:
    (images / "damaged.png").write_bytes(b"no image")
    targets = plan_folder(images, tmp_path / "labels")
    result, _ = segment(nano, targets)
    (problem,) = result.problems
    assert problem.startswith("damaged.png: ")
    assert [target.name for target in result.written] == ["plane.tif", "stack.tif"]
    assert not targets[images / "damaged.png"].exists()


def test_progress_rises_over_all_planes_of_all_images(nano: Model, images: Path, tmp_path: Path) -> None:
    _, calls = segment(nano, plan_folder(images, tmp_path / "labels"))
    total = 2 * STEPS_PER_IMAGE
    done = [call[0] for call in calls]
    assert {call[1] for call in calls} == {total}
    assert (done[0], done[-1]) == (0, total)
    assert done == sorted(done)
    assert {STEPS_PER_IMAGE, STEPS_PER_IMAGE * 3 // 2} <= set(done)  # after the plane, and half of the stack


def test_an_exception_of_the_progress_callback_ends_the_work(nano: Model, images: Path, tmp_path: Path) -> None:
    targets = plan_folder(images, tmp_path / "labels")

    def cancel(done: int, total: int) -> None:
        if done >= STEPS_PER_IMAGE:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_folder(nano, targets, adapter=None, overwrite=False, progress=cancel)
    assert not targets[images / "stack.tif"].exists()


def test_the_dense_head_finds_the_objects_with_its_own_thresholds(
    nano: Model, images: Path, nuclei: Pair, tmp_path: Path
) -> None:
    target = tmp_path / "plane.tif"
    assert nano.loaded.dense is not None
    picky = replace(nano.loaded.dense.instances, smallest=150)
    model = Model(replace(nano.loaded, dense=replace(nano.loaded.dense, instances=picky)))
    segment(model, {images / "plane.tif": target})
    labels = tifffile.imread(target)
    np.testing.assert_array_equal(labels, model.segment_everything(nuclei[0][:96, :96], method="head"))
    assert 0 < labels.max() < nano.segment_everything(nuclei[0][:96, :96], method="head").max()


def test_a_grid_of_clicks_can_be_chosen(
    nano: Model, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods: list[Any] = []

    def everything(model: Model, plane: NDArray[Any], *, progress: Any, method: Any) -> NDArray[np.int32]:
        methods.append(method)
        return np.ones(plane.shape, np.int32)

    monkeypatch.setattr(Model, "segment_everything", everything)
    targets = {images / "plane.tif": tmp_path / "plane.tif"}
    segment_folder(nano, targets, adapter=None, overwrite=False, progress=lambda *_: None, method="clicks")
    assert methods == ["clicks"]
    assert (tifffile.imread(tmp_path / "plane.tif") == 1).all()


def test_asking_for_a_head_that_is_missing_is_refused(nano: Model, images: Path, tmp_path: Path) -> None:
    headless = Model(replace(nano.loaded, dense=None))
    targets = {images / "plane.tif": tmp_path / "plane.tif"}
    with raises(InputError, "no-dense-head"):
        segment_folder(headless, targets, adapter=None, overwrite=False, progress=lambda *_: None, method="head")
    assert not (tmp_path / "plane.tif").exists()

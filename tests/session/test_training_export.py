"""A training set is saved beside its settings as a whole, or not at all."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.datasets import read_dataset
from napari_sam_lora.io.tables.classes import ObjectClasses
from napari_sam_lora.lora.adapter import Adapter
from napari_sam_lora.session import ArraySource, CancelToken, PlaneKey, TrainingPlane
from napari_sam_lora.session.jobs.worker import JobCancelledError
from napari_sam_lora.session.plane_key import Box
from napari_sam_lora.session.training_export import START, TABLE, write_planes, write_settings

IMAGES = np.random.default_rng(0).integers(0, 900, (3, 12, 16), np.uint16)
LABELS = np.eye(12, 16, dtype=np.int64)


class _Disk(ArraySource):
    """Source that fails at the second plane, as a full disk does."""

    def read(self, plane: PlaneKey, box: Box | None = None) -> NDArray[Any]:
        if plane.index == (1,):
            raise OSError("no space left")
        return super().read(plane, box)


def _planes(source: ArraySource) -> list[TrainingPlane]:
    return [TrainingPlane(PlaneKey.of("em", 3, (z,)), source, LABELS * z, {}, False) for z in range(3)]


def _cancelled_after(planes: int) -> CancelToken:
    token = CancelToken(lambda done, _: token.cancel() if done == planes else None)
    return token


def _content(folder: Path) -> dict[str, bytes]:
    """Return the content of each file below a folder, hidden ones too; subfolders have no content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")
    }


@pytest.mark.parametrize("has_folder", [False, True])
def test_planes_are_written_into_a_new_or_empty_folder(has_folder: bool, tmp_path: Path, adapter: Adapter) -> None:
    folder = tmp_path / "deep" / "planes"
    if has_folder:
        folder.mkdir(parents=True)
    table = write_planes(CancelToken(), folder, _planes(ArraySource(IMAGES)), start=adapter)
    assert table == folder / TABLE
    samples = read_dataset(table).samples
    for z, sample in enumerate(samples):
        np.testing.assert_array_equal(sample.image, IMAGES[z])
        np.testing.assert_array_equal(sample.labels, LABELS * z)
    assert len(samples) == 3
    assert Adapter.load(folder / START).key == adapter.key
    assert os.listdir(folder.parent) == ["planes"]
    (tmp_path / "usual").mkdir()
    assert folder.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_complete_planes_are_complete_when_they_are_read_again(tmp_path: Path) -> None:
    planes = _planes(ArraySource(IMAGES))
    planes[1] = replace(planes[1], complete=True)
    dataset = read_dataset(write_planes(CancelToken(), tmp_path / "planes", planes))
    assert [sample.complete for sample in dataset.samples] == [False, True, False]
    assert [pair[4] for pair in dataset.pairs] == [None, True, None]


@pytest.mark.parametrize("cancelled_after", [0, 2, 3])
def test_a_save_that_is_cancelled_changes_nothing(cancelled_after: int, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("earlier")
    (tmp_path / "run_data").mkdir()
    before = _content(tmp_path)
    token = _cancelled_after(cancelled_after)
    planes = _planes(ArraySource(IMAGES))
    with pytest.raises(JobCancelledError):
        write_settings(token, path=tmp_path / "run.yaml", values={}, model=None, planes=planes)
    assert _content(tmp_path) == before


def test_a_save_that_fails_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("earlier")
    before = _content(tmp_path)
    with pytest.raises(OSError, match="no space left"):
        write_settings(CancelToken(), path=tmp_path / "run.yaml", values={}, model=None, planes=_planes(_Disk(IMAGES)))
    assert _content(tmp_path) == before


def test_files_in_the_target_folder_are_kept(tmp_path: Path) -> None:
    (tmp_path / "run_data").mkdir()
    (tmp_path / "run_data" / "mine.txt").write_text("mine")
    before = _content(tmp_path)
    with raises(InputError, "folder-not-empty", match="run_data"):
        write_settings(
            CancelToken(), path=tmp_path / "run.yaml", values={}, model=None, planes=_planes(ArraySource(IMAGES))
        )
    assert _content(tmp_path) == before


def test_settings_alone_need_no_folder(tmp_path: Path) -> None:
    write_settings(CancelToken(), path=tmp_path / "run.yaml", values={"steps": 7}, model=None)
    assert os.listdir(tmp_path) == ["run.yaml"]
    assert yaml.safe_load((tmp_path / "run.yaml").read_text())["training"] == {"steps": 7}


def test_settings_with_another_ending_are_refused(tmp_path: Path) -> None:
    with raises(InputError, "wrong-file-ending", match=r"run\.txt"):
        write_settings(CancelToken(), path=tmp_path / "run.txt", values={}, model=None)
    assert not os.listdir(tmp_path)


def test_classes_are_written_beside_the_planes(tmp_path: Path) -> None:
    classes = ObjectClasses({1: 4, 2: 9, 3: 9}, {4: "nucleus", 9: "debris", 11: "dust"})
    planes = [replace(plane, classes=classes) for plane in _planes(ArraySource(IMAGES))[1:]]
    dataset = read_dataset(write_planes(CancelToken(), tmp_path / "set", planes))
    assert [dict(sample.classes) for sample in dataset.samples] == [{1: 4}, {2: 9}]
    assert dataset.class_names == {4: "nucleus", 9: "debris"}

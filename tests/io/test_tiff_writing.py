"""Writing label images as TIFF."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile
from error_codes import raises
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.tiff.writing import write_labels


@pytest.fixture
def labels() -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, 300, (40, 30))


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", ">u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("shape", [(7, 9), (4, 7, 9), (3, 7, 9), (1, 7, 9), (7, 9, 3), (1, 1)])
def test_labels_are_read_back_as_they_were(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    labels = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    path = write_labels(tmp_path / "labels.tif", labels)
    again = tifffile.imread(path)
    assert again.shape == shape
    np.testing.assert_array_equal(again, labels)


@pytest.mark.parametrize(("largest", "dtype"), [(65535, np.uint16), (65536, np.uint32), (2**32 - 1, np.uint32)])
def test_large_ids_survive_in_a_type_that_holds_them(tmp_path: Path, largest: int, dtype: type) -> None:
    labels = np.array([[0, 1], [300, largest]], np.int64)
    again = tifffile.imread(write_labels(tmp_path / "labels.tif", labels))
    assert again.dtype == dtype
    assert again.tolist() == labels.tolist()


def test_ids_that_do_not_fit_are_refused_rather_than_changed(tmp_path: Path) -> None:
    with raises(InputError, "ids-too-large", match=str(2**32 + 5)):
        write_labels(tmp_path / "labels.tif", np.array([[0, 2**32 + 5]], np.int64))


@pytest.mark.parametrize("shape", [(3, 7, 9), (7, 9, 3), (4, 7, 9)])
def test_planes_are_never_taken_for_colours(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write_labels(tmp_path / "labels.tif", np.ones(shape, np.uint8))
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.MINISBLACK


@pytest.mark.parametrize("name", ["labels.tif", "labels.tiff", "LABELS.TIF", "a.b.Tiff"])
def test_the_path_is_returned_and_text_is_taken(tmp_path: Path, labels: NDArray[np.int64], name: str) -> None:
    assert write_labels(str(tmp_path / "new" / name), labels) == tmp_path / "new" / name
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "new" / name), labels)


def test_the_file_is_compressed(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "labels.tif", np.ones((512, 512), np.int64))
    assert path.stat().st_size < 512 * 512 * 2 / 20


@pytest.mark.parametrize("name", ["labels.png", "labels", "labels.tif.gz", ".tif"])
def test_another_ending_is_refused(tmp_path: Path, labels: NDArray[np.int64], name: str) -> None:
    with raises(InputError, "wrong-file-ending", match=r"\.tif or \.tiff"):
        write_labels(tmp_path / name, labels)
    assert list(tmp_path.iterdir()) == []


def test_negative_labels_are_refused_and_the_file_is_kept(tmp_path: Path, labels: NDArray[np.int64]) -> None:
    path = write_labels(tmp_path / "labels.tif", labels)
    with raises(InputError, "labels-negative"):
        write_labels(path, labels - 1)
    np.testing.assert_array_equal(tifffile.imread(path), labels)
    assert list(tmp_path.iterdir()) == [path]


@contextmanager
def _files_end_at(size: int) -> Iterator[None]:
    """No file can grow beyond that many bytes, as on a full disk."""
    resource = pytest.importorskip("resource", reason="only POSIX limits the size of files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_file_survives_a_write_that_fails(tmp_path: Path, labels: NDArray[np.int64]) -> None:
    path = write_labels(tmp_path / "labels.tif", labels)
    larger = np.random.default_rng(1).integers(0, 60000, (200, 200))
    with pytest.raises(OSError, match="File too large"), _files_end_at(8192):
        write_labels(path, larger)
    np.testing.assert_array_equal(tifffile.imread(path), labels)
    assert list(tmp_path.iterdir()) == [path]


def test_writing_again_replaces_the_file(tmp_path: Path, labels: NDArray[np.int64]) -> None:
    path = write_labels(tmp_path / "labels.tif", labels)
    write_labels(path, labels[:5] + 70000)
    np.testing.assert_array_equal(tifffile.imread(path), labels[:5] + 70000)

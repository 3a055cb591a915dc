"""Atomic writing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from napari_sam_lora.files import atomic_path


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _failing_write(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half of the new")
        raise RuntimeError("disk full")


@pytest.mark.parametrize("name", ["adapter.safetensors", "labels.tif", "no_suffix"])
def test_success_replaces_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"  # until the block ends
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "labels.tif"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="disk full"):
        _failing_write(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_nothing_where_there_was_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="disk full"):
        _failing_write(tmp_path / "labels.tif")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_no_temporary_either(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "labels.tif"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_that_the_block_removed_is_an_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.tif"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(path) as temporary:
        temporary.unlink()
    assert path.read_text() == "old"


def test_parent_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.json"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_a_parent_that_is_a_file_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises((FileExistsError, NotADirectoryError)), atomic_path(tmp_path / "a" / "b.json"):
        pass
    assert (tmp_path / "a").read_text() == "a file"


def test_a_folder_that_cannot_be_written_is_told_by_the_name_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / ".labels-x1y2.tif"))

    monkeypatch.setattr("napari_sam_lora.files.tempfile.mkstemp", refuse)
    with pytest.raises(PermissionError) as caught, atomic_path(tmp_path / "labels.tif"):
        pass
    assert caught.value.filename == str(tmp_path / "labels.tif")


def test_a_full_disk_is_told_by_the_name_of_the_file_and_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "labels.tif").write_text("old")
    with pytest.raises(OSError, match="No space") as caught, atomic_path(tmp_path / "labels.tif"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "labels.tif")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("labels.tif", "old")]


def test_the_temporary_lies_beside_its_target_with_the_same_ending(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "labels.tif") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".tif"
        assert temporary.name != "labels.tif"


def test_a_relative_path_given_as_text_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with atomic_path("labels.tif") as temporary:
        temporary.write_text("new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("labels.tif", "new")]


# There the permissions of a new file come from its folder; atomic_path's chmod changes nothing but "read-only".
@pytest.mark.skipif(os.name == "nt", reason="the mode of a new file follows the umask, which Windows lacks")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    path = tmp_path / "labels.tif"
    with _umask(mask):
        with atomic_path(path) as temporary:
            temporary.write_text("new")
        assert os.umask(mask) == mask  # as it was
    assert stat.S_IMODE(path.stat().st_mode) == mode

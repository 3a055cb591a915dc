"""Protect files that exist already: refuse to replace them, or keep them under another name."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.shared.file_warning import FileWarning

_LISTED = 3  # so many kept files are named in the warning


def check_replaceable(paths: Iterable[str | Path], overwrite: bool = False) -> None:
    """Check that no file would be replaced unless ``overwrite`` is true.

    Raises
    ------
    InputError
        If a path exists and ``overwrite`` is false, or is a folder.
    """
    for path in map(Path, paths):
        _check_no_folder(path)
        if path.exists() and not overwrite:
            raise InputError(
                f"{path} exists already: choose another name, or allow it to be replaced.", code="file-exists"
            )


@contextmanager
def keep_previous(paths: Iterable[str | Path]) -> Iterator[None]:
    """Rename existing files to ``NAME (previous).ENDING`` and warn of it; put them back if the block raises."""
    renamed = [(Path(path), previous) for path in paths if (previous := _rename_to_previous(path)) is not None]
    try:
        yield
    except BaseException:
        for path, previous in renamed:
            if not path.exists():
                previous.rename(path)
        raise
    if renamed:
        names = ", ".join(previous.name for _, previous in renamed[:_LISTED])
        more = " and so on" if len(renamed) > _LISTED else ""
        warnings.warn(
            FileWarning(f"The file that was there before is kept as {names}{more}.", code="previous-file-kept"),
            stacklevel=4,
        )


def _rename_to_previous(path: str | Path) -> Path | None:
    """Rename a file to ``NAME (previous).ENDING``, and return its new path; None if there is no such file."""
    target = Path(path)
    if not target.exists():
        return None
    _check_no_folder(target)
    bare, dot, ending = target.name.partition(".") if not target.name.startswith(".") else (target.name, "", "")
    number = 1
    while True:
        suffix = "previous" if number == 1 else f"previous {number}"
        previous = target.with_name(f"{bare} ({suffix}){dot}{ending}")
        if not previous.exists():
            os.replace(target, previous)
            return previous
        number += 1


def _check_no_folder(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder; enter the name of a file.", code="path-is-folder")

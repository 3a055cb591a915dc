"""Keep the figures of a benchmark in a JSON file, from which an interrupted run is continued."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

from napari_sam_lora.files import atomic_path


class _Row(Protocol):
    """A dataclass of figures.

    Attributes
    ----------
    settings : str
        Settings of the run that all its rows share.
    """

    @property
    def settings(self) -> str: ...


Row = TypeVar("Row", bound=_Row)


def write_rows(path: Path | None, rows: Sequence[Any]) -> None:
    """Write dataclasses to a JSON file, if there is a path."""
    if path is not None:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def read_rows(path: Path | None, kind: type[Row], settings: str) -> list[Row]:
    """Read the rows that an earlier run wrote; none if there is no such file.

    Raises
    ------
    ValueError
        If the file holds something else, or rows that were measured with other settings and cannot be compared.
    """
    if path is None or not path.exists():
        return []
    try:
        rows = [kind(**values) for values in json.loads(path.read_text())]
    except TypeError as error:
        raise ValueError(f"{path} holds other figures than those of this benchmark: {error}") from error
    others = sorted({row.settings for row in rows} - {settings})
    if others:
        raise ValueError(f"{path} was measured with other settings ({'; '.join(others)}), not with {settings}.")
    return rows


def append_rows(path: Path | None, known: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """Add at least one row to those known, and to the file, if there is one; return all.

    Rows that another process has written meanwhile are kept, so that methods can be measured side by side.
    """
    if path is None:
        return [*known, *new]
    rows = [*read_rows(path, type(new[0]), new[0].settings), *new]
    write_rows(path, rows)
    return rows

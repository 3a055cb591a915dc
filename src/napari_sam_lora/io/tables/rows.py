"""Read and write the rows of CSV tables."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_sam_lora.errors import InputError
from napari_sam_lora.files import atomic_path
from napari_sam_lora.images import StackPosition


def read_table(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a CSV table by column, each with its line number.

    The table has a header; values are separated by commas, semicolons or tabs.

    Raises
    ------
    InputError
        If it cannot be read as one.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            separator = max(",;\t", key=header.count)
            reader = csv.DictReader(file, delimiter=separator, skipinitialspace=True)
            rows = [
                (reader.line_num, {str(k).strip().lower(): (v or "").strip() for k, v in row.items() if k is not None})
                for row in reader
            ]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", code="file-not-readable") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path.name} is not a CSV table: {error}.", code="not-csv") from error
    return rows


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as a CSV table with a header, atomically; values of other columns are left out.

    Raises
    ------
    InputError
        If the file does not end in .csv.
    """
    target = Path(path)
    if target.suffix.lower() != ".csv":
        raise InputError(f"The name of a table must end in .csv, not {target.name}.", code="wrong-file-ending")
    with atomic_path(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return target


def stack_position(row: dict[str, str], where: str) -> StackPosition | None:
    """Return the position in its stack of a plane that is a file of its own; None if the row names no stack.

    Parameters
    ----------
    row : dict of str to str
        The columns stack, plane and axes are used.
    where : str
        Table and line, for messages.

    Raises
    ------
    InputError
        If the number of the plane is missing, or the axes are not those of a plane.
    """
    if not row.get("stack"):
        return None
    numbers = row.get("plane", "").removesuffix(".0").split()  # programs write 7.0 where some rows have none
    if not numbers or not all(number.isdecimal() for number in numbers):
        raise InputError(
            f"{where}: a plane of a stack needs its number, from 0, in the column plane.", code="plane-number-missing"
        )
    axes = _axes(row.get("axes", ""), len(numbers) + 2, where)
    return StackPosition(row["stack"], tuple(map(int, numbers)), axes)


def _axes(text: str, count: int, where: str) -> tuple[int, int] | None:
    axes = [int(axis) for axis in text.split() if axis.isdecimal() and int(axis) < count]
    if text and (len(text.split()) != 2 or len(set(axes)) != 2):
        raise InputError(
            f"{where}: the column axes holds {text!r}. It needs two different numbers from 0 to {count - 1}, with a "
            "space between them: the vertical axis of the plane, then the horizontal one. Leave it empty for the last "
            "two axes.",
            code="invalid-axes",
        )
    return (axes[0], axes[1]) if text else None

"""Rows of CSV tables."""

from __future__ import annotations

import csv
from pathlib import Path

from napari_sam_lora.errors import InputError
from napari_sam_lora.images import StackPosition


def read_table(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Rows of a CSV table with a header, separated by commas, semicolons or tabs, each with its line number.

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
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path.name} is not a CSV table: {error}.") from error
    return rows


def stack_position(row: dict[str, str], where: str) -> StackPosition | None:
    """The position of a plane that is a file of its own, from the columns stack, plane and axes.

    Parameters
    ----------
    row : dict of str to str
    where : str
        Table and line, for messages.

    Raises
    ------
    InputError
        If they do not say one.
    """
    if not row.get("stack"):
        return None
    numbers = row.get("plane", "").removesuffix(".0").split()  # programs write 7.0 where some rows have none
    if not numbers or not all(number.isdecimal() for number in numbers):
        raise InputError(f"{where}: a plane of a stack needs its number, from 0, in the column plane.")
    axes = _axes(row.get("axes", ""), len(numbers) + 2, where)
    return StackPosition(row["stack"], tuple(map(int, numbers)), axes)


def _axes(text: str, count: int, where: str) -> tuple[int, int] | None:
    axes = [int(axis) for axis in text.split() if axis.isdecimal() and int(axis) < count]
    if text and (len(text.split()) != 2 or len(set(axes)) != 2):
        raise InputError(
            f"{where}: the column axes says {text!r}. It needs two different numbers from 0 to {count - 1}, with "
            "a space between them: the axes that the plane has, vertical first. Leave it empty for the last two."
        )
    return (axes[0], axes[1]) if text else None

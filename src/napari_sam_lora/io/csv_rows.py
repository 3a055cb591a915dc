"""Rows of CSV tables."""

from __future__ import annotations

import csv
from pathlib import Path

from napari_sam_lora.errors import InputError


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

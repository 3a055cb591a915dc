"""Save and load the classes of the objects of a plane, as a file of the training set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from napari_sam_lora.errors import InputError
from napari_sam_lora.io.tables.rows import read_table, write_table

# As in the table of objects, which can be read too.
_COLUMNS = ("id", "class_id", "class")


@dataclass(frozen=True)
class ObjectClasses:
    """Classes of the objects of a plane.

    Attributes
    ----------
    by_object : mapping of int to int
        Class id, from 1, by object id; objects without a class are left out.
    names : mapping of int to str
        Names of classes by class id.
    """

    by_object: Mapping[int, int] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)


def write_object_classes(path: Path, classes: ObjectClasses) -> Path:
    """Write the class of each object as CSV, atomically."""
    rows = [(label, number, classes.names.get(number, "")) for label, number in classes.by_object.items()]
    return write_table(path, _COLUMNS, [dict(zip(_COLUMNS, row, strict=True)) for row in rows])


def read_object_classes(path: Path) -> ObjectClasses:
    """Read a file of `write_object_classes`, or a table of objects.

    Raises
    ------
    InputError
        If a row has no whole numbers as id and class_id.
    """
    by_object: dict[int, int] = {}
    names: dict[int, str] = {}
    for line, row in read_table(path):
        label, number = row.get("id", ""), row.get("class_id", "")
        if not (label.isdecimal() and number.isdecimal()):
            raise InputError(
                f"{path.name}, line {line}: the columns id and class_id must be whole numbers.", code="bad-class-row"
            )
        if int(number):
            by_object[int(label)] = int(number)
            if row.get("class"):
                names[int(number)] = row["class"]
    return ObjectClasses(by_object, names)

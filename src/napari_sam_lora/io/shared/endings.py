"""Complete the names of files to write: the ending that was typed decides, and a name without one gets the default."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from napari_sam_lora.errors import InputError

# An ending has a letter at its start: the last part of "cells 0.5" or "week.2" is none.
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,11}$")


def with_ending(path: str | Path, endings: Sequence[str], default: str = "") -> Path:
    """Return the path, with the default ending added if it has none.

    Parameters
    ----------
    path : path-like
    endings : sequence of str
        Possible endings, with a dot and in lower case.
    default : str
        By default the first of them.

    Raises
    ------
    InputError
        If the path has another ending.
    """
    target = Path(path)
    if target.name.lower().endswith(tuple(endings)):
        return target
    if _ENDING.search(target.name):
        raise InputError(
            f"{target.name} has an unknown ending; the possible ones are {', '.join(endings)}.",
            code="wrong-file-ending",
        )
    return target.with_name(target.name + (default or endings[0]))

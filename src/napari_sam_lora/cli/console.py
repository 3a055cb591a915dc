"""Output of commands: lines, warnings, tables, progress bars and files."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from tqdm import tqdm

from napari_sam_lora.errors import ChannelError, InputError
from napari_sam_lora.files import atomic_path

# In a log file a bar adds a line only this often.
_LOG_SECONDS = 30.0
_SOON = 0.3  # seconds; faster work shows no bar


@dataclass(frozen=True)
class Console:
    """Output of a command: results to standard output, warnings and bars to standard error.

    Attributes
    ----------
    quiet : bool
        Show only errors, and results that were asked for.
    """

    quiet: bool = False

    @property
    def watched(self) -> bool:
        """Return whether bars go to a terminal, not to a file."""
        return sys.stderr.isatty()

    def say(self, text: str = "") -> None:
        """Print a line about progress or results."""
        if not self.quiet:
            _write(text, sys.stdout)

    def warn(self, text: str) -> None:
        """Print a warning."""
        if not self.quiet:
            _write(f"warning: {text}", sys.stderr)

    def report_error(self, text: str) -> None:
        """Print an error after which the command continues."""
        _write(f"napari-sam-lora: {text}", sys.stderr)

    def bar(self, name: str, total: float | None, unit: str = "it", **options: Any) -> Any:
        """Return a progress bar with the remaining time, to be used in a ``with`` block."""
        return tqdm(
            total=total,
            desc=name,
            unit=unit,
            disable=self.quiet,
            file=sys.stderr,
            mininterval=0.1 if self.watched else _LOG_SECONDS,
            delay=_SOON if self.watched else _LOG_SECONDS,
            dynamic_ncols=self.watched,
            **options,
        )

    @contextmanager
    def progress(self, name: str, unit: str = "it", **options: Any) -> Iterator[Callable[[int, int], None]]:
        """Show a bar that is updated by calling a function with the amounts done and in total."""
        with self.bar(name, None, unit, **options) as bar:

            def update(done: int, total: int) -> None:
                bar.total = total or None
                bar.update(done - bar.n)

            yield update


def _write(text: str, stream: TextIO) -> None:
    """Print a line without breaking a progress bar on the terminal."""
    if sys.stderr.isatty():
        tqdm.write(text, file=stream)
    else:
        print(text, file=stream, flush=True)


def one_line(error: BaseException, text: str = "") -> str:
    """Return the message of an error, or ``text`` instead, in one line, with the option that helps."""
    text = " ".join((text or str(error)).split())
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ChannelError):
        cause = cause.__cause__
    return text if cause is None else f"{text} (--channel N, counted from 0; an adapter brings its own)"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format columns of text; those that hold numbers are aligned to the right."""
    cells = [header, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    numeric = [bool(rows) and all(_is_number(row[column]) for row in rows) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    )


def _is_number(text: str) -> bool:
    return text.strip("+-0123456789.,%") == ""


def plain(value: Any) -> Any:
    """Convert a value to one that JSON can hold; NaN and infinity become null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, np.generic):
        return plain(value.item())
    return str(value) if isinstance(value, Path) else value


def to_json(value: Any) -> str:
    """Return a value as indented JSON."""
    return json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False)


def write_text(path: Path, text: str) -> None:
    """Write a text file, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def check_output(paths: Sequence[Path], overwrite: bool) -> None:
    """Check output paths before the work begins.

    Raises
    ------
    InputError
        If one of them exists and may not be replaced, or cannot be written as a file.
    """
    for path in paths:
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a file.", code="path-is-folder")
        for parent in path.parents:
            if parent.exists():
                if not parent.is_dir():
                    raise InputError(f"{path} cannot be written: {parent} is a file.", code="output-below-file")
                break
    existing = [str(path) for path in paths if path.exists()]
    if existing and not overwrite:
        count = len(existing)
        verb = f" and {count - 3} more files exist" if count > 3 else " exists" if count == 1 else " exist"
        raise InputError(
            f"{', '.join(existing[:3])}{verb} already: add --overwrite to replace, or choose another --output.",
            code="file-exists",
        )

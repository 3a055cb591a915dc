"""What to ask about adapter files of other projects, which do not say everything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QInputDialog, QWidget

from napari_sam_lora.errors import InputError
from napari_sam_lora.session import AdapterLibrary, CancelToken

if TYPE_CHECKING:
    from napari_sam_lora.model.checkpoints import LoadedModel

Blocks = tuple[int, ...]


@dataclass(frozen=True)
class BlocksQuestion:
    """A file that does not say which encoder blocks it adapts.

    Attributes
    ----------
    path : Path
    words : str
    adapted, count : int
        How many it adapts, and how many there are.
    """

    path: Path
    words: str
    adapted: int
    count: int

    def ask(self, parent: QWidget) -> Blocks | None:
        """The blocks that the user names; None if the user gives up. The last ones are suggested."""
        last = self.count - 1
        words = f"{self.path.name} adapts {self.adapted} of the {self.count} encoder blocks. Which (0 to {last})?"
        suggested = f"{self.count - self.adapted}-{last}"
        text, is_sure = QInputDialog.getText(parent, "Which encoder blocks?", words, text=suggested)
        return parse_blocks(text) if is_sure else None


def import_or_ask(
    token: CancelToken, *, library: AdapterLibrary, path: Path, loaded: LoadedModel, blocks: Blocks | None
) -> str | BlocksQuestion:
    """Add an adapter file in a worker thread; returns its name, or what to ask first."""
    from napari_sam_lora.lora.interop import UnknownBlocksError  # noqa: PLC0415  imports torch

    try:
        return library.import_file(path, loaded, blocks)
    except UnknownBlocksError as error:
        return BlocksQuestion(path, str(error), error.adapted, error.count)


def parse_blocks(text: str) -> Blocks:
    """Numbers and ranges such as "2, 5" and "8-11".

    Raises
    ------
    InputError
        If it is something else.
    """
    found: set[int] = set()
    for part in re.split(r"[\s,;]+", text.strip()):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match is None:
            raise InputError(f"Name encoder blocks as numbers or ranges, such as 2, 5 or 8-11, not {text!r}.")
        found |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(found))

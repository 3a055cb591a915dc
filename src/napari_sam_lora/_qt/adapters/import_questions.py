"""What to ask about adapter files of other projects, which do not say everything."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from qtpy.QtWidgets import QInputDialog, QWidget

from napari_sam_lora.errors import InputError
from napari_sam_lora.session import AdapterLibrary, CancelToken

if TYPE_CHECKING:
    from napari_sam_lora.model.checkpoints import LoadedModel

Blocks = tuple[int, ...]
LARGEST_ALPHA = 4096


@dataclass(frozen=True)
class Answers:
    """What is known of a file beyond what it says.

    Attributes
    ----------
    blocks : tuple of int, optional
        Encoder blocks that it adapts.
    alpha : float, optional
        Its scale.
    """

    blocks: Blocks | None = None
    alpha: float | None = None


@dataclass(frozen=True)
class BlocksQuestion:
    """A file that does not say which encoder blocks it adapts.

    Attributes
    ----------
    path : Path
    known : Answers
    adapted, count : int
        How many it adapts, and how many there are.
    """

    path: Path
    known: Answers
    adapted: int
    count: int

    def ask(self, parent: QWidget) -> Answers | None:
        """With the blocks that the user names; None if the user gives up. The last ones are suggested."""
        last = self.count - 1
        words = f"{self.path.name} adapts {self.adapted} of the {self.count} encoder blocks. Which (0 to {last})?"
        suggested = f"{self.count - self.adapted}-{last}"
        text, is_sure = QInputDialog.getText(parent, "Which encoder blocks?", words, text=suggested)
        return replace(self.known, blocks=parse_blocks(text)) if is_sure else None


@dataclass(frozen=True)
class AlphaQuestion:
    """A file that does not say by what its addition is multiplied.

    Attributes
    ----------
    path : Path
    known : Answers
    rank : int
    """

    path: Path
    known: Answers
    rank: int

    def ask(self, parent: QWidget) -> Answers | None:
        """With the alpha that the user gives; None if the user gives up. That of most trainings is suggested."""
        words = (
            f"{self.path.name} is a file of LoRA-ViT, of rank {self.rank}. "
            "With which alpha was it trained? (It is often the rank.) If unsure, keep the suggested number."
        )
        alpha, is_sure = QInputDialog.getInt(parent, "Which alpha?", words, self.rank, self.rank, LARGEST_ALPHA)
        return replace(self.known, alpha=float(alpha)) if is_sure else None


Question: TypeAlias = BlocksQuestion | AlphaQuestion


def import_or_ask(
    token: CancelToken, *, library: AdapterLibrary, path: Path, loaded: LoadedModel, known: Answers
) -> str | Question:
    """Add an adapter file in a worker thread; returns its name, or what to ask first."""
    from napari_sam_lora.lora.interop import UnknownBlocksError  # noqa: PLC0415  imports torch
    from napari_sam_lora.lora.layouts import UnknownAlphaError  # noqa: PLC0415

    try:
        return library.import_file(path, loaded, known.blocks, known.alpha)
    except UnknownBlocksError as error:
        return BlocksQuestion(path, known, error.adapted, error.count)
    except UnknownAlphaError as error:
        return AlphaQuestion(path, known, error.rank)


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

"""Questions to the user about adapter files of other projects, which do not hold everything needed."""

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
MAX_ALPHA = 4096


@dataclass(frozen=True)
class Answers:
    """Answers of the user about a file.

    Attributes
    ----------
    blocks : tuple of int, optional
        Encoder blocks that the file adapts.
    alpha : float, optional
        LoRA alpha that it was trained with.
    """

    blocks: Blocks | None = None
    alpha: float | None = None


@dataclass(frozen=True)
class BlocksQuestion:
    """Question about a file that does not tell which encoder blocks it adapts.

    Attributes
    ----------
    path : Path
    answers : Answers
        Earlier answers about this file.
    adapted, count : int
        Number of blocks that it adapts, and of all blocks in the encoder.
    """

    path: Path
    answers: Answers
    adapted: int
    count: int

    def ask(self, parent: QWidget) -> Answers | None:
        """Ask for the blocks, suggesting the last ones; return all answers so far, or None if the user cancels."""
        last = self.count - 1
        question = f"{self.path.name} adapts {self.adapted} of the {self.count} encoder blocks. Which (0 to {last})?"
        suggested = f"{self.count - self.adapted}-{last}"
        text, is_answered = QInputDialog.getText(parent, "Which encoder blocks?", question, text=suggested)
        return replace(self.answers, blocks=parse_blocks(text)) if is_answered else None


@dataclass(frozen=True)
class AlphaQuestion:
    """Question about a file that does not tell the alpha it was trained with.

    Attributes
    ----------
    path : Path
    answers : Answers
        Earlier answers about this file.
    rank : int
        LoRA rank of the file.
    """

    path: Path
    answers: Answers
    rank: int

    def ask(self, parent: QWidget) -> Answers | None:
        """Ask for the alpha, suggesting the rank; return all answers so far, or None if the user cancels."""
        question = (
            f"{self.path.name} is a LoRA-ViT file of rank {self.rank}. "
            "With which alpha was it trained? If you do not know, keep the suggested number, which is the rank."
        )
        alpha, is_answered = QInputDialog.getInt(parent, "Which alpha?", question, self.rank, self.rank, MAX_ALPHA)
        return replace(self.answers, alpha=float(alpha)) if is_answered else None


Question: TypeAlias = BlocksQuestion | AlphaQuestion


def import_or_ask(
    token: CancelToken, *, library: AdapterLibrary, path: Path, loaded: LoadedModel, answers: Answers
) -> str | Question:
    """Add an adapter file to the library; return its name, or the question to ask first. Called in a worker thread."""
    from napari_sam_lora.lora.foreign_layouts import UnknownAlphaError  # noqa: PLC0415
    from napari_sam_lora.lora.interop import UnknownBlocksError  # noqa: PLC0415  imports torch

    try:
        return library.import_file(path, loaded, answers.blocks, answers.alpha)
    except UnknownBlocksError as error:
        return BlocksQuestion(path, answers, error.adapted, error.count)
    except UnknownAlphaError as error:
        return AlphaQuestion(path, answers, error.rank)


def parse_blocks(text: str) -> Blocks:
    """Parse block numbers and ranges such as "2, 5" and "8-11"; return the sorted numbers.

    Raises
    ------
    InputError
        If the text holds anything else.
    """
    blocks: set[int] = set()
    for item in re.split(r"[\s,;]+", text.strip()):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", item)
        if match is None:
            raise InputError(
                f"Enter encoder blocks as numbers or ranges, such as 2, 5 or 8-11, not {text!r}.",
                code="block-numbers-unreadable",
            )
        blocks |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(blocks))

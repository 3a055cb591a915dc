"""Run-length encoding of masks, as lists and as COCO's compressed text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora.errors import InputError


def encode_runs(mask: NDArray[np.bool_]) -> list[int]:
    """Return the lengths of runs of a mask (y, x), alternately outside and inside, column by column."""
    values = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(values[1:] != values[:-1])
    return [int(length) for length in np.diff(np.concatenate([[0], edges, [mask.size]]))]


def decode_runs(counts: Sequence[int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask (y, x) of run lengths; the inverse of `encode_runs`.

    Raises
    ------
    InputError
        If the runs do not fill the mask.
    """
    lengths = np.asarray(counts, np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != shape[0] * shape[1]:
        raise InputError(f"its run lengths do not fill an image of {shape}.", code="run-lengths-do-not-fit")
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(shape[1], shape[0]).T


def compress_runs(counts: Sequence[int]) -> str:
    """Return run lengths as COCO's text: five bits a character, from the fourth on less the last but one.

    See ``rleToString`` of cocoapi's maskApi.c.
    """
    letters: list[str] = []
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            letters.append(chr((bits | (0x20 if more else 0)) + 48))
    return "".join(letters)


def decompress_runs(text: str) -> list[int]:
    """Return the run lengths of COCO's text; the inverse of `compress_runs`.

    See ``rleFrString`` of cocoapi's maskApi.c.

    Raises
    ------
    InputError
        If a character does not belong to the encoding.
    """
    counts: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[position]) - 48
            if not 0 <= bits < 64:
                raise InputError(
                    "its compressed run lengths hold a character that does not belong there.",
                    code="run-lengths-invalid-character",
                )
            value |= (bits & 0x1F) << shift
            more, shift, position = bool(bits & 0x20), shift + 5, position + 1
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts

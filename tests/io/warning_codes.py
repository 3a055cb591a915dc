"""Expect warnings by their code, so that messages can be reworded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from napari_sam_lora.io.shared.file_warning import FileWarning


@contextmanager
def warns(code: str) -> Iterator[None]:
    """Expect exactly one `FileWarning`, with this code."""
    with pytest.warns(FileWarning) as caught:
        yield
    assert [one.message.code for one in caught if isinstance(one.message, FileWarning)] == [code]

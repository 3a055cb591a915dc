"""Expect errors by their code, so that messages can be reworded."""

from __future__ import annotations

from typing import TypeVar

import pytest

from napari_sam_lora.errors import SamLoraError

E = TypeVar("E", bound=SamLoraError)


def raises(kind: type[E], code: str, *, match: str | None = None) -> pytest.RaisesExc[E]:
    """Expect an error of this kind with this code; ``match`` is for names and numbers that the message must hold."""
    return pytest.RaisesExc(kind, match=match, check=lambda error: error.code == code)

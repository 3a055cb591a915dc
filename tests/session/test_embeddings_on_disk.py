"""Sessions that keep embeddings in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam_lora import Model
from napari_sam_lora.session import ArraySource, PlaneKey, Preview, Session

from .helpers import SOON, dense, scores_of

PLANE = PlaneKey.of("nuclei", 2)


def _no_encoder(model: Model) -> None:
    def fail(_: object) -> None:
        raise AssertionError("encoded again")

    model.loaded.sam.image_encoder.forward = fail


def _preview_of_new_session(image: NDArray[np.uint8], folder: Path | None, *, encodes: bool) -> Preview:
    session = Session()
    try:
        session.add_image("nuclei", ArraySource(image))
        model = session.models.load("sam_nano", "cpu", 128, folder).result(SOON)
        if not encodes:
            _no_encoder(model)
        session.prompts.add(PLANE, "box", [40, 60, 70, 95])
        return session.prompts.preview(PLANE).result(SOON)
    finally:
        assert session.close(SOON)


def test_a_second_session_with_the_folder_does_not_encode_again(
    tmp_path: Path, nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    first = _preview_of_new_session(nuclei[0], tmp_path, encodes=True)
    second = _preview_of_new_session(nuclei[0], tmp_path, encodes=False)
    assert dense(first).any()
    np.testing.assert_array_equal(dense(second), dense(first))
    assert scores_of(second) == scores_of(first)


def test_without_a_folder_each_session_encodes(nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    _preview_of_new_session(nuclei[0], None, encodes=True)
    with pytest.raises(AssertionError, match="encoded again"):
        _preview_of_new_session(nuclei[0], None, encodes=False)

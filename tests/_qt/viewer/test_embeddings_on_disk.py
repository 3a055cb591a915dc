"""The preference to keep embeddings on disk."""

from __future__ import annotations

from typing import Any

import pytest

from napari_sam_lora._qt.viewer import preferences as settings
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.preferences import Preferences, embeddings_folder, save_preferences
from napari_sam_lora.model.download import cache_folder

from ..conftest import WAIT_MS


@pytest.fixture(autouse=True)
def _no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a napari without preferences of plugins."""
    monkeypatch.setattr(settings, "_napari_page", lambda: None)


@pytest.mark.parametrize("wanted", [False, True])
def test_a_model_keeps_embeddings_in_the_cache_folder_only_if_the_user_wants_it(
    controller: Controller, wanted: bool, qtbot: Any
) -> None:
    save_preferences(Preferences(keep_embeddings=wanted))
    before = controller.session.models.model
    controller.model_loader.load_model("sam_nano", "cpu", 128)
    qtbot.waitUntil(
        lambda: controller.session.models.model is not before and not controller.model_loader.loading, timeout=WAIT_MS
    )
    model = controller.session.models.model
    assert model is not None
    files = model.predictor.cache.files
    assert (None if files is None else files.folder) == (cache_folder() / "embeddings" if wanted else None)


def test_embeddings_are_not_kept_on_disk_unless_chosen() -> None:
    assert embeddings_folder() is None

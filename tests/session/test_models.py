"""The model and the active adapter, which jobs take when they are queued."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Event
from typing import Any

from napari_sam_lora import Adapter
from napari_sam_lora.session import PlaneKey, Preview, Priority, Session

from .helpers import SOON, scores_of

PLANE = PlaneKey.of("nuclei", 2)


def test_a_preview_is_of_the_adapter_that_was_active_when_it_was_asked_for(session: Session, adapter: Adapter) -> None:
    session.models.adapters.add(adapter, "a")
    session.prompts.add(PLANE, "box", [40, 60, 70, 95])
    base = session.prompts.preview(PLANE).result(SOON)
    released = Event()
    session.models.submit(Priority.PROMPT, "wait", lambda _: released.wait(SOON))
    asked_before: Future[Preview] = session.prompts.preview(PLANE)
    session.models.activate("a")
    released.set()
    preview = asked_before.result(SOON)
    assert preview.adapter == ""
    assert scores_of(preview) == scores_of(base)
    assert session.prompts.preview(PLANE).result(SOON).adapter == "a"


def test_an_adapter_of_the_former_model_is_not_active_after_loading_another(
    session: Session, adapter: Adapter, monkeypatch: Any
) -> None:
    from napari_sam_lora import api  # noqa: PLC0415

    class Loaded:
        weights_hash = "other weights"

    class Other:
        loaded = Loaded()

    session.models.adapters.add(adapter, "a")
    session.models.activate("a")
    seen: list[str] = []
    session.models.model_changed.connect(lambda: seen.append(session.models.active))
    monkeypatch.setattr(api, "load_model", lambda *_, **__: Other())
    session.models.load("sam_nano").result(SOON)
    assert seen == [""]

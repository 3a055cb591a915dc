"""Jobs that wait for a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import QCoreApplication, QEvent, QObject

from napari_sam_lora import Model
from napari_sam_lora._qt.viewer.model_loader import ModelLoader
from napari_sam_lora._qt.viewer.thread_bridge import ThreadBridge
from napari_sam_lora.errors import CheckpointError
from napari_sam_lora.session import Session


class Loading:
    """A session without a model, and a load that ends when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.session = Session()
        self.events = ThreadBridge(self.session)
        self.loader = ModelLoader(self.session, self.events, self.events)
        self.futures: list[Future[Any]] = []
        monkeypatch.setattr(self.session.models, "load", self._load)

    def _load(self, name: str | Path, *_: Any) -> Future[Any]:
        self.futures.append(Future())
        return self.futures[-1]

    def finish(self, model: Model) -> None:
        """End the load that was started last."""
        self.session.models._model = model
        self.futures[-1].set_result(model)


@pytest.fixture
def waiting(qapp: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loading]:
    """Yield a loader of a session without a model."""
    made = Loading(monkeypatch)
    yield made
    made.events.close()
    assert made.session.close(10)


def _note(calls: list[str], what: str) -> Callable[[], None]:
    return lambda: calls.append(what)


def test_jobs_wait_for_one_load_and_run_in_order(waiting: Loading, nano: Model) -> None:
    calls: list[str] = []
    for name in ("first", "second"):
        waiting.loader.when_loaded(_note(calls, name), waiting.events)
    assert (calls, len(waiting.futures), waiting.loader.loading) == ([], 1, "sam_nano")
    waiting.finish(nano)
    assert (calls, waiting.loader.loading) == (["first", "second"], "")
    waiting.loader.when_loaded(_note(calls, "third"), waiting.events)
    assert calls == ["first", "second", "third"]


def test_a_job_waits_for_the_model_that_replaced_the_one_being_loaded(waiting: Loading, nano: Model) -> None:
    calls: list[str] = []
    waiting.loader.when_loaded(_note(calls, "job"), waiting.events)
    waiting.loader.load_model("vit_t")
    waiting.futures[0].cancel()
    assert calls == []
    waiting.finish(nano)
    assert calls == ["job"]


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (lambda future: future.set_exception(CheckpointError("The file is damaged.")), "The file is damaged."),
        (lambda future: future.cancel(), ""),
    ],
)
def test_a_job_is_given_up_if_the_load_fails_or_is_cancelled(
    waiting: Loading, nano: Model, end: Callable[[Future[Any]], Any], message: str
) -> None:
    calls: list[str] = []
    waiting.loader.when_loaded(_note(calls, "job"), waiting.events, calls.append)
    end(waiting.futures[-1])
    assert (calls, waiting.loader.failure) == ([message], message)
    waiting.loader.load_model("sam_nano")
    waiting.finish(nano)
    assert calls == [message], "it does not run after a later load"


def test_a_job_that_was_dropped_or_whose_owner_is_deleted_does_not_run(waiting: Loading, nano: Model) -> None:
    calls: list[str] = []
    drop = waiting.loader.when_loaded(_note(calls, "dropped"), waiting.events)
    owner = QObject()
    waiting.loader.when_loaded(_note(calls, "deleted"), owner)
    drop()
    owner.deleteLater()
    QCoreApplication.sendPostedEvents(owner, QEvent.Type.DeferredDelete)
    waiting.finish(nano)
    assert calls == []

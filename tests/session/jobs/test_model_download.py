"""Models are downloaded while other work goes on."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from error_codes import raises

from napari_sam_lora import Model
from napari_sam_lora.errors import CheckpointError
from napari_sam_lora.session import PlaneKey, Session

from ..helpers import SOON

PLANE = PlaneKey.of("nuclei", 2)
Progress = Callable[[int, int], None]


class Server:
    """Stands for the network: gives the file after `go` is set."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def __call__(self, info: Any, progress: Progress | None = None) -> Path:
        self.asked.append(info.name)
        assert progress is not None
        progress(1, 4)
        self.begun.set()
        assert self.go.wait(SOON)
        if self.error is not None:
            raise self.error
        progress(4, 4)
        return Path(info.file_name)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    monkeypatch.setattr("napari_sam_lora.model.download.model_path", made)
    yield made
    made.go.set()


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch, nano: Model) -> Model:
    """Replace loading by a model that stands for any downloaded file."""
    made = Model(nano.loaded)
    monkeypatch.setattr("napari_sam_lora.api.load_model", lambda *_, **__: made)
    return made


def test_prompting_goes_on_with_the_present_model_during_a_download(
    session: Session, server: Server, other: Model
) -> None:
    before = session.models.model
    loading = session.models.load("vit_b")
    assert server.begun.wait(SOON)
    session.prompts.add(PLANE, "box", [40, 60, 70, 95])
    assert len(session.prompts.preview(PLANE).result(SOON)) == 1
    assert session.models.model is before
    server.go.set()
    assert loading.result(SOON) is other
    assert session.models.model is other


def test_a_decoder_is_fetched_after_its_model_and_may_be_missing(
    session: Session, other: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fetch(info: Any, progress: Progress) -> Path:
        asked.append(info.name)
        if info.decoder is None:
            raise CheckpointError("It cannot be downloaded.")
        return Path(info.file_name)

    monkeypatch.setattr("napari_sam_lora.model.download.model_path", fetch)
    assert session.models.load("vit_b_lm").result(SOON) is other
    assert asked == ["vit_b_lm", "vit_b_lm_decoder"]


def test_progress_of_a_download_is_reported_under_the_models_key(
    session: Session, server: Server, other: Model
) -> None:
    reports: list[tuple[object, int, int]] = []
    session.models.progressed.connect(lambda *report: reports.append(report))
    server.go.set()
    session.models.load("vit_b").result(SOON)
    assert reports == [(("model",), 1, 4), (("model",), 4, 4)]


def test_a_download_is_cancelled_at_once_though_the_connection_gives_no_answer(
    session: Session, server: Server, other: Model
) -> None:
    before = session.models.model
    failures: list[str] = []
    session.models.failed.connect(failures.append)
    loading = session.models.load("vit_b")
    assert server.begun.wait(SOON)
    session.models.cancel("model")
    assert loading.cancelled()
    server.go.set()
    assert session.close(SOON)
    assert session.models.model is before
    assert failures == []


def test_a_newer_choice_replaces_a_download(session: Session, server: Server, other: Model) -> None:
    first = session.models.load("vit_b")
    assert server.begun.wait(SOON)
    second = session.models.load("vit_l")
    assert first.cancelled()
    server.go.set()
    assert second.result(SOON) is other
    assert server.asked == ["vit_b", "vit_l"]


def test_what_comes_with_the_package_is_not_fetched(session: Session, server: Server, other: Model) -> None:
    assert session.models.load("sam_nano").result(SOON) is other
    assert server.asked == []


def test_a_download_that_fails_is_reported_and_the_present_model_stays(session: Session, server: Server) -> None:
    before = session.models.model
    failures: list[str] = []
    session.models.failed.connect(failures.append)
    server.error = CheckpointError("Fetch it in another way.", code="no-connection")
    server.go.set()
    with raises(CheckpointError, "no-connection"):
        session.models.load("vit_b").result(SOON)
    assert session.models.model is before
    assert failures == ["Fetch it in another way."]


def test_closing_does_not_wait_for_a_download(session: Session, server: Server, other: Model) -> None:
    loading = session.models.load("vit_b")
    assert server.begun.wait(SOON)
    assert not session.close(0)
    with pytest.raises(CancelledError):
        loading.result(0)
    server.go.set()
    assert session.close(SOON)


def test_a_program_that_ends_after_closing_lets_the_worker_end_first() -> None:
    code = """
import threading, time
from napari_sam_lora.session.jobs.worker import JobThread
begun = threading.Event()
def work(token):
    begun.set()
    time.sleep(0.3)
    print("ended", flush=True)
thread = JobThread()
thread.submit("key", work)
begun.wait()
assert not thread.close(0)
print("closed", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["closed", "ended"]
    assert done.stderr == ""

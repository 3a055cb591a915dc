"""Fetching of named models, from a server on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import xxhash
from error_codes import raises

from napari_sam_lora.errors import CheckpointError
from napari_sam_lora.model.download import cache_folder, is_available, model_path
from napari_sam_lora.model.registry import MODELS, ModelInfo

CONTENT = np.random.default_rng(0).bytes((5 << 20) // 2)  # two and a half pieces of a download
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
XXH128 = f"xxh128:{xxhash.xxh128(CONTENT).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Serves `CONTENT` at /model.pth, as far as ``sent`` bytes, and counts the requests."""

    daemon_threads = True
    sent = len(CONTENT)
    with_length = True
    requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/model.pth"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.path != "/model.pth":
            self.send_error(404)
            return
        self.send_response(200)
        if self.server.with_length:
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: self.server.sent])

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(("127.0.0.1", 0), _Handler) as serving:
        thread = Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@pytest.fixture
def info(server: Server) -> ModelInfo:
    return ModelInfo("far", "vit_b", "CC0-1.0", "nobody", "For tests.", 3, url=server.url, digest=XXH128)


def _kept() -> list[str]:
    return [path.name for path in cache_folder().rglob("*")] if cache_folder().exists() else []


@pytest.mark.parametrize("digest", [XXH128, SHA256], ids=["xxh128", "sha256"])
def test_a_model_is_fetched_once_and_then_found(server: Server, info: ModelInfo, digest: str) -> None:
    info = replace(info, digest=digest)
    assert not is_available(info)
    path = model_path(info)
    assert path == cache_folder() / "far.pth"
    assert path.read_bytes() == CONTENT
    assert is_available(info)
    assert _kept() == ["far.pth"]
    server.shutdown()
    server.server_close()
    assert model_path(info) == path
    assert server.requests == 1


def test_progress_rises_to_the_total_and_not_beyond(info: ModelInfo) -> None:
    calls: list[tuple[int, int]] = []
    model_path(info, lambda done, total: calls.append((done, total)))
    assert len(calls) >= 3
    assert {total for _, total in calls} == {len(CONTENT)}
    done = [count for count, _ in calls]
    assert done == sorted(done)
    assert done[0] > 0
    assert done[-1] == len(CONTENT)


def test_without_a_known_size_the_total_is_zero_and_progress_still_rises(server: Server, info: ModelInfo) -> None:
    server.with_length = False
    calls: list[tuple[int, int]] = []
    assert model_path(info, lambda done, total: calls.append((done, total))).read_bytes() == CONTENT
    assert {total for _, total in calls} == {0}
    done = [count for count, _ in calls]
    assert done == sorted(done)
    assert done[-1] >= len(CONTENT)


@pytest.mark.parametrize("algorithm", ["xxh128", "sha256"])
def test_a_file_with_another_hash_is_refused_and_not_kept(info: ModelInfo, algorithm: str) -> None:
    wrong = replace(info, digest=f"{algorithm}:{'0' * (32 if algorithm == 'xxh128' else 64)}")
    with raises(CheckpointError, "download-with-wrong-hash") as caught:
        model_path(wrong)
    assert str(info.url) in str(caught.value)
    assert str(cache_folder() / "far.pth") in str(caught.value)
    assert _kept() == []
    assert not is_available(wrong)


def test_a_damaged_file_in_the_cache_is_fetched_again(server: Server, info: ModelInfo) -> None:
    model_path(info).write_bytes(CONTENT[:-1])
    assert model_path(info).read_bytes() == CONTENT
    assert server.requests == 2


def test_a_file_put_there_by_hand_is_used(server: Server, info: ModelInfo) -> None:
    cache_folder().mkdir(parents=True, exist_ok=True)
    (cache_folder() / "far.pth").write_bytes(CONTENT)
    assert model_path(info).read_bytes() == CONTENT
    assert server.requests == 0


def _assert_says_what_to_do(error: CheckpointError, info: ModelInfo) -> None:
    assert info.name in str(error)
    assert str(info.url) in str(error)
    assert str(cache_folder() / "far.pth") in str(error)
    assert _kept() == []


def test_a_server_that_is_gone_is_reported(server: Server, info: ModelInfo) -> None:
    server.shutdown()
    server.server_close()
    with raises(CheckpointError, "download-failed") as caught:
        model_path(info)
    _assert_says_what_to_do(caught.value, info)


def test_a_file_that_is_gone_is_reported(info: ModelInfo) -> None:
    gone = replace(info, url=str(info.url).replace("model", "gone"))
    with raises(CheckpointError, "download-failed") as caught:
        model_path(gone)
    _assert_says_what_to_do(caught.value, gone)


@pytest.mark.parametrize("sent", [0, len(CONTENT) // 2, len(CONTENT) - 1])
@pytest.mark.parametrize("with_length", [True, False])
def test_a_download_that_breaks_off_leaves_nothing_and_can_be_tried_again(
    server: Server, info: ModelInfo, sent: int, with_length: bool
) -> None:
    server.sent, server.with_length = sent, with_length
    # Without a known length only the hash shows that the file is not complete.
    with raises(CheckpointError, "download-failed" if with_length else "download-with-wrong-hash") as caught:
        model_path(info)
    _assert_says_what_to_do(caught.value, info)
    server.sent = len(CONTENT)
    assert model_path(info).read_bytes() == CONTENT


class StoppedError(Exception):
    """Raised by a user interface to stop."""


def test_an_exception_in_progress_stops_the_download(server: Server, info: ModelInfo) -> None:
    calls = []

    def stop(done: int, total: int) -> None:
        calls.append(done)
        raise StoppedError

    with pytest.raises(StoppedError):
        model_path(info, stop)
    assert len(calls) == 1
    assert not is_available(info)
    assert _kept() == []
    assert model_path(info).read_bytes() == CONTENT


def test_a_cache_folder_that_cannot_be_made_is_reported(
    info: ModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NAPARI_SAM_LORA_CACHE", str(tmp_path / "file" / "models"))
    with raises(CheckpointError, "cache-folder-not-writable", match="NAPARI_SAM_LORA_CACHE"):
        model_path(info)


def test_the_cache_folder_is_the_users_unless_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAPARI_SAM_LORA_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.setenv("NAPARI_SAM_LORA_CACHE", "~/models")
    assert cache_folder() == Path.home() / "models"
    monkeypatch.delenv("NAPARI_SAM_LORA_CACHE")
    assert cache_folder().parts[-2:] == ("napari-sam-lora", "models")


def test_the_bundled_model_is_found_without_a_cache() -> None:
    assert is_available(MODELS["sam_nano"])
    path = model_path(MODELS["sam_nano"])
    assert path.is_file()
    assert _kept() == []


def test_models_that_were_not_fetched_are_not_available() -> None:
    assert [name for name, entry in MODELS.items() if is_available(entry)] == ["sam_nano"]

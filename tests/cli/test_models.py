"""The models command."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from napari_sam_lora.cli import loading
from napari_sam_lora.cli.commands import models
from napari_sam_lora.cli.console import Console
from napari_sam_lora.io.samples import samples_folder
from napari_sam_lora.model.download import cache_folder
from napari_sam_lora.model.registry import MODELS, ModelInfo
from napari_sam_lora.parameters.run import ModelSettings

from .conftest import Run

NANO = samples_folder().parent / "sam_nano.safetensors"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelInfo:
    """Register a model that a server on this machine provides."""
    (tmp_path / "web").mkdir()
    content = b"weights" * 1000
    (tmp_path / "web" / "tiny.pth").write_bytes(content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path / "web")))
    Thread(target=server.serve_forever, daemon=True).start()
    info = replace(
        MODELS["vit_b"],
        name="tiny",
        url=f"http://127.0.0.1:{server.server_port}/tiny.pth",
        digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
    )
    for module in (models, loading):
        monkeypatch.setattr(module, "MODELS", {"tiny": info})
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    return info


def test_the_list_names_every_model_with_its_licence(run: Run) -> None:
    for arguments in (("models",), ("models", "list")):
        result = run(*arguments)
        assert result.code == 0
        for info in MODELS.values():
            (line,) = (line for line in result.out.splitlines() if line.split()[0] == info.name)
            assert info.licence in line
            assert info.description in line
        assert str(cache_folder()) in result.out


def test_the_list_is_there_for_programs_too(run: Run) -> None:
    listed = json.loads(run("models", "list", "--json").out)
    assert [model["name"] for model in listed] == list(MODELS)
    assert listed[0]["here"] is True
    assert listed[1]["here"] is False
    assert listed[1]["url"] == MODELS["vit_t"].url


def test_a_model_is_fetched_once_and_then_is_here(served: ModelInfo, run: Run) -> None:
    path = cache_folder() / "tiny.pth"
    assert "tiny" in run("models", "list").out
    result = run("models", "fetch", "tiny")
    assert result.code == 0
    assert result.out == f"tiny: {path}\n"
    assert path.read_bytes() == b"weights" * 1000
    served_again = run("models", "fetch", "tiny")
    assert served_again.code == 0
    assert json.loads(run("models", "info", "tiny", "--json").out)["here"] is True


def test_a_decoder_is_fetched_with_its_model(served: ModelInfo, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = replace(served, name="tiny_decoder")
    monkeypatch.setattr(models, "MODELS", {"tiny": replace(served, decoder=decoder)})
    result = run("models", "fetch", "tiny")
    assert result.code == 0
    assert result.out.splitlines() == [f"{name}: {cache_folder() / name}.pth" for name in ("tiny", "tiny_decoder")]
    assert (cache_folder() / "tiny_decoder.pth").read_bytes() == b"weights" * 1000
    assert json.loads(run("models", "info", "tiny", "--json").out)["decoder"] == served.url
    monkeypatch.setattr(models, "MODELS", {"tiny": replace(served, decoder=replace(decoder, digest="xxh128:0"))})
    assert run("models", "fetch", "tiny").code == 1


def test_opening_a_model_fetches_its_decoder_and_goes_on_without(
    served: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_sam_lora.api.load_model", lambda name, *_: name)
    decoder = replace(served, name="tiny_decoder")
    for made, is_there in ((replace(decoder, digest="xxh128:" + "0" * 32), False), (decoder, True)):
        monkeypatch.setattr(loading, "MODELS", {"tiny": replace(served, decoder=made)})
        opened: object = loading.open_model(ModelSettings(name="tiny"), None, Console(quiet=True))
        assert opened == "tiny"
        assert (cache_folder() / "tiny_decoder.pth").exists() is is_there


def test_a_model_that_cannot_be_fetched_says_what_to_do(
    served: ModelInfo, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for changed, error_code in (
        (replace(served, url=str(served.url).replace("tiny.pth", "gone.pth")), "download-failed"),
        (replace(served, digest="sha256:" + "0" * 64), "download-with-wrong-hash"),
    ):
        monkeypatch.setattr(models, "MODELS", {"tiny": changed})
        result = run("models", "fetch", "tiny")
        assert (result.code, result.error_code) == (1, error_code)
        assert str(cache_folder() / "tiny.pth") in result.message
        assert list(cache_folder().iterdir()) == []


def test_ctrl_c_in_a_download_leaves_nothing(served: ModelInfo, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_sam_lora.model.download._ProgressAdapter.update", interrupted)
    result = run("models", "fetch", served.name)
    assert result.code == 130
    assert result.err.strip() == "napari-sam-lora: interrupted"
    assert list(cache_folder().iterdir()) == []


def test_unknown_models_are_named_before_any_is_fetched(run: Run) -> None:
    result = run("models", "fetch", "vit_b", "vit_x", "vit_y")
    assert (result.code, result.error_code) == (1, "model-not-found")
    assert "vit_x, vit_y;" in result.message
    assert "sam_nano, vit_t, vit_b" in result.message
    assert not list(cache_folder().glob("*"))


def test_a_named_model_is_described_without_its_file(run: Run) -> None:
    text = run("models", "info", "vit_l_lm").out
    assert "CC-BY-4.0" in text
    assert "xxh128:017f20677997d628426dec80a8018f9d" in text
    assert str(cache_folder() / "vit_l_lm.pt") in text


def test_a_checkpoint_file_is_described_by_what_it_holds(run: Run) -> None:
    described = json.loads(run("models", "info", NANO, "--json").out)
    assert (described["family"], described["input_size"], described["blocks"]) == ("nano", 256, 6)
    assert described["parameters"] > 1e6
    assert described["path"] == str(NANO)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, run: Run) -> None:
    (tmp_path / "a.pth").write_bytes(b"nothing")
    for name, error_code in (("a.pth", "damaged-checkpoint"), ("b.pth", "model-not-found")):
        result = run("models", "info", tmp_path / name)
        assert (result.code, result.error_code) == (1, error_code)
        assert name in result.message

"""micro-sam's decoders are fetched beside their models, from a server on this machine, and find objects."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
import xxhash
from error_codes import raises
from numpy.typing import NDArray
from torch import Tensor
from unetr_states import random_state

from napari_sam_lora import Model, load_model
from napari_sam_lora.errors import InputError
from napari_sam_lora.images import prepare
from napari_sam_lora.model import checkpoints
from napari_sam_lora.model.dense.instances import maps_to_labels
from napari_sam_lora.model.dense.published_decoders import DEFAULT_RECIPE, RECIPES, published_head
from napari_sam_lora.model.download import cache_folder, is_available
from napari_sam_lora.model.families.mobile import build_mobile_sam
from napari_sam_lora.model.registry import MODELS, ModelInfo
from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.prompts import Prompts

NAME = "vit_t_lm"
INPUT = 128


class Server(ThreadingHTTPServer):
    """Serves a folder and remembers what was asked for."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))


class _Handler(SimpleHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with MobileSAM and a narrow decoder, both of random weights."""
    folder = tmp_path_factory.mktemp("web")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(build_mobile_sam().state_dict(), folder / "vit_t.pt")
    torch.save(random_state(), folder / "vit_t_decoder.pt")
    yield folder
    (folder / "vit_t.pt").unlink()  # it is large, and pytest keeps folders of earlier runs


@pytest.fixture
def server(web: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with Server(web) as serving:
        thread = Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def _served(info: ModelInfo | None, path: Path, server: Server) -> ModelInfo:
    assert info is not None
    url = f"http://127.0.0.1:{server.server_port}/{path.name}"
    return replace(info, url=url, digest=f"xxh128:{xxhash.xxh128(path.read_bytes()).hexdigest()}")


@pytest.fixture
def info(web: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> ModelInfo:
    """The registered model, with the addresses and hashes of the server's files."""
    decoder = _served(MODELS[NAME].decoder, web / "vit_t_decoder.pt", server)
    made = replace(_served(MODELS[NAME], web / "vit_t.pt", server), decoder=decoder)
    monkeypatch.setattr(checkpoints, "MODELS", {NAME: made})
    return made


def _load(name: str | Path = NAME) -> Model:
    return load_model(name, device="cpu", input_size=INPUT)


def _image(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_a_decoder_is_fetched_once_and_finds_objects(info: ModelInfo, server: Server) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = _load()
    assert server.asked == ["/vit_t.pt", "/vit_t_decoder.pt"]
    assert info.decoder is not None
    assert is_available(info.decoder)
    assert (cache_folder() / "vit_t_lm_decoder.pt").is_file()
    assert model.predictor.dense is not None
    assert model.predictor.dense.instances == RECIPES[NAME]
    image = _image(90, 128)
    maps = model.maps(image)
    assert maps.shape == (3, 90, 128)
    assert maps.dtype == np.float32
    with torch.no_grad():
        embedding = model.encode(image).tensor
        expected = published_head(random_state()).head(embedding, torch.zeros(1, 3, INPUT, INPUT)).sigmoid()
    np.testing.assert_allclose(maps, expected[0, :, :90].numpy(), atol=1e-5)
    inside, deep, near = np.median(maps, axis=(1, 2)).tolist()  # thresholds at which random maps show objects
    many = InstanceConfig(1 - inside, deep, smallest=5, centre_separation=near)
    found = model.segment_everything(image, instances=many)
    assert np.array_equal(found, maps_to_labels(maps, many))
    assert found.max() > 0
    assert np.array_equal(model.segment_everything(image), maps_to_labels(maps, RECIPES[NAME]))
    assert np.array_equal(model.segment_everything(image, method="head"), maps_to_labels(maps, RECIPES[NAME]))
    _load()
    assert len(server.asked) == 2


def test_large_planes_are_seen_in_tiles(info: ModelInfo) -> None:
    seen: list[tuple[int, int]] = []
    model = _load()
    maps = model.maps(_image(150, 100), progress=lambda done, total: seen.append((done, total)))
    assert maps.shape == (3, 150, 100)
    assert np.isfinite(maps).all()
    assert seen == [(1, 2), (2, 2)]


class _Trap:
    """An object whose unpickling leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def _spoil(kind: str, path: Path, trap: Path) -> None:
    if kind == "missing key":
        torch.save({key: value for key, value in random_state().items() if key != "out_conv.bias"}, path)
    elif kind == "no weights":
        torch.save([1, 2], path)
    elif kind == "no state dict":
        path.write_bytes(b"damaged")
    else:
        torch.save(random_state() | {"more": _Trap(trap)}, path)


@pytest.mark.parametrize("kind", ["missing key", "no weights", "no state dict", "pickle"])
def test_a_decoder_that_is_none_leaves_the_model_with_clicks(
    info: ModelInfo, server: Server, tmp_path: Path, web: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    bad, trap = web / "bad_decoder.pt", tmp_path / "trap"
    _spoil(kind, bad, trap)
    made = replace(info, decoder=_served(info.decoder, bad, server))
    monkeypatch.setattr(checkpoints, "MODELS", {NAME: made})
    with pytest.warns(UserWarning, match="vit_t_lm works without its decoder"):
        model = _load()
    assert not trap.exists()
    assert model.predictor.dense is None
    image = _image(128, 128)
    assert len(model.segment(model.encode(image), Prompts(boxes=[[10, 10, 60, 60]])).masks) == 1
    with raises(InputError, "no-dense-head"):
        model.segment_everything(image, method="head")


def test_a_decoder_that_cannot_be_fetched_or_is_another_is_named(
    info: ModelInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert info.decoder is not None
    for changed in (
        replace(info.decoder, url=str(info.decoder.url).replace("vit_t", "gone")),
        replace(info.decoder, digest="xxh128:" + "0" * 32),
    ):
        monkeypatch.setattr(checkpoints, "MODELS", {NAME: replace(info, decoder=changed)})
        with pytest.warns(UserWarning, match=r"save it as .*vit_t_lm_decoder\.pt"):
            assert _load().predictor.dense is None
        assert not is_available(changed)


def test_a_decoder_inside_a_checkpoint_is_used_as_well(web: Path, tmp_path: Path) -> None:
    """As ``micro_sam.util.export_custom_sam_model(with_segmentation_decoder=True)`` writes it."""
    sam: dict[str, Tensor] = torch.load(web / "vit_t.pt", weights_only=True)
    path = tmp_path / "mine.pt"
    torch.save({"model_state": sam, "decoder_state": random_state(seed=1)}, path)
    model = _load(path)
    assert model.predictor.dense is not None
    assert model.predictor.dense.instances == DEFAULT_RECIPE
    assert model.loaded.weights_hash == _load(web / "vit_t.pt").loaded.weights_hash
    assert model.maps(_image(60, 60)).shape == (3, 60, 60)
    torch.save({"model_state": sam, "decoder_state": {"a": torch.zeros(1)}}, path)
    with pytest.warns(UserWarning, match=r"mine\.pt works without its decoder"):
        assert _load(path).predictor.dense is None
    path.unlink()


def test_the_decoder_reads_what_the_base_model_encodes(info: ModelInfo) -> None:
    model = _load()
    prepared = prepare(_image(128, 128), INPUT, model.preprocessing)
    assert model.predictor.encode_prepared(prepared).tensor.shape == (1, 256, INPUT // 16, INPUT // 16)

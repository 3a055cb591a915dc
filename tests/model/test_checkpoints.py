"""Checkpoints in all layouts in which SAM comes, and files that are something else."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from error_codes import raises
from safetensors.torch import load_file, save_file
from segment_anything.modeling import Sam
from torch import Tensor

from napari_sam_lora import Model
from napari_sam_lora.errors import CheckpointError
from napari_sam_lora.model.checkpoints import LoadedModel, load
from napari_sam_lora.model.encoder import FusedAttention
from napari_sam_lora.model.families.nano import build_sam_nano
from napari_sam_lora.model.registry import MODELS

CPU = torch.device("cpu")
WIDTH_KEY = "image_encoder.blocks.0.norm1.weight"
State = dict[str, Any]


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Weights of a small model, not those of the bundled one."""
    return build_sam_nano(seed=11).state_dict()


@pytest.fixture(scope="module")
def plain_hash(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("plain") / "plain.pth"
    torch.save(state, path)
    return load(path, CPU).weights_hash


def _assert_loaded(loaded: LoadedModel, state: dict[str, Tensor]) -> None:
    sam = loaded.sam
    assert loaded.family == "nano"
    assert not sam.training
    assert not any(module.training for module in sam.modules())
    assert not any(parameter.requires_grad for parameter in sam.parameters())
    found = sam.state_dict()
    assert found.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(found[key], value), key
    assert all(isinstance(block.attn, FusedAttention) for block in sam.image_encoder.blocks)


def test_the_bundled_model_is_loaded_by_name(nano: Model) -> None:
    loaded = load("sam_nano", CPU)
    with as_file(files("napari_sam_lora") / "assets" / "sam_nano.safetensors") as path:
        stored = load_file(path)
    like = loaded.sam.state_dict()
    _assert_loaded(loaded, {key: value.to(like[key].dtype) for key, value in stored.items()})
    assert loaded.name == "sam_nano"
    assert loaded.weights_hash == nano.loaded.weights_hash
    assert loaded.sam.device == CPU


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth", "weights.pt", "old.pth"])
def test_file_formats_load_alike(state: dict[str, Tensor], plain_hash: str, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("safetensors"):
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=name != "old.pth")
    for given in (path, str(path)):
        loaded = load(given, CPU)
        _assert_loaded(loaded, state)
        assert loaded.name == name
        assert loaded.weights_hash == plain_hash


def _prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model_state": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 1e-4}},
        lambda state: {"state_dict": state},
        lambda state: {"model": {"state_dict": state}},
        lambda state: _prefixed(state, "sam."),
        lambda state: _prefixed(state, "module."),
        lambda state: {"model_state": _prefixed(state, "sam.") | {"decoder.weight": torch.ones(2)}},
        lambda state: {"state_dict": _prefixed(state, "module.")},
        lambda state: state | {"epoch": 7},
    ],
    ids=[
        "model_state",
        "model",
        "state_dict",
        "twice",
        "sam.",
        "module.",
        "model_state and sam.",
        "state_dict and module.",
        "with a number",
    ],
)
def test_layouts_of_other_tools_load_alike(
    state: dict[str, Tensor], plain_hash: str, tmp_path: Path, wrap: Callable[[State], State]
) -> None:
    torch.save(wrap(dict(state)), tmp_path / "weights.pth")
    loaded = load(tmp_path / "weights.pth", CPU)
    _assert_loaded(loaded, state)
    assert loaded.weights_hash == plain_hash


@pytest.mark.parametrize("key", ["mask_decoder.iou_token.weight", "image_encoder.neck.3.bias"])
def test_the_hash_tells_weights_apart(state: dict[str, Tensor], plain_hash: str, tmp_path: Path, key: str) -> None:
    changed = {name: value.clone() for name, value in state.items()}
    changed[key].view(-1)[-1] += 1e-3
    torch.save(changed, tmp_path / "weights.pth")
    assert load(tmp_path / "weights.pth", CPU).weights_hash != plain_hash


def test_half_precision_is_computed_in_single_precision(state: dict[str, Tensor], tmp_path: Path) -> None:
    halved = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    save_file(halved, tmp_path / "half.safetensors")
    loaded = load(tmp_path / "half.safetensors", CPU)
    _assert_loaded(loaded, {key: value.to(state[key].dtype) for key, value in halved.items()})


def test_official_weights_are_recognised(vit_b_checkpoint: Path, vit_b_full: Sam) -> None:
    loaded = load(vit_b_checkpoint, CPU)
    assert (loaded.family, loaded.name) == ("vit_b", "sam_vit_b.pth")
    assert not loaded.sam.training
    found, expected = loaded.sam.state_dict(), vit_b_full.state_dict()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value.half().float()), key


class _Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def test_a_pickle_of_another_protocol_is_refused_without_a_warning_of_torch(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps({"weights": [1, 2]}, protocol=4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with raises(CheckpointError, "damaged-checkpoint", match="weights.pt"):
            load(path, CPU)


@pytest.mark.parametrize("layout", ["zip", "legacy", "plain pickle"])
def test_nothing_in_a_file_is_executed(state: dict[str, Tensor], tmp_path: Path, layout: str) -> None:
    marker, path = tmp_path / "executed", tmp_path / "weights.pth"
    content = dict(state) | {"extra": _Malicious(marker)}
    if layout == "plain pickle":
        path.write_bytes(pickle.dumps({"extra": _Malicious(marker)}, protocol=2))
        pickle.loads(path.read_bytes())
    else:
        torch.save(content, path, _use_new_zipfile_serialization=layout == "zip")
        torch.load(path, weights_only=False)
    assert marker.exists()  # the trap works
    marker.unlink()
    with raises(CheckpointError, "damaged-checkpoint"):
        load(path, CPU)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "weights.pt"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 375042383\n",
        b"<!DOCTYPE html><html><body>404</body></html>",
        b"hello\n",
        b"y,x,area\n1,2,3\n",
        b"X\x01\x00\x00\x00\xc9.",
        b"(lp0\n.",
        b"PK\x03\x04" + bytes(200),
        bytes(1000),
        np.random.default_rng(0).bytes(4000),
    ],
    ids=["empty", "zero", "pointer", "html", "text", "table", "latin-1", "pickle", "zip", "zeros", "noise"],
)
def test_files_that_are_something_else_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with raises(CheckpointError, "damaged-checkpoint", match=name):
        load(tmp_path / name, CPU)


@pytest.mark.parametrize("name", ["weights.pth", "old.pth", "weights.safetensors"])
@pytest.mark.parametrize("share", [0.0005, 0.3, 0.999])
def test_truncated_files_are_refused(state: dict[str, Tensor], tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    if name.endswith("safetensors"):
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=name != "old.pth")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with raises(CheckpointError, "damaged-checkpoint", match=name):
        load(path, CPU)


def _without(state: State, key: str) -> State:
    return {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize(
    ("change", "error_code", "name"),
    [
        (lambda state: {"conv.weight": torch.ones(2)}, "no-sam-weights", "weights.pth"),
        (lambda state: {}, "no-sam-weights", "weights.pth"),
        (lambda state: [state[WIDTH_KEY]], "no-sam-weights", "weights.pth"),
        (lambda state: state[WIDTH_KEY], "no-sam-weights", "weights.pth"),
        (lambda state: {"model": [1, 2], "state_dict": None}, "no-sam-weights", "weights.pth"),
        (lambda state: {1: torch.ones(2), None: 3}, "no-sam-weights", "weights.pth"),
        (lambda state: state | {WIDTH_KEY: torch.ones(64)}, "unknown-encoder-width", "64"),
        (lambda state: state | {WIDTH_KEY: torch.ones(768)}, "weights-do-not-fit", "vit_b"),
        (lambda state: state | {WIDTH_KEY: 128}, "no-sam-weights", "weights.pth"),
        (lambda state: state | {WIDTH_KEY: torch.tensor(128.0)}, "no-encoder-width", WIDTH_KEY),
        (lambda state: _without(state, "mask_decoder.iou_token.weight"), "weights-do-not-fit", "iou_token"),
        (lambda state: state | {"image_encoder.extra": torch.ones(2)}, "weights-do-not-fit", "extra"),
        (lambda state: state | {"mask_decoder.iou_token.weight": torch.ones(1, 64)}, "weights-do-not-fit", "iou_token"),
    ],
    ids=[
        "another network",
        "empty",
        "list",
        "tensor",
        "nothing nested",
        "keys that are not text",
        "unknown width",
        "width of another family",
        "width is a number",
        "width without a size",
        "missing key",
        "unknown key",
        "shape",
    ],
)
def test_weights_that_are_not_sams_are_refused(
    state: dict[str, Tensor], tmp_path: Path, change: Callable[[State], Any], error_code: str, name: str
) -> None:
    torch.save(change(dict(state)), tmp_path / "weights.pth")
    with raises(CheckpointError, error_code, match=name):
        load(tmp_path / "weights.pth", CPU)


@pytest.mark.parametrize("name", ["sam_giant", "absent/weights.pth", "."])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with raises(CheckpointError, "model-not-found") as caught:
        load(name, CPU)
    assert name in str(caught.value)
    for model_name in MODELS:
        assert model_name in str(caught.value)

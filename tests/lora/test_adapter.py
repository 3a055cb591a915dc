"""The adapter file: what comes back, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from error_codes import raises
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from napari_sam_lora import Adapter, Model, Preprocessing, Prompts, load_model
from napari_sam_lora.errors import AdapterError
from napari_sam_lora.lora.adapter import AdapterInfo
from napari_sam_lora.lora.inject import LoRAConfig, adapter_parameters, attach
from napari_sam_lora.model.dense_head import new_dense_head
from napari_sam_lora.model.dense_model import DenseModel
from napari_sam_lora.model.instances import InstanceConfig

LATE = LoRAConfig((4, 5), rank=3, alpha=6.0, targets=("q", "k", "mlp"), dropout=0.1)
DECODER = LoRAConfig((), rank=2)


def _adapter(model: Model, config: LoRAConfig = LATE, **info: Any) -> Adapter:
    tensors = {
        name: torch.randn_like(value) * 0.1
        for name, value in adapter_parameters(attach(model.loaded.sam, config)).items()
    }
    known: dict[str, Any] = {
        "base_name": model.name,
        "base_hash": model.loaded.weights_hash,
        "lora": config,
        "mode": "late",
    }
    return Adapter(tensors, AdapterInfo(**known | {"input_size": 256} | info))


def _rewrite(path: Path, change: Callable[[dict[str, Any]], object], tensors: dict[str, Tensor] | None = None) -> None:
    """Change the description in an adapter file."""
    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["adapter"])
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    changed = change(values)
    save_file(tensors or held, path, metadata={"adapter": changed if isinstance(changed, str) else json.dumps(values)})


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(),
        Preprocessing(window=(-150.0, 250.5)),
        Preprocessing(percentiles=(2.0, 98.5), channel=2),
    ],
)
def test_a_saved_adapter_comes_back_to_the_bit(nano: Model, tmp_path: Path, preprocessing: Preprocessing) -> None:
    adapter = _adapter(
        nano,
        preprocessing=preprocessing,
        training={"steps": 20, "held_out": ["a:1,2"], "alpha": None},
        metrics={"verdict": "better", "base": {"box_iou": 0.1 + 0.2}},
    )
    path = tmp_path / "new folder" / "nuclei.safetensors"
    assert adapter.save(str(path)) == path
    again = Adapter.load(path)
    assert again.info == adapter.info
    assert again.info.preprocessing == preprocessing
    assert again.info.lora.blocks == (4, 5)
    assert again.tensors.keys() == adapter.tensors.keys()
    assert all(torch.equal(again.tensors[name], value) for name, value in adapter.tensors.items())
    assert again.key == adapter.key
    assert [entry.name for entry in path.parent.iterdir()] == ["nuclei.safetensors"]


def test_the_file_says_what_wrote_it(nano: Model, tmp_path: Path) -> None:
    path = _adapter(nano).save(tmp_path / "a.safetensors")
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["adapter"])["program"] == f"napari-sam-lora {version('napari-sam-lora')}"


def test_a_loaded_adapter_segments_as_the_saved_one(
    nano: Model, nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]], tmp_path: Path
) -> None:
    adapter = _adapter(nano)
    again = Adapter.load(adapter.save(tmp_path / "a.safetensors"))
    prompts = Prompts(boxes=[[40, 60, 70, 95]])
    results = []
    for used in (adapter, again):
        fresh = Model(nano.loaded)  # its own memory of embeddings
        with fresh.adapted(used):
            results.append(fresh.segment(fresh.encode(nuclei[0]), prompts).logits)
    base = nano.segment(nano.encode(nuclei[0]), prompts).logits
    assert np.array_equal(results[0], results[1])
    assert not np.allclose(results[0], base, atol=0.01)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"no adapter file .*nowhere\.safetensors"):
        Adapter.load(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("kept", [0, 5, 100, -10])
def test_a_truncated_file_is_refused(nano: Model, tmp_path: Path, kept: int) -> None:
    path = _adapter(nano).save(tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(AdapterError, match=r"a\.safetensors is damaged"):
        Adapter.load(path)


def test_random_bytes_and_a_folder_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(AdapterError, match="damaged"):
        Adapter.load(path)
    with pytest.raises(AdapterError):
        Adapter.load(tmp_path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_safetensors_file_of_something_else_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"weight": torch.zeros(2, 2)}, tmp_path / "a.safetensors", metadata=metadata)
    with pytest.raises(AdapterError, match="not an adapter"):
        Adapter.load(tmp_path / "a.safetensors")


def test_a_file_of_a_newer_version_asks_for_an_update(nano: Model, tmp_path: Path) -> None:
    path = _adapter(nano).save(tmp_path / "a.safetensors")
    _rewrite(path, lambda values: values.update(version=3))
    with pytest.raises(AdapterError, match=r"version 3.*Update"):
        Adapter.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda values: '{"format": "napari-sam-lora adapter", "version"',
        lambda values: "",
        lambda values: "[]",
        lambda values: "3",
        lambda values: values.pop("format"),
        lambda values: values.update(format="something else"),
        lambda values: values.pop("version"),
        lambda values: values.pop("lora") and None,
        lambda values: values.pop("base_hash") and None,
        lambda values: values.update(lora=None),
        lambda values: values["lora"].pop("blocks") and None,
        lambda values: values["lora"].update(rank=0),
        lambda values: values["lora"].update(unknown=1),
        lambda values: values.update(preprocessing=None),
        lambda values: values["preprocessing"].update(window=[3, 1]),
        lambda values: values.update(unknown=1),
    ],
    ids=[
        "broken",
        "empty",
        "list",
        "number",
        "no format",
        "other format",
        "no version",
        "no lora",
        "no base",
        "null lora",
        "no blocks",
        "bad rank",
        "unknown lora setting",
        "null preprocessing",
        "bad window",
        "unknown field",
    ],
)
def test_a_damaged_description_is_refused(
    nano: Model, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    path = _adapter(nano).save(tmp_path / "a.safetensors")
    _rewrite(path, change)
    with pytest.raises(AdapterError):
        Adapter.load(path)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_refused(nano: Model, tmp_path: Path, value: float) -> None:
    adapter = _adapter(nano)
    name = sorted(adapter.tensors)[0]
    broken = {key: tensor.clone() for key, tensor in adapter.tensors.items()}
    broken[name].view(-1)[-1] = value
    with pytest.raises(AdapterError, match=name.replace(".", r"\.")):
        Adapter(broken, adapter.info)
    path = adapter.save(tmp_path / "a.safetensors")
    _rewrite(path, lambda values: None, broken)
    with pytest.raises(AdapterError, match="not finite"):
        Adapter.load(path)


def test_an_adapter_of_another_base_is_refused_by_name(nano: Model) -> None:
    adapter = _adapter(nano, base_name="vit_b_lm", base_hash="0" * 32)
    with pytest.raises(AdapterError, match=r"trained on vit_b_lm.*sam_nano.*Load vit_b_lm"):
        adapter.apply(nano.loaded.sam, nano.name, nano.loaded.weights_hash)


@pytest.mark.parametrize("change", ["missing", "shape", "extra"])
def test_tensors_that_do_not_fit_their_description_are_refused(nano: Model, change: str) -> None:
    adapter = _adapter(nano)
    tensors = dict(adapter.tensors)
    name = sorted(tensors)[0]
    if change == "missing":
        del tensors[name]
    else:
        tensors["extra" if change == "extra" else name] = torch.zeros(7)
    with pytest.raises(AdapterError, match="does not fit sam_nano"):
        Adapter(tensors, adapter.info).apply(nano.loaded.sam, nano.name, nano.loaded.weights_hash)


@pytest.mark.parametrize("name", ["adapter.pth", "adapter", "adapter.safetensors.bak"])
def test_another_ending_is_refused(nano: Model, tmp_path: Path, name: str) -> None:
    with pytest.raises(AdapterError, match=r"\.safetensors"):
        _adapter(nano).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_existing_file_survives_a_failing_save(nano: Model, tmp_path: Path) -> None:
    adapter = _adapter(nano)
    path = adapter.save(tmp_path / "a.safetensors")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):  # NaN is not JSON
        adapter.with_metrics({"box_iou": float("nan")}).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_keys_change_with_the_tensors_they_stand_for(nano: Model) -> None:
    adapter = _adapter(nano)

    def changed(start: str) -> Adapter:
        name = next(name for name in adapter.tensors if name.startswith(start))
        return Adapter(adapter.tensors | {name: adapter.tensors[name] + 1}, adapter.info)

    decoder, encoder = changed("mask_decoder."), changed("image_encoder.")
    assert len({adapter.key, decoder.key, encoder.key}) == 3
    assert decoder.encoder_key == adapter.encoder_key
    assert encoder.encoder_key != adapter.encoder_key
    copied = {name: value.clone() for name, value in reversed(adapter.tensors.items())}
    assert Adapter(copied, adapter.info).key == adapter.key


def test_the_keys_change_with_the_scale(nano: Model) -> None:
    adapter = _adapter(nano)
    scaled = Adapter(adapter.tensors, replace(adapter.info, lora=replace(LATE, alpha=7.0)))
    assert scaled.key != adapter.key
    assert scaled.encoder_key != adapter.encoder_key


def test_an_adapter_of_the_decoder_alone_has_no_encoder_key(nano: Model) -> None:
    assert _adapter(nano, DECODER).encoder_key == ""
    assert _adapter(nano, DECODER).key


@torch.no_grad()
def test_an_adapter_runs_at_the_input_size_that_it_was_trained_at(nano: Model) -> None:
    adapter = _adapter(nano, input_size=128)
    small = load_model("sam_nano", device="cpu", input_size=128)
    trees = [adapter.apply(model.loaded.sam, model.name, model.loaded.weights_hash) for model in (nano, small)]
    pixels = torch.randn(1, 3, 128, 128)
    first, second = (tree.image_encoder(pixels) for tree in trees)
    assert [tree.image_encoder.img_size for tree in trees] == [128, 128]
    assert first.shape == (1, 256, 16, 16)
    assert torch.equal(first, second)
    assert nano.loaded.sam.image_encoder.img_size == 256
    assert not any(value.requires_grad for tree in trees for value in tree.parameters())


def test_new_figures_leave_the_tensors_as_they_are(nano: Model) -> None:
    adapter = _adapter(nano)
    judged = adapter.with_metrics({"verdict": "better"})
    assert judged.info == replace(adapter.info, metrics={"verdict": "better"})
    assert judged.key == adapter.key
    assert adapter.info.metrics == {}


def _with_head(model: Model) -> Adapter:
    dense = DenseModel(new_dense_head(model.loaded.sam), InstanceConfig(separation=0.3, smallest=11), refine=True)
    return replace(_adapter(model), dense=DenseModel.from_parts(dense.describe(), dense.tensors()))


def test_a_dense_head_comes_back_with_its_thresholds(nano: Model, tmp_path: Path) -> None:
    adapter = _with_head(nano)
    path = adapter.save(tmp_path / "a.safetensors")
    again = Adapter.load(path)
    assert adapter.dense is not None
    assert again.dense is not None
    assert again.dense.describe() == adapter.dense.describe()
    assert again.dense.instances == InstanceConfig(separation=0.3, smallest=11)
    assert all(torch.equal(again.dense.tensors()[name], value) for name, value in adapter.dense.tensors().items())
    assert again.tensors.keys() == adapter.tensors.keys()
    assert again.key == adapter.key
    without = replace(adapter, dense=None).save(tmp_path / "b.safetensors")
    assert path.stat().st_size - without.stat().st_size < 2 * 10**6
    assert Adapter.load(without).dense is None


def test_programs_that_know_no_dense_head_are_told_to_update(nano: Model, tmp_path: Path) -> None:
    for adapter, file_version in ((_with_head(nano), 2), (_adapter(nano), 1)):
        with safe_open(adapter.save(tmp_path / "a.safetensors"), framework="pt") as file:
            assert json.loads(file.metadata()["adapter"])["version"] == file_version


def test_the_key_changes_with_the_head_and_its_thresholds(nano: Model) -> None:
    adapter = _with_head(nano)
    assert adapter.dense is not None
    moved = replace(adapter, dense=replace(adapter.dense, instances=InstanceConfig()))
    other = replace(adapter, dense=replace(adapter.dense, head=new_dense_head(nano.loaded.sam, seed=5)))
    assert len({one.key for one in (adapter, moved, other, replace(adapter, dense=None))}) == 4
    assert adapter.encoder_key == replace(adapter, dense=None).encoder_key


def test_a_damaged_head_is_refused(nano: Model, tmp_path: Path) -> None:
    path = _with_head(nano).save(tmp_path / "a.safetensors")
    _rewrite(path, lambda values: None)  # without the description of the head
    with raises(AdapterError, "bad-dense-head"):
        Adapter.load(path)


def test_the_head_of_an_adapter_finds_objects_and_the_base_model_keeps_its_own(
    nano: Model, nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    base = DenseModel(new_dense_head(nano.loaded.sam, seed=3))
    model = Model(replace(nano.loaded, dense=base))
    before = model.maps(nuclei[0])
    adapter = _with_head(nano)
    with model.adapted(adapter):
        assert not np.allclose(model.maps(nuclei[0]), before, atol=0.01)
    with model.adapted(replace(adapter, dense=None)):  # its embeddings are not those that the base's head knows
        assert np.array_equal(model.maps(nuclei[0]), before)
    assert np.array_equal(model.maps(nuclei[0]), before)

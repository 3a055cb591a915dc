"""The library of adapters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from error_codes import raises
from safetensors.torch import save_file

from napari_sam_lora import Adapter, Model
from napari_sam_lora.errors import AdapterError
from napari_sam_lora.session import AdapterLibrary


@pytest.fixture(params=["memory", "folder"])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> AdapterLibrary:
    return AdapterLibrary(None if request.param == "memory" else tmp_path / "adapters")


def test_an_added_adapter_is_listed_with_its_description(library: AdapterLibrary, adapter: Adapter) -> None:
    metrics = {
        "verdict": "better",
        "reason": "On 9 held-out objects.",
        "base": {"box_iou": 0.5, "click_iou": 0.4},
        "adapted": {"box_iou": 0.6, "click_iou": 0.7},
    }
    assert library.add(adapter.with_metrics(metrics), "nuclei", note="first try") == "nuclei"
    (entry,) = library.entries()
    assert entry == library.entry("nuclei")
    assert (entry.name, entry.base_name, entry.note) == ("nuclei", "sam_nano", "first try")
    assert entry.gain == pytest.approx(0.2)
    assert (entry.verdict, entry.reason) == ("better", "On 9 held-out objects.")
    assert (entry.images, entry.objects) == (1, 7)
    assert entry.megabytes > 0
    assert library.get("nuclei").key == adapter.key


def test_an_adapter_that_was_not_measured_has_no_gain(library: AdapterLibrary, adapter: Adapter) -> None:
    library.add(adapter.with_metrics({}), "a")
    assert library.entry("a").gain is None


def test_a_name_in_use_gets_a_number_and_renaming_to_it_is_refused(library: AdapterLibrary, adapter: Adapter) -> None:
    assert [library.add(adapter, name) for name in ("a", "a", "A")] == ["a", "a 2", "A 3"]
    with raises(AdapterError, "adapter-name-in-use"):
        library.rename("a 2", "a")
    library.rename("a 2", "b")
    assert {entry.name for entry in library.entries()} == {"a", "b", "A 3"}


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".hidden", " a", "a" * 100, "con\n"])
def test_a_name_that_is_no_file_name_is_refused(library: AdapterLibrary, adapter: Adapter, name: str) -> None:
    with raises(AdapterError, "adapter-name-invalid"):
        library.add(adapter, name)
    assert library.entries() == ()


def test_an_adapter_that_is_gone_is_named(library: AdapterLibrary, adapter: Adapter) -> None:
    library.add(adapter, "a")
    library.remove("a")
    for call in (library.get, library.entry, library.remove):
        with raises(AdapterError, "adapter-not-found", match="'a'"):
            call("a")


def test_adapters_and_notes_are_there_after_a_restart(tmp_path: Path, adapter: Adapter) -> None:
    first = AdapterLibrary(tmp_path)
    first.add(adapter, "a")
    first.add(adapter, "b")
    first.set_note("a", "good on bright cells")
    first.rename("b", "c")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    again = AdapterLibrary(tmp_path)
    assert {entry.name: entry.note for entry in again.entries()} == {"a": "good on bright cells", "c": ""}
    assert again.get("a").key == adapter.key
    assert len(again.problems) == 1
    assert "broken" in again.problems[0]
    assert again.add(adapter, "broken") == "broken 2"
    assert (tmp_path / "broken.safetensors").read_bytes() == b"nothing"


def test_an_adapter_is_exported_and_imported(
    library: AdapterLibrary, adapter: Adapter, small: Model, tmp_path: Path
) -> None:
    library.add(adapter, "a")
    path = library.export("a", tmp_path / "shared: nuclei.safetensors")
    assert path.with_suffix(".md").read_text("utf-8").startswith("# shared: nuclei")
    assert library.import_file(path, small.loaded) == "shared_ nuclei"
    assert library.get("shared_ nuclei").key == adapter.key


def test_an_adapter_of_sam_lora_is_imported(library: AdapterLibrary, small: Model, tmp_path: Path) -> None:
    encoder = small.loaded.sam.image_encoder
    width = encoder.blocks[0].attn.proj.in_features
    pairs: dict[str, torch.Tensor] = {}
    for number in range(2 * len(encoder.blocks)):
        pairs |= {f"w_a_{number:03d}": torch.ones(2, width), f"w_b_{number:03d}": torch.zeros(width, 2)}
    save_file(pairs, tmp_path / "theirs.safetensors")
    name = library.import_file(tmp_path / "theirs.safetensors", small.loaded)
    assert library.entry(name).base_name == "sam_nano"


@pytest.mark.parametrize("content", [b"", b"not safetensors"])
def test_another_file_is_refused(library: AdapterLibrary, small: Model, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with raises(AdapterError, "adapter-file-damaged", match=r"x\.safetensors"):
        library.import_file(path, small.loaded)
    with raises(AdapterError, "adapter-file-damaged", match=r"missing\.safetensors"):
        library.import_file(tmp_path / "missing.safetensors", small.loaded)


def test_the_newest_is_listed_first_and_changes_are_heard(library: AdapterLibrary, adapter: Adapter) -> None:
    heard: list[int] = []
    library.changed.connect(lambda: heard.append(len(library.entries())))
    for name, created in (("old", "2020-01-01T00:00:00+00:00"), ("new", "2021-01-01T00:00:00+00:00")):
        library.add(Adapter(adapter.tensors, replace(adapter.info, created=created)), name)
    library.remove("old")
    assert heard == [1, 2, 1]
    library.add(adapter, "newest")
    assert [entry.name for entry in library.entries()] == ["newest", "new"]

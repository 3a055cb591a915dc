"""Test the entries of the model registry."""

from __future__ import annotations

import re

import pytest
import xxhash

from napari_sam_lora.model.download import model_path
from napari_sam_lora.model.registry import MODELS, ModelInfo


def test_names_are_the_keys_and_files_do_not_collide() -> None:
    assert [info.name for info in MODELS.values()] == list(MODELS)
    assert len({info.file_name for info in MODELS.values()}) == len(MODELS)
    urls = [info.url for info in MODELS.values() if info.url]
    assert len(set(urls)) == len(urls)
    digests = [info.digest for info in MODELS.values() if info.digest]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("info", MODELS.values(), ids=MODELS)
def test_every_model_says_what_a_user_must_know(info: ModelInfo) -> None:
    assert info.licence in {"Apache-2.0", "BSD-3-Clause", "CC-BY-4.0", "MIT"}
    assert info.family in {"nano", "vit_t", "vit_b", "vit_l", "vit_h"}
    assert info.source
    assert info.description.endswith(".")
    assert info.megabytes > 0
    assert info.name in info.file_name


@pytest.mark.parametrize("info", MODELS.values(), ids=MODELS)
def test_every_model_is_bundled_or_can_be_fetched_and_verified(info: ModelInfo) -> None:
    if info.asset is not None:
        assert info.url is None
        assert info.digest == f"xxh128:{xxhash.xxh128(model_path(info).read_bytes()).hexdigest()}"
        size = model_path(info).stat().st_size
        assert 0 < size < 12e6
        assert abs(size / 1e6 - info.megabytes) < 1
        assert info.file_name.endswith(".safetensors")
    else:
        assert re.fullmatch(r"https://[^/]+/.+\.(pth|pt)", str(info.url))
        assert re.fullmatch(r"xxh128:[0-9a-f]{32}|sha256:[0-9a-f]{64}", str(info.digest))
        assert info.file_name == f"{info.name}.{str(info.url).rpartition('.')[2]}"


def test_the_models_of_micro_sam_have_decoders_beside_them() -> None:
    """Addresses and hashes as in ``micro_sam/util.py``."""
    decoders = {info.name: info.decoder for info in MODELS.values() if info.decoder is not None}
    assert set(decoders) == {name for name, info in MODELS.items() if "micro-sam" in info.source}
    for name, decoder in decoders.items():
        assert decoder.file_name == f"{name}_decoder.pt"
        assert decoder.url == str(MODELS[name].url).replace(".pt", "_decoder.pt")
        assert re.fullmatch(r"xxh128:[0-9a-f]{32}", str(decoder.digest))
        assert (decoder.family, decoder.licence) == (MODELS[name].family, MODELS[name].licence)
    digests = {decoder.digest for decoder in decoders.values()} | {info.digest for info in MODELS.values()}
    assert len(digests) == len(decoders) + len(MODELS)
    assert decoders["vit_b_lm"].digest == "xxh128:708b15ac620e235f90bb38612c4929ba"


@pytest.mark.parametrize("family", ["vit_b", "vit_l", "vit_h"])
def test_the_official_models_go_by_the_name_of_their_family(family: str) -> None:
    info = MODELS[family]
    assert info.family == family
    assert info.licence == "Apache-2.0"
    assert re.search(rf"/sam_{family}_[0-9a-f]{{6}}\.pth$", str(info.url))

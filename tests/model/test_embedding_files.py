"""Embeddings on disk."""

from __future__ import annotations

import os
import re
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam_lora import Prompts, load_model
from napari_sam_lora.images import Prepared, prepare
from napari_sam_lora.model.embedding_files import DEFAULT_BUDGET, STALE_SECONDS, EmbeddingFiles
from napari_sam_lora.model.embeddings import EmbeddingCache

KEY = ("pixels", "weights")


class _Encoder:
    """Makes random embeddings and counts them."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self) -> Tensor:
        self.runs += 1
        return torch.randn(1, 3, 4, 5)


@pytest.fixture
def encoder() -> _Encoder:
    return _Encoder()


def _plane(value: int = 1) -> Prepared:
    return prepare(np.full((4, 6, 3), value, np.uint8), 16)


def _started(folder: Path) -> EmbeddingCache:
    """Return the cache of a session that has just started."""
    return EmbeddingCache(files=EmbeddingFiles(folder))


def _file_size(folder: Path) -> int:
    files = EmbeddingFiles(folder)
    files.write(KEY, torch.zeros(1, 3, 4, 5))
    return files.path(KEY).stat().st_size


def _age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_after_a_restart_the_same_embedding_is_there_without_encoding(tmp_path: Path, encoder: _Encoder) -> None:
    first = _started(tmp_path).get(_plane(), "weights", encoder)
    again = _started(tmp_path).get(_plane(), "weights", encoder)
    assert encoder.runs == 1
    assert again.tensor.dtype == torch.float32
    assert torch.equal(again.tensor, first.tensor)
    assert (again.weights_key, again.shape) == ("weights", (4, 6))


def test_without_a_folder_nothing_outlives_the_cache(encoder: _Encoder) -> None:
    for _ in range(2):
        EmbeddingCache().get(_plane(), "weights", encoder)
    assert encoder.runs == 2


def test_what_memory_has_forgotten_is_read_from_disk(tmp_path: Path, encoder: _Encoder) -> None:
    cache = _started(tmp_path)
    first = cache.get(_plane(), "weights", encoder)
    cache.clear()
    assert torch.equal(cache.get(_plane(), "weights", encoder).tensor, first.tensor)
    assert encoder.runs == 1


def test_other_pixels_weights_and_kinds_of_device_have_their_own_files(tmp_path: Path, encoder: _Encoder) -> None:
    cache = _started(tmp_path)
    cache.get(_plane(1), "weights", encoder)
    cache.get(_plane(2), "weights", encoder)
    cache.get(_plane(1), "other weights", encoder)
    assert encoder.runs == len(list(tmp_path.iterdir())) == 3
    assert EmbeddingFiles(tmp_path, "cuda:1").path(KEY) != EmbeddingFiles(tmp_path).path(KEY)
    assert EmbeddingFiles(tmp_path, "cuda:1").path(KEY) == EmbeddingFiles(tmp_path, "cuda").path(KEY)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_their_layout_in_memory_come_back(tmp_path: Path, layout: torch.memory_format) -> None:
    tensor = torch.randn(1, 3, 4, 5).contiguous(memory_format=layout)
    EmbeddingFiles(tmp_path).write(KEY, tensor)
    back = EmbeddingFiles(tmp_path).read(KEY)
    assert back is not None
    assert torch.equal(back, tensor)
    assert back.stride() == tensor.stride()


def test_masks_of_a_model_are_equal_to_the_last_bit_after_a_restart(
    tmp_path: Path, nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = Prompts(boxes=[[40, 60, 70, 95]])
    before = load_model("sam_nano", "cpu", input_size=128, embeddings_folder=tmp_path)
    first = before.segment(before.encode(nuclei[0]), prompts)
    after = load_model("sam_nano", "cpu", input_size=128, embeddings_folder=tmp_path)
    monkeypatch.setattr(after.loaded.sam.image_encoder, "forward", lambda _: pytest.fail("encoded again"))
    second = after.segment(after.encode(nuclei[0]), prompts)
    np.testing.assert_array_equal(second.logits, first.logits)
    np.testing.assert_array_equal(second.masks, first.masks)
    np.testing.assert_array_equal(second.scores, first.scores)


def _flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])  # the last byte is data, which safetensors does not check


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"", lambda _: b"nothing of the kind", lambda content: content[:-9], _flipped],
    ids=["empty", "another file", "cut off", "a bit flipped"],
)
def test_a_damaged_file_is_removed_and_computed_again(tmp_path: Path, encoder: _Encoder, damage: object) -> None:
    _started(tmp_path).get(_plane(), "weights", encoder)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    key = (_plane().key, "weights")
    assert EmbeddingFiles(tmp_path).read(key) is None
    assert not path.exists()
    second = _started(tmp_path).get(_plane(), "weights", encoder)
    assert encoder.runs == 2
    third = _started(tmp_path).get(_plane(), "weights", encoder)
    assert encoder.runs == 2
    assert torch.equal(third.tensor, second.tensor)


def test_beyond_the_budget_those_used_longest_ago_go(tmp_path: Path) -> None:
    files = EmbeddingFiles(tmp_path / "kept", budget=3 * _file_size(tmp_path / "other"))
    keys = [(name, "weights") for name in "abcd"]
    for age, key in zip((30, 20, 10), keys[:3], strict=True):
        files.write(key, torch.zeros(1, 3, 4, 5))
        _age(files.path(key), age)
    assert files.read(keys[0]) is not None  # a is used again, so that b is now the oldest
    files.write(keys[3], torch.zeros(1, 3, 4, 5))
    assert [files.path(key).exists() for key in keys] == [True, False, True, True]


def test_an_embedding_larger_than_the_budget_drives_no_other_out(tmp_path: Path) -> None:
    files = EmbeddingFiles(tmp_path, budget=_file_size(tmp_path))
    files.write(("large", "weights"), torch.zeros(1, 3, 40, 50))
    assert list(tmp_path.iterdir()) == [files.path(KEY)]


def test_the_usual_budget_holds_hundreds_of_embeddings_of_large_models(tmp_path: Path) -> None:
    assert EmbeddingFiles(tmp_path).budget == DEFAULT_BUDGET >= 500 * 4 * 256 * 64 * 64


def test_files_of_others_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    others = [tmp_path / "model.safetensors", tmp_path / "embedding-mine.safetensors", tmp_path / ".hidden"]
    for path in others:
        path.write_bytes(bytes(9999))
        _age(path, 2 * STALE_SECONDS)
    size = _file_size(tmp_path)
    EmbeddingFiles(tmp_path, budget=size).write(("other", "weights"), torch.zeros(1, 3, 4, 5))
    assert all(path.exists() for path in others)
    assert len(list(tmp_path.iterdir())) == 4


def test_what_a_dead_process_left_half_written_is_removed_but_not_what_is_being_written(tmp_path: Path) -> None:
    files = EmbeddingFiles(tmp_path)
    left, present = (tmp_path / f".{files.path(KEY).stem}-{name}.safetensors" for name in ("left", "present"))
    left.write_bytes(b"half")
    present.write_bytes(b"half")
    _age(left, 2 * STALE_SECONDS)
    files.write(KEY, torch.zeros(1, 3, 4, 5))
    assert set(tmp_path.iterdir()) == {present, files.path(KEY)}


@pytest.fixture
def unusable(tmp_path: Path) -> Path:
    """Return a path where no folder can be created, not even by an administrator."""
    (tmp_path / "file").write_text("in the way")
    return tmp_path / "file" / "embeddings"


def test_a_folder_that_cannot_be_used_gives_one_warning_and_breaks_nothing(unusable: Path, encoder: _Encoder) -> None:
    cache = _started(unusable)
    with pytest.warns(UserWarning, match=re.escape(str(unusable))):
        cache.get(_plane(1), "weights", encoder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (2, 1, 2):
            cache.get(_plane(value), "weights", encoder)
    assert encoder.runs == 2  # memory still holds both


def test_a_full_disk_gives_a_warning_and_leaves_no_partial_file(
    tmp_path: Path, encoder: _Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.warns(UserWarning, match="No space left"):
        made = _started(tmp_path).get(_plane(), "weights", encoder)
    assert made.shape == (4, 6)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_another_process_removes_is_a_miss(tmp_path: Path, encoder: _Encoder) -> None:
    one, other = _started(tmp_path), _started(tmp_path)
    one.get(_plane(), "weights", encoder)
    for path in tmp_path.iterdir():
        path.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.get(_plane(), "weights", encoder)
    assert encoder.runs == 2


def test_caches_that_share_a_small_folder_never_give_a_wrong_embedding(tmp_path: Path) -> None:
    budget = 3 * _file_size(tmp_path / "other")
    caches = [EmbeddingCache(1, EmbeddingFiles(tmp_path / "shared", budget=budget)) for _ in range(4)]

    def use(number: int) -> bool:
        value = number * 7 % 6
        tensor = caches[number % 4].get(_plane(value), "weights", lambda: torch.full((1, 3, 4, 5), float(value))).tensor
        return bool((tensor == value).all())

    with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("error")
        assert all(pool.map(use, range(200)))
    assert sum(path.stat().st_size for path in (tmp_path / "shared").iterdir()) <= budget

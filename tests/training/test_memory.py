"""Running out of memory: training goes on with less, and says so."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from error_codes import raises
from numpy.typing import NDArray
from torch import Tensor

from napari_sam_lora import Model, Preprocessing, TrainConfig, load_model
from napari_sam_lora.errors import TrainingError, is_out_of_memory
from napari_sam_lora.model.encoder import suffix as encoder_suffix
from napari_sam_lora.training import loop
from napari_sam_lora.training.data.samples import Plane, snapshot
from napari_sam_lora.training.data.split import list_objects
from napari_sam_lora.training.loop import Trainer


@pytest.fixture(scope="module")
def small() -> Model:
    return load_model("sam_nano", device="cpu", input_size=128)


@pytest.fixture
def planes(nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> tuple[Plane, ...]:
    return snapshot([tuple(array[:128, :128] for array in nuclei)], 128, 2, Preprocessing())  # type: ignore[list-item]


def _trainer(model: Model, planes: tuple[Plane, ...], **settings: Any) -> Trainer:
    config = TrainConfig(**{"steps": 20, "views": 1, "corrections": 0, "objects": 8} | settings)
    return Trainer(model.loaded.sam, planes, list_objects(planes), config)


CPU_MESSAGE = "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"
ERRORS: dict[str, Callable[[], Exception]] = {
    "cuda": lambda: torch.cuda.OutOfMemoryError("CUDA out of memory."),
    "cpu": lambda: RuntimeError(CPU_MESSAGE),
    "windows": lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 5 bytes."),
    "mps": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
    "numpy": MemoryError,
    "system": lambda: OSError(errno.ENOMEM, "Cannot allocate memory"),
}


@pytest.mark.parametrize("kind", list(ERRORS))
def test_every_kind_is_recognised(kind: str) -> None:
    assert is_out_of_memory(ERRORS[kind]())


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not match"), ValueError("out of memory"), OSError(errno.ENOSPC, "full")]
)
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)


def _fail_while(monkeypatch: pytest.MonkeyPatch, too_much: Callable[[Trainer], bool], kind: str) -> None:
    """Memory runs out in the encoder's suffix as long as a trainer uses too much."""
    backward = Trainer.backward

    def guarded(self: Trainer, *arguments: Any) -> float:
        if too_much(self):
            raise ERRORS[kind]()
        return backward(self, *arguments)

    monkeypatch.setattr(Trainer, "backward", guarded)


@pytest.mark.parametrize("kind", list(ERRORS))
def test_fewer_objects_are_decoded_at_once_first(
    small: Model, planes: tuple[Plane, ...], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    expected = _trainer(small, planes, chunk=2, box_share=1.0).step()
    trainer = _trainer(small, planes, chunk=8, box_share=1.0)
    _fail_while(monkeypatch, lambda trainer: trainer.fallback.chunk > 2, kind)
    result = trainer.step()
    (warning,) = trainer.warnings
    assert warning.code == "smaller-chunks"
    assert "2 objects" in warning
    assert result.objects == 8
    # the same view and objects as without the failure
    assert result.loss == pytest.approx(expected.loss, rel=1e-5)
    trainer.step()
    assert len(trainer.warnings) == 1


def test_then_the_cache_is_given_up_and_activations_are_computed_twice(
    small: Model, planes: tuple[Plane, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = _trainer(small, planes)
    trainer.step()
    assert trainer.cache.size > 0
    used: list[bool] = []

    def counted(encoder: Any, held: Tensor, split: int, recompute: bool) -> Tensor:
        used.append(recompute)
        return encoder_suffix(encoder, held, split, recompute)

    monkeypatch.setattr(loop, "suffix", counted)
    _fail_while(monkeypatch, lambda trainer: not trainer.fallback.recompute, "cuda")
    result = trainer.step()
    assert (trainer.fallback.chunk, trainer.fallback.objects, trainer.fallback.recompute) == (1, 8, True)
    assert trainer.cache.size == 0
    assert used == [True]
    assert result.objects == 8
    codes = [warning.code for warning in trainer.warnings]
    assert codes == ["smaller-chunks", "smaller-chunks", "cache-dropped", "recomputing"]
    assert "2 objects " in trainer.warnings[0]
    assert "1 object " in trainer.warnings[1]


def test_last_of_all_fewer_objects_are_shown(
    small: Model, planes: tuple[Plane, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = _trainer(small, planes)
    _fail_while(monkeypatch, lambda trainer: trainer.fallback.objects > 2, "cpu")
    assert trainer.step().objects == 2
    assert trainer.warnings[-1].code == "fewer-objects-per-step"
    assert "2 objects " in trainer.warnings[-1]


def test_what_nothing_helps_is_an_error_that_says_what_to_do(
    small: Model, planes: tuple[Plane, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = _trainer(small, planes)
    before = trainer.tensors()
    _fail_while(monkeypatch, lambda trainer: True, "cuda")
    with raises(TrainingError, "not-enough-memory", match="late_blocks"):
        trainer.step()
    assert all(torch.equal(before[name], value) for name, value in trainer.tensors().items())


def test_other_errors_pass(small: Model, planes: tuple[Plane, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Trainer, *arguments: Any) -> float:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Trainer, "backward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        _trainer(small, planes).step()

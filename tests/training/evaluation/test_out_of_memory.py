"""Memory that runs out while held-out objects are segmented: the run continues with less, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from napari_sam_lora import Model, TrainConfig
from napari_sam_lora.model.predictor import Predictor, decode_prompts
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.training.evaluation import validation
from napari_sam_lora.training.memory import MAX_CHUNK, AdaptiveChunks
from napari_sam_lora.training.run import FineTuneReport, FineTuneRun

from ..runs import Pair, finish

CONFIG = TrainConfig(mode="decoder", steps=2, objects=2, views=1, corrections=0, validation_share=0.5, check_every=1)


def _guarded(most: int, work: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that memory runs out with more prompts at once."""

    def guarded(*arguments: Any, **options: Any) -> Any:
        prompts = next(value for value in arguments if isinstance(value, Prompts))
        if len(prompts) > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return work(*arguments, **options)

    return guarded


def _assert_not_compared(run: FineTuneRun, report: FineTuneReport) -> None:
    decision = run._judge.decide([], [])
    assert decision.code == "not-enough-memory"
    assert (report.verdict, report.reason) == (decision.verdict, decision.reason) == ("too few", decision.reason)


def test_work_goes_on_with_smaller_chunks_and_loses_no_item() -> None:
    sizes: list[int] = []

    def work(chunk: Sequence[int]) -> list[int]:
        sizes.append(len(chunk))
        if len(chunk) > 1:
            raise MemoryError
        return [10 * item for item in chunk]

    chunks = AdaptiveChunks()
    assert chunks.map(work, range(20)) == [10 * item for item in range(20)]
    assert sizes[:4] == [MAX_CHUNK, 4, 1, 1]
    assert [warning.code for warning in chunks.warnings] == ["smaller-chunks", "smaller-chunks"]
    assert [warning.partition("with ")[2] for warning in chunks.warnings] == ["4 objects at once.", "1 object at once."]


def test_caches_are_emptied_one_after_the_other_before_the_error_passes() -> None:
    full = ["prefixes", "embeddings"]
    emptied: list[str] = []

    def empty(name: str) -> bool:
        if name in emptied:
            return False
        emptied.append(name)
        return True

    chunks = AdaptiveChunks([lambda name=name: empty(name) for name in full])  # type: ignore[misc]
    chunks.size = 1
    with pytest.raises(MemoryError):
        chunks.map(lambda chunk: (_ for _ in ()).throw(MemoryError()), [1])
    assert emptied == full
    assert [warning.code for warning in chunks.warnings] == ["cache-dropped", "cache-dropped"]


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        AdaptiveChunks().map(lambda chunk: (_ for _ in ()).throw(RuntimeError("shapes do not match")), [1])


def test_looks_and_figures_are_the_same_with_fewer_objects_at_once(
    small: Model, quarters: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, expected = finish(FineTuneRun(small.loaded, quarters, CONFIG))
    monkeypatch.setattr(validation, "decode_prompts", _guarded(1, decode_prompts))
    monkeypatch.setattr(Predictor, "segment", _guarded(1, Predictor.segment))
    _, _, report = finish(FineTuneRun(small.loaded, quarters, CONFIG))
    assert [step for step, _ in report.curve] == [0, 1, 2]
    for (_, now), (_, before) in zip(report.curve, expected.curve, strict=True):
        assert now == pytest.approx(before, abs=1e-4)
    assert report.adapted.box_iou == pytest.approx(expected.adapted.box_iou, abs=1e-3)
    assert report.adapted.count == expected.adapted.count
    chunked = [warning for warning in report.warnings if warning.code == "smaller-chunks"]
    assert "1 object at once" in chunked[-1]
    assert "smaller-chunks" not in {warning.code for warning in expected.warnings}


def test_a_run_that_cannot_look_or_judge_still_gives_what_it_learned(
    small: Model, quarters: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "decode_prompts", _guarded(0, decode_prompts))
    monkeypatch.setattr(Predictor, "segment", _guarded(0, Predictor.segment))
    run = FineTuneRun(small.loaded, quarters, CONFIG)
    reports, adapter, report = finish(run)
    assert len(reports) == 2
    assert {step.held_out_iou for step in reports} == {None}
    assert any(value.abs().sum() > 0 for value in adapter.tensors.values())
    _assert_not_compared(run, report)
    assert report.best_step == 2
    assert "no-checks" in {warning.code for warning in report.warnings}


def test_a_cross_validation_without_memory_to_judge_still_gives_what_it_learned(
    small: Model, quarters: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, labels = quarters[0]
    few = labels * (labels <= sorted(set(labels.ravel().tolist()))[4])
    monkeypatch.setattr(Predictor, "segment", _guarded(0, Predictor.segment))
    run = FineTuneRun(small.loaded, [(image, few)], CONFIG)
    _, _, report = finish(run)
    assert report.cross_validated
    _assert_not_compared(run, report)

"""Memory that runs out while held-out objects are looked at or judged: less at once, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from napari_sam_lora import Model, TrainConfig
from napari_sam_lora.model.predictor import Predictor, decode_prompts
from napari_sam_lora.prompts import Prompts
from napari_sam_lora.training.data.samples import ObjectRef
from napari_sam_lora.training.evaluation import validation
from napari_sam_lora.training.evaluation.acceptance import MOST_JUDGED, pick
from napari_sam_lora.training.memory import MOST_AT_ONCE, ChunkSizes
from napari_sam_lora.training.run import FineTuneRun

from ..runs import Pair, finish

CONFIG = TrainConfig(mode="decoder", steps=2, objects=2, views=1, corrections=0, validation_share=0.5, check_every=1)


def _guarded(most: int, work: Callable[..., Any]) -> Callable[..., Any]:
    """The same work, for which memory is too small with more prompts at once."""

    def guarded(*arguments: Any, **options: Any) -> Any:
        prompts = next(value for value in arguments if isinstance(value, Prompts))
        if len(prompts) > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return work(*arguments, **options)

    return guarded


def test_work_goes_on_with_smaller_portions_and_loses_none() -> None:
    asked: list[int] = []

    def work(part: Sequence[int]) -> list[int]:
        asked.append(len(part))
        if len(part) > 1:
            raise MemoryError
        return [10 * item for item in part]

    portions = ChunkSizes()
    assert portions.collect(range(20), work) == [10 * item for item in range(20)]
    assert asked[:4] == [MOST_AT_ONCE, 4, 1, 1]
    assert [words.partition("with ")[2] for words in portions.warnings] == ["4 objects at once.", "1 object at once."]


def test_caches_are_given_up_one_after_the_other_before_the_error_passes() -> None:
    full = ["prefixes", "embeddings"]
    given: list[str] = []

    def give_up(name: str) -> bool:
        if name in given:
            return False
        given.append(name)
        return True

    portions = ChunkSizes([lambda name=name: give_up(name) for name in full])  # type: ignore[misc]
    portions.at_once = 1
    with pytest.raises(MemoryError):
        portions.collect([1], lambda part: (_ for _ in ()).throw(MemoryError()))
    assert given == full


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        ChunkSizes().collect([1], lambda part: (_ for _ in ()).throw(RuntimeError("shapes do not match")))


@pytest.mark.parametrize(("planes", "each"), [(1, 10), (1, 500), (40, 1), (40, 30), (200, 1)])
def test_objects_that_are_judged_are_spread_over_planes_and_within_them(planes: int, each: int) -> None:
    objects = [ObjectRef(plane, label, "unit") for plane in range(planes) for label in range(1, each + 1)]
    picked = pick(objects)
    assert len(picked) == len(set(picked))
    assert min(MOST_JUDGED / 2, len(objects)) <= len(picked) <= MOST_JUDGED
    assert set(picked) <= set(objects)
    labels, used = {ref.label for ref in picked}, sorted({ref.plane for ref in picked})
    assert {1, each} <= labels or planes == 200
    assert used[0] == 0
    assert used[-1] >= planes // 2


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
    assert [warning for warning in report.warnings if "1 object at once" in warning]
    assert not [warning for warning in expected.warnings if "Memory" in warning]


def test_a_run_that_cannot_look_or_judge_still_gives_what_it_learned(
    small: Model, quarters: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "decode_prompts", _guarded(0, decode_prompts))
    monkeypatch.setattr(Predictor, "segment", _guarded(0, Predictor.segment))
    reports, adapter, report = finish(FineTuneRun(small.loaded, quarters, CONFIG))
    assert len(reports) == 2
    assert {step.held_out_iou for step in reports} == {None}
    assert any(value.abs().sum() > 0 for value in adapter.tensors.values())
    assert report.verdict == "too few"
    assert "not enough memory" in report.reason
    assert "label at least" not in report.reason
    assert report.best_step == 2
    assert any("goes on without" in warning for warning in report.warnings)


def test_a_cross_validation_without_memory_to_judge_still_gives_what_it_learned(
    small: Model, quarters: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, labels = quarters[0]
    few = labels * (labels <= sorted(set(labels.ravel().tolist()))[4])
    monkeypatch.setattr(Predictor, "segment", _guarded(0, Predictor.segment))
    run = FineTuneRun(small.loaded, [(image, few)], CONFIG)
    _, _, report = finish(run)
    assert report.cross_validated
    assert "not enough memory" in report.reason

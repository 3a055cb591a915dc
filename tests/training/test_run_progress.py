"""Events during a run: checks of held-out objects, early ends, trouble, and labels of other kinds."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from error_codes import raises

from napari_sam_lora import Model, TrainConfig
from napari_sam_lora.errors import TrainingError
from napari_sam_lora.training.evaluation.validation import Validator
from napari_sam_lora.training.loop import StepResult, Trainer
from napari_sam_lora.training.run import FineTuneRun

from .runs import FAST, HALF, Pair, finish, only


def test_the_held_out_curve_is_reported_while_it_grows(small: Model, quarters: list[Pair]) -> None:
    config = replace(HALF, steps=5, check_every=2)
    reports, _, report = finish(FineTuneRun(small.loaded, quarters, config))
    looked = [(one.step, one.held_out_iou) for one in reports if one.held_out_iou is not None]
    assert [step for step, _ in looked] == [2, 4, 5]
    assert report.curve[0] == (0, reports[0].base_iou)
    assert report.curve[1:] == tuple(looked)
    assert {one.base_iou for one in reports} == {report.curve[0][1]}
    assert all(0 <= iou <= 1 for _, iou in report.curve)


def test_no_looks_are_taken_if_none_are_wanted(small: Model, quarters: list[Pair]) -> None:
    reports, _, report = finish(FineTuneRun(small.loaded, quarters, replace(HALF, check_every=0)))
    assert {(one.held_out_iou, one.base_iou) for one in reports} == {(None, None)}
    assert report.curve == ()
    assert report.best_step == 3


def _with_curve(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Let the validator measure these values, one after the other."""
    rest = iter(values)
    monkeypatch.setattr(Validator, "measure", lambda self, tree: next(rest))


def test_the_best_state_is_kept_and_judged_by_other_objects(
    small: Model, quarters: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(HALF, steps=4, check_every=1)
    _with_curve(monkeypatch, [0.5, 0.4, 0.7, 0.6, 0.3])
    run = FineTuneRun(small.loaded, quarters, config)
    states = []
    for _ in run:
        assert run._trainer is not None
        states.append(run._trainer.tensors())
    adapter, report = run.result()
    assert report.best_step == adapter.info.training["best_step"] == 2
    assert adapter.info.training["steps_done"] == 4
    assert all(torch.equal(states[1][name], value) for name, value in adapter.tensors.items())
    held = {ref.label for ref in run._split.test}
    judged = {score.label for score in report.base_objects}
    assert judged < held
    assert len(held - judged) >= 3


def test_a_run_without_gain_ends_early(small: Model, quarters: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    _with_curve(monkeypatch, [0.5, 0.6, 0.7, 0.7, 0.65, 0.9])
    config = replace(HALF, steps=50, check_every=1, patience=2)
    reports, adapter, report = finish(FineTuneRun(small.loaded, quarters, config))
    assert len(reports) == len(report.losses) == 4
    assert report.best_step == 2
    assert report.warnings == ()
    assert adapter.info.training["steps_done"] == 4


def test_too_few_held_out_objects_do_not_stop_a_run(small: Model, quarters: list[Pair]) -> None:
    config = replace(FAST, check_every=1, patience=1)
    _, _, report = finish(FineTuneRun(small.loaded, [only(quarters[0], 3)], config))
    assert len(report.losses) == 3
    assert "no-early-stop" in {warning.code for warning in report.warnings}


def test_stopping_keeps_the_best_state_and_looks_at_the_last_one(
    small: Model, quarters: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    for last, best in ((0.6, 2), (0.8, 3)):
        _with_curve(monkeypatch, [0.5, 0.7, last])
        run = FineTuneRun(small.loaded, quarters, replace(HALF, steps=50, check_every=2))
        for _ in range(3):
            next(run)
        run.stop()
        _, report = run.result()
        assert report.best_step == best
        assert report.curve == ((0, 0.5), (2, 0.7), (3, last))


def test_a_discarded_run_leaves_nothing(
    small: Model, quarters: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sam = small.loaded.sam
    before = {name: value.clone() for name, value in sam.state_dict().items()}
    config = replace(HALF, mode="full", tune_decoder="all", cache_bytes=0)
    run = FineTuneRun(small.loaded, quarters, config)
    next(run)
    assert list(tmp_path.iterdir())
    run.discard()
    assert not list(tmp_path.iterdir())
    assert list(run) == []
    with raises(TrainingError, "run-discarded"):
        run.result()
    assert all(torch.equal(before[name], value) for name, value in sam.state_dict().items())
    assert not any(value.requires_grad or value.grad is not None for value in sam.parameters())


def test_a_run_may_be_discarded_during_a_step(
    small: Model, quarters: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run = FineTuneRun(small.loaded, quarters, replace(HALF, cache_bytes=0))
    step = Trainer.step

    def discarding(self: Trainer) -> StepResult:
        run.discard()  # as another thread would
        return step(self)

    monkeypatch.setattr(Trainer, "step", discarding)
    assert len(list(run)) == 1
    assert not list(tmp_path.iterdir())
    with raises(TrainingError, "run-discarded"):
        run.result()


@pytest.mark.parametrize("fails", [False, True])
def test_the_cache_on_disk_is_removed_at_the_end_and_after_an_error(
    small: Model, quarters: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run = FineTuneRun(small.loaded, quarters, replace(HALF, cache_bytes=0))
    next(run)
    assert list(tmp_path.iterdir())
    if fails:
        monkeypatch.setattr(Trainer, "step", lambda self: (_ for _ in ()).throw(TrainingError(code="no")))
        with raises(TrainingError, "no"):
            next(run)
    else:
        list(run)
    assert not list(tmp_path.iterdir())
    _, report = run.result()  # what was learned before the error is not lost
    assert len(report.losses) == (1 if fails else 3)
    assert not list(tmp_path.iterdir())


def test_images_without_labels_are_left_out_with_a_warning(small: Model, quarters: list[Pair]) -> None:
    empty = quarters[1][0], np.zeros((128, 128), np.uint8)
    run = FineTuneRun(small.loaded, [quarters[0], empty], FAST)
    early = run.warnings
    _, adapter, report = finish(run)
    for warnings in (early, report.warnings):
        (warning,) = (one for one in warnings if one.code == "image-without-objects")
        assert "Image 1" in warning
    assert adapter.info.training["images"] == 1


def test_trouble_with_memory_is_said(small: Model, quarters: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    backward = Trainer.backward

    def guarded(self: Trainer, *arguments: Any) -> float:
        if self.fallback.chunk > 1:
            raise MemoryError
        return backward(self, *arguments)

    monkeypatch.setattr(Trainer, "backward", guarded)
    run = FineTuneRun(small.loaded, [only(quarters[0], 4)], FAST)
    list(run)
    (warning,) = run.warnings
    assert warning.code == "smaller-chunks"
    assert "1 object " in warning
    assert run.result()[1].warnings == run.warnings


def test_classes_are_trained_on_part_by_part_and_remembered(small: Model, quarters: list[Pair]) -> None:
    image, labels = quarters[0]
    semantic = np.where(labels > 0, 1 + labels % 3, 0)
    _, adapter, report = finish(FineTuneRun(small.loaded, [(image, semantic)], replace(FAST, labels="classes")))
    assert adapter.info.training["classes"] == [1, 2, 3]
    assert report.base.count >= 3
    assert {score.class_id for score in report.base_objects} <= {1, 2, 3}


def test_masks_are_one_object_an_image(small: Model, quarters: list[Pair]) -> None:
    pairs = [(image, 255 * (labels > 0)) for image, labels in quarters]
    _, _, report = finish(FineTuneRun(small.loaded, pairs, replace(FAST, labels="mask", steps=1)))
    assert report.train_count == report.base.count == 4
    assert report.cross_validated


def test_an_adapter_that_learned_wrong_labels_is_refused(small: Model, quarters: list[Pair]) -> None:
    held = {ref.plane for ref in FineTuneRun(small.loaded, quarters, HALF)._split.test}
    # to the model an object is now what lies half an image away
    pairs = [
        (image, labels if number in held else np.roll(labels, (37, 53), (0, 1)))
        for number, (image, labels) in enumerate(quarters)
    ]
    config = TrainConfig(mode="late", steps=40, objects=6, views=1, learning_rate=5e-3, validation_share=0.5)
    _, _, report = finish(FineTuneRun(small.loaded, pairs, config))
    assert {score.plane for score in report.base_objects} == held
    assert report.verdict == "not better"

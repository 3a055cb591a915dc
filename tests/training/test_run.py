"""Whole runs: their reports, their ends, and how they are judged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from error_codes import raises

from napari_sam_lora import Adapter, Model, Preprocessing, Prompts, TrainConfig, evaluate
from napari_sam_lora.errors import InputError, TrainingError
from napari_sam_lora.training.data.counts import ObjectCounts
from napari_sam_lora.training.evaluation.acceptance import Decision, Judge
from napari_sam_lora.training.run import FineTuneRun

from .runs import FAST, HALF, Pair, finish, only


@pytest.fixture
def encoder_runs(small: Model) -> Iterator[list[int]]:
    """One entry for each time that an encoder begins, in the base or in an adapted tree."""
    runs: list[int] = []
    handle = small.loaded.sam.image_encoder.patch_embed.register_forward_hook(lambda *_: runs.append(1))
    yield runs
    handle.remove()


def test_reports_count_the_steps(small: Model, quarters: list[Pair]) -> None:
    run = FineTuneRun(small.loaded, quarters, HALF)
    reports = list(run)
    assert [report.step for report in reports] == [1, 2, 3]
    assert {report.steps for report in reports} == {3}
    assert {report.phase for report in reports} == {"train"}
    assert [report.objects_seen for report in reports] == [2, 4, 6]
    assert reports[0].seconds_left > reports[-1].seconds_left == 0
    assert reports[0].seconds < reports[1].seconds < reports[2].seconds
    assert all(math.isfinite(report.loss) and report.learning_rate > 0 for report in reports)
    with pytest.raises(FrozenInstanceError):
        reports[0].step = 5  # type: ignore[misc]
    _, report = run.result()
    assert report.losses == tuple(one.loss for one in reports)
    with pytest.raises(FrozenInstanceError):
        report.verdict = "better"  # type: ignore[misc]


def test_figures_are_those_of_the_held_out_images(small: Model, quarters: list[Pair]) -> None:
    config = replace(HALF, learning_rate=0.02, check_every=0)
    _, adapter, report = finish(FineTuneRun(small.loaded, quarters, config))
    held = sorted({score.plane for score in report.base_objects})
    assert len(held) == 2
    base, adapted = evaluate(Model(small.loaded), [quarters[number] for number in held], [None, adapter])
    assert report.base == base.figures
    assert report.adapted == adapted.figures
    assert report.base != report.adapted
    assert [score.label for score in report.base_objects] == [score.label for score in base.objects]
    trained = [labels for number, (_, labels) in enumerate(quarters) if number not in held]
    assert report.train_count == sum(len(np.unique(labels)) - 1 for labels in trained)
    assert report.counts == ObjectCounts(report.train_count, report.base.count, report.base.count)
    assert adapter.info.metrics["objects"] == asdict(report.counts)
    assert not report.cross_validated
    assert len(report.held_out) == 2


@pytest.mark.parametrize(("images", "checked_on"), [(1, "one image"), (2, "same images"), (4, "other images")])
def test_a_better_adapter_says_on_what_it_was_checked(
    small: Model, quarters: list[Pair], monkeypatch: pytest.MonkeyPatch, images: int, checked_on: str
) -> None:
    monkeypatch.setattr(Judge, "decide", lambda *_: Decision("better", "It gained.", "gain"))
    _, adapter, report = finish(FineTuneRun(small.loaded, quarters[:images], FAST))
    assert report.checked_on == adapter.info.metrics["checked_on"] == checked_on
    assert report.use_at_once == (images > 1)
    assert (report.reason == "It gained.") == (images > 1)


def test_the_adapter_says_what_it_is(small: Model, quarters: list[Pair], tmp_path: Path) -> None:
    preprocessing = Preprocessing(window=(0.0, 200.0))
    config = replace(HALF, rank=3)
    _, adapter, report = finish(FineTuneRun(small.loaded, quarters, config, preprocessing))
    info = adapter.info
    assert (info.base_name, info.base_hash) == ("sam_nano", small.loaded.weights_hash)
    assert (info.mode, info.input_size, info.lora.rank) == ("decoder", 128, 3)
    assert info.preprocessing == preprocessing
    assert TrainConfig.from_dict({name: info.training[name] for name in config.as_dict()}) == config
    assert info.training["images"] == 4
    assert info.training["objects_trained_on"] == report.train_count
    assert info.training["steps_done"] == 3
    assert info.training["held_out"] == list(report.held_out)
    assert info.metrics["verdict"] == report.verdict
    assert info.metrics["base"] == asdict(report.base)
    assert info.metrics["adapted"] == asdict(report.adapted)
    assert Adapter.load(adapter.save(tmp_path / "a.safetensors")).info == info


def test_a_stopped_run_keeps_what_it_has_learned(small: Model, quarters: list[Pair]) -> None:
    results = []
    for _ in range(2):
        run = FineTuneRun(small.loaded, quarters, replace(HALF, steps=50))
        next(run)
        next(run)
        run.stop()
        assert list(run) == []
        results.append(run.result())
    (adapter, report), (again, _) = results
    assert len(report.losses) == 2
    assert adapter.info.training["steps_done"] == 2
    assert report.adapted.count >= 5  # it is judged all the same
    assert all(torch.equal(again.tensors[name], value) for name, value in adapter.tensors.items())
    # the low-rank layers began as zeros
    assert any(value.any() for name, value in adapter.tensors.items() if name.endswith(".b"))


def test_a_stopped_run_has_its_result_at_once(small: Model, quarters: list[Pair]) -> None:
    run = FineTuneRun(small.loaded, quarters, HALF)
    next(run)
    run.stop()
    assert len(run.result()[1].losses) == 1


def test_a_run_that_goes_on_has_no_result(small: Model, quarters: list[Pair]) -> None:
    run = FineTuneRun(small.loaded, quarters, HALF)
    next(run)
    with raises(TrainingError, "run-not-ended"):
        run.result()
    next(run)  # asking did no harm


def test_a_run_without_a_step_has_no_result(small: Model, quarters: list[Pair]) -> None:
    run = FineTuneRun(small.loaded, quarters, HALF)
    with raises(TrainingError, "run-not-ended"):
        run.result()
    run.stop()
    assert list(run) == []
    with raises(TrainingError, "run-without-step"):
        run.result()


@pytest.mark.parametrize(("count", "fold_steps"), [(3, (2, 2, 2)), (4, (2, 2, 2))])
def test_few_objects_are_cross_validated(
    small: Model, quarters: list[Pair], count: int, fold_steps: tuple[int, ...]
) -> None:
    """Two thirds of the objects are seen as often in two of three steps."""
    reports, adapter, report = finish(FineTuneRun(small.loaded, [only(quarters[0], count)], FAST))
    phases = [f"check {number} of 3" for number, steps in enumerate(fold_steps, start=1) for _ in range(steps)]
    assert [one.phase for one in reports] == ["train"] * 3 + phases
    assert [one.step for one in reports] == list(range(1, 10))
    assert {one.steps for one in reports} == {9}
    assert reports[-1].seconds_left == 0
    assert report.cross_validated
    assert report.train_count == count
    assert report.base.count == report.adapted.count == count
    labels = np.unique(only(quarters[0], count)[1])[1:]
    assert sorted(score.label for score in report.base_objects) == labels.tolist()
    assert [s.label for s in report.base_objects] == [s.label for s in report.adapted_objects]
    assert report.losses == tuple(one.loss for one in reports[:3])
    assert report.verdict in ("better", "not better")
    assert adapter.info.metrics["cross_validated"] is True
    (base,) = evaluate(Model(small.loaded), [only(quarters[0], count)])
    assert sorted(report.base_objects, key=lambda s: s.label) == sorted(base.objects, key=lambda s: s.label)


def test_where_few_objects_are_held_out_others_test_the_rest(small: Model, quarters: list[Pair]) -> None:
    """Of the quarters one is held out: with 11 objects; two more adapters test those of the others."""
    reports, adapter, report = finish(FineTuneRun(small.loaded, quarters, replace(FAST, check_every=0)))
    counts = [len(np.unique(labels)) - 1 for _, labels in quarters]
    assert [one.phase for one in reports].count("train") == 3
    assert {one.phase for one in reports} == {"train", "check 1 of 2", "check 2 of 2"}
    assert [one.step for one in reports] == list(range(1, reports[-1].steps + 1))
    assert report.cross_validated
    assert report.base.count == report.adapted.count == sum(counts)
    tested = [(score.plane, score.label) for score in report.base_objects]
    assert len(set(tested)) == len(tested)
    assert [(score.plane, score.label) for score in report.adapted_objects] == tested
    # the adapter is the one of a run without cross-validation, and is tested by what it has not learned
    held = report.base_objects[0].plane
    assert report.train_count == sum(counts) - counts[held]
    (own,) = evaluate(Model(small.loaded), [quarters[held]], [adapter])
    assert [replace(score, plane=held) for score in own.objects] == list(report.adapted_objects[: counts[held]])


def test_a_resumed_run_is_tested_only_by_what_its_start_has_not_seen(small: Model, quarters: list[Pair]) -> None:
    config = replace(FAST, check_every=0, steps=1)
    _, start, _ = finish(FineTuneRun(small.loaded, quarters, replace(config, validation_share=0.0)))
    _, _, report = finish(FineTuneRun(small.loaded, quarters, config, start=start))
    assert not report.cross_validated
    assert len({score.plane for score in report.base_objects}) == 1


def test_the_cross_validated_adapter_is_the_one_that_learned_from_all(small: Model, quarters: list[Pair]) -> None:
    pair = only(quarters[0], 4)
    _, checked, _ = finish(FineTuneRun(small.loaded, [pair], FAST))
    _, unchecked, report = finish(FineTuneRun(small.loaded, [pair], replace(FAST, validation_share=0.0)))
    assert report.train_count == 4
    assert all(torch.equal(unchecked.tensors[name], value) for name, value in checked.tensors.items())


def test_a_run_stopped_while_it_is_checked_keeps_the_whole_adapter(small: Model, quarters: list[Pair]) -> None:
    run = FineTuneRun(small.loaded, [only(quarters[0], 4)], FAST)
    assert [next(run).phase for _ in range(4)][-1] == "check 1 of 3"
    run.stop()
    adapter, report = run.result()
    assert len(report.losses) == 3
    assert adapter.info.training["steps_done"] == 3
    assert report.verdict == "too few"


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_objects_give_an_adapter_without_a_judgement(
    small: Model, quarters: list[Pair], tmp_path: Path, count: int
) -> None:
    reports, adapter, report = finish(FineTuneRun(small.loaded, [only(quarters[0], count)], FAST))
    assert {one.phase for one in reports} == {"train"}
    assert report.verdict == "too few"
    assert report.train_count >= 1
    assert not report.cross_validated
    assert Adapter.load(adapter.save(tmp_path / "a.safetensors")).key == adapter.key


def test_nothing_is_checked_if_nothing_is_to_be_held_out(small: Model, quarters: list[Pair], tmp_path: Path) -> None:
    config = replace(FAST, validation_share=0.0, steps=1)
    reports, adapter, report = finish(FineTuneRun(small.loaded, quarters, config))
    assert len(reports) == 1
    assert report.verdict == "too few"
    assert report.base.count == 0
    assert math.isnan(report.base.box_iou)
    assert report.held_out == ()
    assert adapter.save(tmp_path / "a.safetensors").exists()  # figures that are not numbers are left out


def test_what_was_held_out_is_held_out_again(small: Model, quarters: list[Pair]) -> None:
    config = replace(HALF, steps=1, check_every=0)  # all held-out objects are judged, none chooses a state
    _, _, first = finish(FineTuneRun(small.loaded, quarters, config))
    held = {score.plane for score in first.base_objects}
    again = [quarters[number] for number in (2, 0, 3, 1)]
    _, _, second = finish(FineTuneRun(small.loaded, again, config, held_out=first.held_out))
    assert first.held_out == second.held_out
    assert {(2, 0, 3, 1)[score.plane] for score in second.base_objects} == held
    assert first.base == second.base


def test_discarding_a_run_leaves_the_base_as_it_was(small: Model, quarters: list[Pair]) -> None:
    sam = small.loaded.sam
    before = {name: value.clone() for name, value in sam.state_dict().items()}
    modules = [(name, type(module), module.training) for name, module in sam.named_modules()]
    prompts = Prompts(points=[[[64, 64]]])
    logits = Model(small.loaded).segment(small.encode(quarters[0][0]), prompts).logits
    run: Any = FineTuneRun(small.loaded, quarters, replace(HALF, mode="full"))
    next(run)
    # the base is free to be used meanwhile
    assert np.array_equal(Model(small.loaded).segment(small.encode(quarters[0][0]), prompts).logits, logits)
    next(run)
    del run
    assert sam.state_dict().keys() == before.keys()
    assert all(torch.equal(before[name], value) for name, value in sam.state_dict().items())
    assert [(name, type(module), module.training) for name, module in sam.named_modules()] == modules


def test_arrays_may_change_while_a_run_goes_on(small: Model, quarters: list[Pair]) -> None:
    results = []
    for disturbed in (False, True):
        pairs = [(image.copy(), labels.copy()) for image, labels in quarters[:2]]
        run = FineTuneRun(small.loaded, pairs, FAST)
        next(run)
        if disturbed:
            for image, labels in pairs:
                image[:] = 0
                labels[:] = 1
        results.append(finish(run)[1:])
    (adapter, report), (other, other_report) = results
    assert adapter.key == other.key
    assert report.base_objects == other_report.base_objects


def test_a_decoder_run_encodes_a_view_once(small: Model, quarters: list[Pair], encoder_runs: list[int]) -> None:
    config = replace(FAST, views=1)
    _, _, report = finish(FineTuneRun(small.loaded, [only(quarters[0], 3)], config))
    assert report.cross_validated
    # once for the four adapters that are trained, once for the judging of base and adapted models
    assert len(encoder_runs) == 2


def test_settings_that_do_not_fit_the_model_are_refused_before_the_first_step(
    small: Model, quarters: list[Pair]
) -> None:
    for config, code in (
        (replace(FAST, mode="late", late_blocks=7), "late_blocks-out-of-range"),
        (replace(FAST, blocks=(6,)), "blocks-out-of-range"),
    ):
        with raises(InputError, code):
            next(FineTuneRun(small.loaded, quarters, config))


def test_a_run_without_objects_is_refused(small: Model, quarters: list[Pair]) -> None:
    with raises(TrainingError, "no-objects"):
        FineTuneRun(small.loaded, [(quarters[0][0], np.zeros((128, 128), int))], FAST)

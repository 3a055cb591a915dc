"""Checks of held-out objects during a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_sam_lora import Model, Preprocessing, TrainConfig, load_model
from napari_sam_lora.images import StackPosition
from napari_sam_lora.training.data.samples import Labelled, ObjectRef, Plane, snapshot
from napari_sam_lora.training.data.split import list_objects
from napari_sam_lora.training.evaluation.metrics import score_objects, summarise
from napari_sam_lora.training.evaluation.validation import MAX_VALIDATION_OBJECTS, Validator, split_held_out
from napari_sam_lora.training.loop import Trainer

from ..squares import GRID, make_pair


@pytest.fixture(scope="module")
def small() -> Model:
    return load_model("sam_nano", device="cpu", input_size=128)


@pytest.fixture
def planes(nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> tuple[Plane, ...]:
    image, labels = nuclei
    return snapshot([(image[:128, :128], labels[:128, :128])], 128, 2, Preprocessing())


def _refs(count: int, planes: int = 1) -> tuple[ObjectRef, ...]:
    return tuple(ObjectRef(number % planes, number, "unit") for number in range(1, count + 1))


@pytest.mark.parametrize("count", [0, 5, 9])
def test_few_objects_serve_for_validation_and_verdict_and_choose_nothing(count: int) -> None:
    assert split_held_out(_refs(count)) == (_refs(count), _refs(count), False)


@pytest.mark.parametrize(("count", "watched"), [(10, 3), (30, 10), (200, MAX_VALIDATION_OBJECTS)])
@pytest.mark.parametrize("planes", [1, 7])
def test_objects_that_choose_do_not_judge(count: int, watched: int, planes: int) -> None:
    choosing, judging, separate = split_held_out(_refs(count, planes))
    assert separate
    assert len(choosing) <= watched
    assert len(choosing) >= min(watched, 3)
    assert not set(choosing) & set(judging)
    assert set(choosing) | set(judging) == set(_refs(count, planes))
    assert len({ref.plane for ref in choosing}) <= 3


def _stack(depths: range, corners: list[tuple[int, int]]) -> tuple[Plane, ...]:
    """Planes of a stack with the same squares on each."""
    pairs: list[Labelled] = [(*make_pair(z, corners), {}, StackPosition("a", (z,))) for z in depths]
    return snapshot(pairs, 128, 2, Preprocessing())


def test_the_verdict_leaves_out_objects_of_a_stack_that_validation_sees_on_other_planes() -> None:
    planes = _stack(range(2), GRID)
    objects = list_objects(planes)
    choosing, judging, separate = split_held_out(objects, planes)
    assert separate
    assert len(judging) >= 5
    assert not {ref.label for ref in choosing} & {ref.label for ref in judging}
    assert len(split_held_out(objects)[1]) > len(judging), "as if they were images of their own"


def test_objects_that_go_through_all_planes_choose_nothing_where_they_would_judge_themselves() -> None:
    planes = _stack(range(6), GRID[:2])
    objects = list_objects(planes)
    assert split_held_out(objects)[2]
    assert split_held_out(objects, planes) == (objects, objects, False)


def test_the_quick_check_is_close_to_the_scores(small: Model, planes: tuple[Plane, ...]) -> None:
    objects = list_objects(planes)
    trainer = Trainer(small.loaded.sam, planes, objects, TrainConfig(views=1, half_cache=False))
    validator = Validator(planes, objects, trainer.cache)
    figures = summarise(score_objects(small.predictor, planes, objects[:MAX_VALIDATION_OBJECTS], max_clicks=1))
    quick = validator.measure(small.loaded.sam)
    assert quick == pytest.approx((figures.box_iou + figures.click_iou) / 2, abs=0.08)
    assert validator.measure(trainer.tree) == pytest.approx(quick, abs=1e-6)  # an untrained adapter changes nothing


def test_a_check_ignores_dropout_and_leaves_it_on(small: Model, planes: tuple[Plane, ...]) -> None:
    objects = list_objects(planes)
    trainer = Trainer(small.loaded.sam, planes, objects, TrainConfig(views=1, dropout=0.5))
    with torch.no_grad():
        for value in trainer.parameters.values():
            value.add_(0.05 * torch.randn_like(value))
    modes = [module.training for module in trainer.tree.modules()]
    validator = Validator(planes, objects, trainer.cache)
    assert validator.measure(trainer.tree) == validator.measure(trainer.tree)
    assert [module.training for module in trainer.tree.modules()] == modes
    assert any(modes)

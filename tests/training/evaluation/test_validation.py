"""Looks at held-out objects while a run goes on."""

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
from napari_sam_lora.training.evaluation.validation import MOST_WATCHED, Validator, divide
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
def test_few_objects_are_watched_and_judged_alike_and_choose_nothing(count: int) -> None:
    assert divide(_refs(count)) == (_refs(count), _refs(count), False)


@pytest.mark.parametrize(("count", "watched"), [(10, 3), (30, 10), (200, MOST_WATCHED)])
@pytest.mark.parametrize("planes", [1, 7])
def test_objects_that_choose_do_not_judge(count: int, watched: int, planes: int) -> None:
    choosing, judging, apart = divide(_refs(count, planes))
    assert apart
    assert len(choosing) <= watched
    assert len(choosing) >= min(watched, 3)
    assert not set(choosing) & set(judging)
    assert set(choosing) | set(judging) == set(_refs(count, planes))
    assert len({ref.plane for ref in choosing}) <= 3


def _stack(depths: range, corners: list[tuple[int, int]]) -> tuple[Plane, ...]:
    """Planes of a stack with the same squares on each."""
    pairs: list[Labelled] = [(*make_pair(z, corners), {}, StackPosition("a", (z,))) for z in depths]
    return snapshot(pairs, 128, 2, Preprocessing())


def test_objects_of_a_stack_are_not_judged_by_on_planes_beside_those_that_choose() -> None:
    planes = _stack(range(2), GRID)
    objects = list_objects(planes)
    choosing, judging, apart = divide(objects, planes)
    assert apart
    assert len(judging) >= 5
    assert not {ref.label for ref in choosing} & {ref.label for ref in judging}
    assert len(divide(objects)[1]) > len(judging), "as if they were images of their own"


def test_objects_that_go_through_all_planes_choose_nothing_where_they_would_judge_themselves() -> None:
    planes = _stack(range(6), GRID[:2])
    objects = list_objects(planes)
    assert divide(objects)[2]
    assert divide(objects, planes) == (objects, objects, False)


def test_the_quick_look_is_close_to_the_figures(small: Model, planes: tuple[Plane, ...]) -> None:
    objects = list_objects(planes)
    trainer = Trainer(small.loaded.sam, planes, objects, TrainConfig(views=1, half_cache=False))
    monitor = Validator(planes, objects, trainer.cache)
    figures = summarise(score_objects(small.predictor, planes, objects[:MOST_WATCHED], max_clicks=1))
    quick = monitor.measure(small.loaded.sam)
    assert quick == pytest.approx((figures.box_iou + figures.click_iou) / 2, abs=0.08)
    assert monitor.measure(trainer.tree) == pytest.approx(quick, abs=1e-6)  # an untrained adapter changes nothing


def test_a_look_ignores_dropout_and_leaves_it_on(small: Model, planes: tuple[Plane, ...]) -> None:
    objects = list_objects(planes)
    trainer = Trainer(small.loaded.sam, planes, objects, TrainConfig(views=1, dropout=0.5))
    with torch.no_grad():
        for value in trainer.parameters.values():
            value.add_(0.05 * torch.randn_like(value))
    modes = [module.training for module in trainer.tree.modules()]
    monitor = Validator(planes, objects, trainer.cache)
    assert monitor.measure(trainer.tree) == monitor.measure(trainer.tree)
    assert [module.training for module in trainer.tree.modules()] == modes
    assert any(modes)

"""Figures of predicted classes: Dice of a class, and found objects with the right class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam_lora import ClassFigures, Model, TrainingPair, evaluate_classes
from napari_sam_lora.model.dense.dense_model import DenseModel
from napari_sam_lora.model.dense.head import new_dense_head
from napari_sam_lora.parameters.instances import InstanceConfig

from ..blobs import DISC, NAMES, SQUARE, semantic, two_kinds

IMAGE, LABELS, CLASSES = two_kinds(side=64)  # four objects


@pytest.fixture
def sorting(small: Model) -> Model:
    """A model with classes; what it predicts is set by `_predict`."""
    head = new_dense_head(small.loaded.sam, classes=2)
    dense = DenseModel(head, InstanceConfig(smallest=1, smoothing=0, foreground_smoothing=0), classes=NAMES)
    return Model(replace(small.loaded, dense=dense))


def _predict(monkeypatch: pytest.MonkeyPatch, labels: NDArray[np.int64], classes: Mapping[int, int]) -> None:
    pixels = semantic(labels, dict(classes))
    maps = np.stack([pixels > 0, pixels > 0, pixels == SQUARE, pixels == DISC]).astype(np.float32)
    monkeypatch.setattr("napari_sam_lora.training.evaluation.classes.dense_maps", lambda *_: maps)


def _evaluate(model: Model, classes: Mapping[int, int] = CLASSES) -> ClassFigures:
    (figures,) = evaluate_classes(model, [TrainingPair(IMAGE, LABELS, classes=classes)])
    assert figures is not None
    return figures


def test_the_right_classes_have_dice_one(sorting: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    _predict(monkeypatch, LABELS, CLASSES)
    figures = _evaluate(sorting)
    assert set(CLASSES.values()) == {SQUARE, DISC}
    assert figures.dice == {SQUARE: 1, DISC: 1}
    assert (figures.right, figures.matched, figures.accuracy) == (4, 4, 1)


def test_a_wrong_object_takes_from_both_classes(sorting: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    square = next(label for label, class_id in CLASSES.items() if class_id == SQUARE)
    _predict(monkeypatch, LABELS, CLASSES | {square: DISC})
    figures, area = _evaluate(sorting), np.count_nonzero(np.isin(LABELS, square))
    squares, discs = (np.count_nonzero(semantic(LABELS, CLASSES) == number) for number in (SQUARE, DISC))
    assert figures.dice == {
        SQUARE: pytest.approx(2 * (squares - area) / (2 * squares - area)),
        DISC: pytest.approx(2 * discs / (2 * discs + area)),
    }
    assert (figures.right, figures.matched) == (3, 4)


def test_objects_without_a_class_do_not_count(sorting: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    _predict(monkeypatch, LABELS, CLASSES)
    figures = _evaluate(sorting, {1: CLASSES[1]})
    assert figures.dice == {CLASSES[1]: 1}
    assert (figures.right, figures.matched) == (1, 1)


def test_labels_may_be_classes_and_planes_empty(sorting: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    _predict(monkeypatch, LABELS, CLASSES)
    pairs = [(IMAGE, semantic(LABELS, CLASSES)), (IMAGE, np.zeros_like(LABELS))]
    (figures,) = evaluate_classes(sorting, pairs, labels="classes")
    assert figures is not None
    assert figures.dice == {SQUARE: pytest.approx(2 / 3), DISC: pytest.approx(2 / 3)}  # twice predicted, once there
    assert (figures.right, figures.matched) == (4, 4)
    assert np.isnan(ClassFigures().accuracy)
    assert ClassFigures().dice == {}


def test_figures_of_several_planes_are_those_of_all_their_pixels() -> None:
    one = ClassFigures({1: 5}, {1: 10}, {1: 10, 2: 4}, 1, 2)
    other = ClassFigures({1: 30}, {1: 40}, {1: 40}, 3, 3)
    both = one + other
    assert both.dice == {1: pytest.approx(70 / 100), 2: 0}
    assert both.accuracy == pytest.approx(4 / 5)


def test_without_classes_there_are_no_figures(small: Model) -> None:
    assert evaluate_classes(small, [TrainingPair(IMAGE, LABELS, classes=CLASSES)]) == [None]

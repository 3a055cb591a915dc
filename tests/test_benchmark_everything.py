"""The benchmark of everything mode: its figures, what is continued, and what a user labels in part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.alternatives import UNKNOWN, classes, known_classes
from benchmarks.everything import (
    THRESHOLDS,
    EverythingPlan,
    average_precisions,
    labelled,
    measure,
    search,
)
from benchmarks.everything_tables import EverythingRow, tables
from benchmarks.partial_labels import label_partly, training_pairs
from benchmarks.row_files import read_rows, write_rows
from benchmarks.sets import LabelledPlane, annotation_of
from benchmarks.splits import LearningSplit
from napari_sam_lora.parameters.training import TrainConfig
from napari_sam_lora.training.dense.targets import RING, known_pixels
from napari_sam_lora.training.evaluation.instance_matching import match_objects


def _plane(objects: int = 16) -> LabelledPlane:
    labels = np.zeros((96, 96), np.int64)
    for number in range(objects):
        y, x = 6 + 22 * (number // 4), 6 + 22 * (number % 4)
        labels[y : y + 12, x : x + 12] = number + 1
    return LabelledPlane("plane", (labels > 0).astype(np.uint8) * 200, labels)


def _row(**values: Any) -> EverythingRow:
    return replace(EverythingRow("nuclei", "base", objects=10, precision=0.5, mean_precision=0.3), **values)


def test_average_precision_falls_with_the_threshold() -> None:
    wanted = np.zeros((30, 30), np.int64)
    wanted[:10, :10], wanted[20:, 20:] = 1, 2
    found = np.zeros_like(wanted)
    found[:10, :7], found[20:, 20:], found[:5, 20:] = 5, 6, 7  # IoU .7 and 1, and one for nothing
    precisions = average_precisions([found], [wanted])
    for threshold, precision in zip(THRESHOLDS, precisions, strict=True):
        hits = 2 if threshold < 0.7 else 1
        assert precision == pytest.approx(hits / (5 - hits))
    assert precisions[0] == match_objects(found, wanted).average_precision
    assert np.isnan(average_precisions([np.zeros_like(wanted)], [np.zeros_like(wanted)])).all()


def test_of_incomplete_labels_only_the_share_that_is_found_is_known() -> None:
    plane = _plane(4)
    found = np.where(plane.labels == 4, 0, plane.labels)
    found[60:80, 60:80] = 9  # perhaps an object without a label
    complete = search([plane], lambda _: found, EverythingRow("nuclei", "base"))
    assert (complete.objects, complete.found, complete.matched) == (4, 4, 3)
    assert complete.precision == pytest.approx(3 / 5)
    incomplete = search([plane], lambda _: found, EverythingRow("nuclei", "base", annotation="incomplete"))
    assert (incomplete.precision, incomplete.mean_precision, incomplete.figure) == (None, None, 0.75)
    assert annotation_of("plantseg_nuclei3d") == annotation_of("mine", ("mine",)) == "incomplete"
    assert (annotation_of("msd_hippocampus"), annotation_of("mine")) == ("semantic", "complete")


def test_a_quarter_of_the_objects_and_scribbles_are_known() -> None:
    whole = _plane()
    part = label_partly(whole, 0.25, np.random.default_rng(0))
    kept = np.unique(part.labels[part.labels > 0])
    assert len(kept) == 4
    np.testing.assert_array_equal(part.labels, np.where(np.isin(whole.labels, kept), whole.labels, 0))
    assert isinstance(part.background, np.ndarray)
    assert 20 < np.count_nonzero(part.background) < 3 * 3 * 64
    assert not part.background[whole.labels > 0].any()
    assert training_pairs([part])[0][4] is part.background  # type: ignore[misc]
    other = label_partly(whole, 0.25, np.random.default_rng(1))
    assert not np.array_equal(other.labels, part.labels)
    assert len(np.unique(label_partly(_plane(1), 0.25, np.random.default_rng(0)).labels)) == 2


def test_alternatives_learn_from_the_same_pixels_as_the_dense_head() -> None:
    part = label_partly(_plane(), 0.25, np.random.default_rng(0))
    known = known_pixels(part.labels, np.unique(part.labels), part.background)
    targets = known_classes(part)
    np.testing.assert_array_equal(targets == UNKNOWN, ~known)
    np.testing.assert_array_equal(targets[known], classes(part.labels)[known])
    np.testing.assert_array_equal(known_classes(_plane()), classes(_plane().labels))


def test_without_complete_labels_no_background_is_known_but_rings() -> None:
    (plane,) = labelled([_plane(1)], EverythingRow("nuclei", "adapted", annotation="incomplete"))
    assert plane.background is False
    known = known_classes(plane) != UNKNOWN
    side = 12 + 2 * RING
    assert 12**2 < np.count_nonzero(known) < side**2


class _FakeModel:
    """A model that finds what is bright, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []

    def segment_everything(self, image: Any, smallest: int, method: str | None = None) -> Any:
        self.asked.append(method)
        return (image > 100).astype(np.int32)


def test_a_run_is_continued_where_it_was_interrupted(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    split = LearningSplit("nuclei", (_plane(),), (_plane(1),))
    plan = EverythingPlan(TrainConfig(), methods=("base", "clicks", "u-net"), counts=(1, 2), seeds=2, settings="these")
    planned = list(plan.rows(split))
    assert [(row.method, row.images, row.seed) for row in planned] == [
        ("base", 0, 0),
        ("clicks", 0, 0),
        ("u-net", 1, 0),
        ("u-net", 1, 1),
    ]
    model: Any = _FakeModel()
    rows: Iterator[EverythingRow] = measure(split, model, plan)
    write_rows(file, [next(rows)])
    assert model.asked == [None]
    earlier = read_rows(file, EverythingRow, "these")
    # The U-Net is left out, because no adapter tells how long it may train.
    continued = list(measure(split, model, plan, earlier))
    assert model.asked == [None, "clicks"]
    assert [row.method for row in continued] == ["clicks"]
    assert continued[0].precision == earlier[0].precision == 1.0
    with pytest.raises(ValueError, match="other settings"):
        read_rows(file, EverythingRow, "others")


def test_a_unet_is_trained_for_the_time_of_its_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[float, int, float]] = []

    def train(planes: Any, seconds: float, seed: int, rate: float) -> Any:
        trained.append((seconds, seed, rate))
        inside = 1.0 if rate == 1e-3 else 0.0  # only this one finds something
        return lambda image: np.stack([np.full(image.shape[:2], 0.5), inside * image[..., 0], 0 * image[..., 0]])

    monkeypatch.setattr("benchmarks.everything.train_unet", train)
    split = LearningSplit("nuclei", (_plane(),), (_plane(4),))
    plan = EverythingPlan(TrainConfig(), methods=("u-net",), counts=(1,), seeds=2)
    adapted = [EverythingRow("nuclei", "adapted", seed, 1, seconds=30.0 + seed) for seed in range(2)]
    rows = list(measure(split, None, plan, adapted))  # type: ignore[arg-type]
    assert trained == [(30.0, 0, 3e-3), (30.0, 0, 1e-3), (31.0, 1, 3e-3), (31.0, 1, 1e-3)]
    assert [(row.found, row.precision, row.seconds) for row in rows] == [(4, 1.0, 30.0), (4, 1.0, 31.0)]


def test_tables_have_means_and_ranges_over_seeds_and_flag_harmful_adapters() -> None:
    adapted = [
        _row(
            method="adapted",
            seed=seed,
            images=4,
            precision=precision,
            mean_precision=0.4,
            seconds=60.0,
            verdict=verdict,
            own_head=True,
        )
        for seed, (precision, verdict) in enumerate([(0.4, "better"), (0.8, "better"), (0.1, "not better")])
    ]
    part = replace(adapted[1], labelled_share=0.25, images=1)
    apart = [_row(set="organ", annotation="semantic"), replace(adapted[0], set="organ", annotation="semantic")]
    printed = tables([_row(), *adapted, part, *apart])
    figures = "0.500 / 0.300 | 0.433 (0.100 to 0.800) / 0.400 | adapted 60"
    assert f"| nuclei | 10 | {figures} | better, but worse, better, not better |" in printed
    assert "### 1 labelled image, 25% of their objects labelled" in printed
    # Of the last run the base model is used: the mean of .4, .8 and .5. The organ does not count.
    assert "| 4 | 100% | 0.500 / 0.300 | 0.433 / 0.400 | 0.567 / 0.367 | 2 of 3 | nuclei seed 0 |" in printed
    assert "| 1 | 25% | 0.500 / 0.300 | 0.800 / 0.400 | 0.800 / 0.400 | 1 of 1 | none |" in printed
    assert "organ (semantic)" in printed

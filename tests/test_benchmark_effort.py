"""The benchmark of the user's work: what the simulated user does, and when models are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.effort import Assistance, FineTuning, Lesson, Masks, effort, finish, in_order, measure, unet_training
from benchmarks.effort_tables import Effort, EffortRow, actions_an_object, image_groups, tables
from benchmarks.row_files import append_rows, read_rows
from benchmarks.sets import LabelledPlane
from benchmarks.splits import LearningSplit
from napari_sam_lora.parameters.training import TrainConfig

ROW = EffortRow(set="cells", policy="base", seed=0, image=1, settings="these")


def _truth() -> NDArray[np.int64]:
    labels = np.zeros((60, 60), np.int64)
    for number in range(4):
        labels[15 * number : 15 * number + 10, 5:15] = 3 + number
    return labels


class _Clicks:
    """Counts clicks as it is told, and keeps what it was asked for."""

    def __init__(self, correcting: list[int], adding: list[int]) -> None:
        self.answers = {True: correcting, False: adding}
        self.asked: list[tuple[Masks, Masks | None]] = []

    def __call__(self, truth: Masks, found: Masks | None) -> list[int]:
        self.asked.append((truth, found))
        return self.answers[found is not None]


def test_false_missed_and_poor_objects_cost_what_the_user_does() -> None:
    truth = _truth()
    found = np.zeros_like(truth)
    found[0:10, 5:14] = 1  # IoU .9 with object 3: kept
    found[15:25, 5:11] = 2  # IoU .6 with object 4: corrected
    found[40:50, 40:50] = 7  # no object: dropped
    found[30:34, 5:15] = 8  # IoU .4 with object 5: dropped, and the object is missed, as is object 6
    clicks = _Clicks([2], [1, 7])
    done = effort(found, truth, clicks)
    assert done == Effort(
        objects=4,
        proposed=4,
        accepted=1,
        dropped=2,
        corrected=1,
        missed=2,
        correcting_clicks=2,
        adding_clicks=1 + 6,
        drawn=1,
    )
    assert done.actions == 2 + 2 + (1 + 6) + 10
    (poor, masks), (missed, nothing) = clicks.asked
    np.testing.assert_array_equal(poor, [truth == 4])
    np.testing.assert_array_equal(masks, [found == 2])
    np.testing.assert_array_equal(missed, [truth == 5, truth == 6])
    assert nothing is None


def test_of_two_halves_of_an_object_one_is_dropped() -> None:
    truth = np.where(_truth() == 3, 3, 0)
    found = np.zeros_like(truth)
    found[0:5, 5:15], found[5:10, 5:15] = 1, 2
    done = effort(found, truth, _Clicks([3], []))
    assert (done.dropped, done.corrected, done.missed, done.actions) == (1, 1, 0, 4)


def test_perfect_proposals_need_no_action_and_without_proposals_every_object_needs_a_click() -> None:
    truth = _truth()
    assert effort(truth, truth, _Clicks([], [])).actions == 0
    done = effort(np.zeros_like(truth), truth, _Clicks([], [1, 1, 2, 1]))
    assert (done.proposed, done.missed, done.actions) == (0, 4, 5)
    assert effort(truth, np.zeros_like(truth), _Clicks([], [])) == Effort(proposed=4, dropped=4)


class _Predictor:
    """A predictor whose masks are never good, or all of the object at the second click."""

    def encode(self, image: Any) -> Any:
        return image

    def segment(self, embedding: Any, prompts: Any) -> Any:
        good = prompts.point_count(0) >= 2
        masks = np.repeat((embedding > 0)[None] & good, len(prompts), 0)

        class Result:
            pass

        result = Result()
        result.masks, result.logits = masks, np.zeros((len(prompts), 8, 8), np.float32)  # type: ignore[attr-defined]
        return result


def _planes(count: int) -> list[LabelledPlane]:
    labels = np.where(_truth() == 3, 3, 0)
    return [LabelledPlane(str(number), labels.astype(np.uint8), labels) for number in range(count)]


def _nothing(plane: LabelledPlane) -> NDArray[np.int64]:
    return np.zeros_like(plane.labels)


def test_models_are_trained_on_finished_images_only() -> None:
    predictor: Any = _Predictor()
    base, trained_on = Assistance(_nothing, predictor), []

    def train(finished: Sequence[LabelledPlane], present: Assistance) -> Lesson:
        trained_on.append([plane.source for plane in finished])
        if len(finished) < 2:
            return Lesson(present, 5.0, "not better")
        return Lesson(Assistance(lambda plane: plane.labels, predictor, adapted=True), 7.0, "better")

    rows = list(finish(_planes(4), base, train, ROW))
    assert trained_on == [["0"], ["0", "1"]]
    assert [row.image for row in rows] == [1, 2, 3, 4]
    assert [row.actions for row in rows] == [2, 2, 0, 0]
    assert [row.seconds for row in rows] == [0.0, 5.0, 7.0, 0.0]
    assert [row.adapted for row in rows] == [False, False, True, True]
    assert [row.actions for row in finish(_planes(2), base, None, ROW)] == [2, 2]


def test_an_adapter_that_is_not_better_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Report:
        verdict, held_out = "not better", ("unit",)

    def fine_tune(model: Any, pairs: Any, config: Any, held_out: Any) -> Any:
        asked.append((len(pairs), held_out))
        return None, Report()

    monkeypatch.setattr("benchmarks.effort.fine_tune", fine_tune)
    present = Assistance(_nothing, None)  # type: ignore[arg-type]
    training = FineTuning(None, TrainConfig())  # type: ignore[arg-type]
    assert training(_planes(1), present).assistance is present
    assert training(_planes(2), present).verdict == "not better"
    assert asked == [(1, []), (2, ["unit"])]


def test_a_unet_proposes_and_the_base_model_takes_the_clicks(monkeypatch: pytest.MonkeyPatch) -> None:
    budgets: list[float] = []

    def train(planes: Any, seconds: float, seed: int) -> Any:
        budgets.append(seconds)
        return lambda image: np.stack([np.full(image.shape[:2], 0.5), image[..., 0], 0 * image[..., 0]])

    monkeypatch.setattr("benchmarks.effort.train_unet", train)
    present = Assistance(_nothing, _Predictor())  # type: ignore[arg-type]
    training = unet_training({1: 12.0, 2: 0.0}, 0)
    assert training(_planes(2), present).assistance is present
    lesson = training(_planes(1), present)
    (plane,) = _planes(1)
    np.testing.assert_array_equal(lesson.assistance.propose(plane) > 0, plane.labels > 0)
    assert lesson.assistance.predictor is present.predictor
    assert budgets == [12.0]


def test_each_seed_has_its_own_order_of_the_same_images() -> None:
    split = LearningSplit("cells", tuple(_planes(6)[:4]), tuple(_planes(6)[4:]))
    orders = [[plane.source for plane in in_order(split, 5, seed)] for seed in range(3)]
    assert orders[0] == ["0", "1", "2", "3", "4"]
    assert sorted(orders[1]) == sorted(orders[2]) == orders[0]
    assert orders[1] != orders[2]


def test_tables_give_actions_an_object_between_trainings_and_continue(tmp_path: Path) -> None:
    assert image_groups(12) == [(1, 1), (2, 2), (3, 4), (5, 8), (9, 12)]
    assert image_groups(3) == [(1, 1), (2, 2), (3, 3)]
    base = [replace(ROW, image=image, objects=10, dropped=20) for image in (1, 2, 3)]
    tuned = [
        replace(base[0], policy="fine-tuned"),
        replace(base[1], policy="fine-tuned", verdict="not better"),
        replace(base[2], policy="fine-tuned", verdict="better", dropped=5),
    ]
    assert actions_an_object(tuned) == pytest.approx(1.5)
    organ = replace(ROW, set="organ", annotation="semantic", objects=1, dropped=50)
    printed = tables([*base, *tuned, organ])
    assert "| cells | 3 | 30 | fine-tuned | 2.00 | 2.00 | 0.50 | 1.50 | 1 of 2 |" in printed
    assert "| cells | 3 | 30 | base | 2.00 | 2.00 | 2.00 | 2.00 |  |" in printed
    assert "| mean of 1 set |  |  | base | 2.00 | 2.00 | 2.00 | 2.00 |  |" in printed
    assert "| cells | fine-tuned | 0 | 150 | 0 | 0 | 0 | 0 | 0 |" in printed
    file = tmp_path / "rows.json"
    assert append_rows(file, [], base[:1]) == base[:1]
    append_rows(file, [], tuned)  # by another process
    assert append_rows(file, base[:1], base[1:]) == base[:1] + tuned + base[1:]
    assert read_rows(file, EffortRow, "these") == base[:1] + tuned + base[1:]


def test_clicks_on_a_model_are_counted_until_the_mask_is_good() -> None:
    (plane,) = _planes(1)
    truth = plane.labels > 0
    counter = Assistance(_nothing, _Predictor()).click_counter(plane)  # type: ignore[arg-type]
    assert counter([truth], None) == [2]
    half = truth.copy()
    half[:5] = False
    assert counter([truth, truth], [half, half]) == [2, 2]


def test_a_file_of_another_benchmark_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text('[{"set": "cells", "box_iou": 0.5}]')
    with pytest.raises(ValueError, match="other figures"):
        read_rows(file, EffortRow, "these")
    assert read_rows(tmp_path / "missing.json", EffortRow, "these") == []


def test_without_proposals_objects_are_only_added() -> None:
    split = LearningSplit("cells", tuple(_planes(2)), ())
    model: Any = SimpleNamespace(
        predictor=_Predictor(), segment_everything=lambda image, smallest: np.where(image > 0, 0, 1)
    )
    for policy, dropped in (("clicks", 0), ("base", 1)):
        rows = measure(split, model, TrainConfig(), 2, replace(ROW, policy=policy), ())  # type: ignore[arg-type]
        assert [(row.dropped, row.missed, row.adding_clicks) for row in rows] == [(dropped, 1, 2)] * 2

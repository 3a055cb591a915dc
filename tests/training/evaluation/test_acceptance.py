"""The verdict: an adapter must gain something and harm nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam_lora.training.data.samples import ObjectRef
from napari_sam_lora.training.evaluation.acceptance import MOST_JUDGED, decide, spread_objects
from napari_sam_lora.training.evaluation.found import FoundPair
from napari_sam_lora.training.evaluation.instance_matching import Matches
from napari_sam_lora.training.evaluation.metrics import ObjectScore

Values = Sequence[float] | NDArray[np.float64]


def _scores(boxes: Values, clicks: Values) -> list[ObjectScore]:
    return [
        ObjectScore(0, number, box, box, click, click, 1)
        for number, (box, click) in enumerate(zip(boxes, clicks, strict=True), start=1)
    ]


def _sized(boxes: Values, clicks: Values, areas: Sequence[int]) -> list[ObjectScore]:
    return [replace(score, area=area) for score, area in zip(_scores(boxes, clicks), areas, strict=True)]


BASE = _scores([0.5, 0.6, 0.7, 0.8], [0.4, 0.5, 0.6, 0.7])


@pytest.mark.parametrize(("count", "figure"), [(0, " 0 "), (1, " 1 labelled object "), (2, " 2 labelled objects ")])
def test_fewer_than_three_objects_are_too_few(count: int, figure: str) -> None:
    decision = decide(BASE[:count], _scores([1.0] * count, [1.0] * count))
    assert (decision.verdict, decision.code) == ("too few", "too-few-objects")
    assert figure in decision.reason
    assert " 3," in decision.reason


def test_three_objects_are_enough() -> None:
    assert decide(BASE[:3], _scores([0.9] * 3, [0.9] * 3)).verdict == "better"


def test_a_gain_with_boxes_and_clicks_is_better() -> None:
    decision = decide(BASE, _scores([0.6, 0.7, 0.8, 0.9], [0.6, 0.7, 0.8, 0.9]))
    assert (decision.verdict, decision.code) == ("better", "gain")
    assert " 4 " in decision.reason
    assert "+0.100 ± 0.000 IoU with boxes" in decision.reason
    assert "+0.200 ± 0.000 IoU with first clicks" in decision.reason


def test_a_small_gain_of_few_objects_is_chance() -> None:
    gains = np.array([0.004, -0.02, 0.03, 0.01, -0.01, 0.022])  # mean 0.006, standard error 0.008
    base = _scores([0.5] * 6, [0.5] * 6)
    decision = decide(base, _scores(0.5 + gains, 0.5 + gains))
    assert (decision.verdict, decision.code) == ("not better", "gain-uncertain")
    assert "may be chance" in decision.reason
    # the same gains of five times as many objects are evidence
    many = np.tile(gains, 5)
    assert decide(_scores([0.5] * 30, [0.5] * 30), _scores(0.5 + many, 0.5 + many)).code == "gain"


def test_a_loss_within_its_interval_is_forgiven_and_said() -> None:
    # box differences -0.2, 0.2, -0.2, 0.12: mean -0.02, standard deviation 0.21, standard error 0.105
    decision = decide(BASE, _scores([0.3, 0.8, 0.5, 0.92], [0.7, 0.8, 0.9, 1.0]), _pair(FOUND, Matches(18, 0, 2)))
    assert decision.verdict == "better"
    # Student's t of three degrees of freedom is 2.353
    assert "-0.020 ± 0.248 IoU with boxes" in decision.reason
    assert "boxes seem worse" in decision.reason
    assert "seem worse" not in decide(BASE, _scores([0.9] * 4, [0.9] * 4)).reason


def test_a_certain_loss_is_not_better_whatever_is_gained_elsewhere() -> None:
    # box differences of -0.02 each: standard error 0
    decision = decide(BASE, _scores([0.48, 0.58, 0.68, 0.78], [0.9, 0.9, 0.9, 0.9]))
    assert (decision.verdict, decision.code) == ("not better", "boxes-worse")
    assert "-0.020 ± 0.000 IoU with boxes" in decision.reason
    assert "+0.350 ± 0.152 IoU with first clicks" in decision.reason  # 2.353 standard errors of 0.0645


def test_a_certain_loss_that_nobody_would_see_is_forgiven() -> None:
    decision = decide(BASE, _scores([score.box_iou - 0.004 for score in BASE], [0.9] * 4))
    assert decision.verdict == "better"


def test_a_large_loss_needs_less_evidence() -> None:
    # box differences -0.2, -0.1, -0.1, 0.1: mean -0.075, standard error 0.063, half of the interval 0.148
    boxes, clicks = [0.3, 0.5, 0.6, 0.9], [0.9] * 4
    assert decide(BASE, _scores(boxes, clicks)).code == "boxes-worse"
    # -0.2, -0.1, 0, 0.15: mean -0.0375
    assert decide(BASE, _scores([0.3, 0.5, 0.7, 0.95], clicks)).code == "gain"


def test_clicks_must_not_get_worse_either() -> None:
    decision = decide(BASE, _scores([0.9] * 4, [0.35, 0.46, 0.55, 0.66]))
    assert (decision.verdict, decision.code) == ("not better", "clicks-worse")


def test_no_gain_at_all_is_not_better() -> None:
    decision = decide(BASE, BASE)
    assert (decision.verdict, decision.code) == ("not better", "no-gain")
    assert "+0.000 ± 0.000 IoU with boxes" in decision.reason


@pytest.mark.parametrize(
    ("gain", "verdict", "code"), [(0.004, "not better", "gain-too-small"), (0.006, "better", "gain")]
)
def test_a_gain_that_nobody_would_see_is_not_better(gain: float, verdict: str, code: str) -> None:
    better = _scores([score.box_iou + gain for score in BASE], [score.click_iou + gain for score in BASE])
    decision = decide(BASE, better)
    assert (decision.verdict, decision.code) == (verdict, code)


def test_gains_and_losses_that_cancel_are_not_better() -> None:
    # both differ by noise around a mean below zero
    adapted = _scores([0.3, 0.8, 0.5, 0.92], [0.2, 0.7, 0.4, 0.82])
    decision = decide(BASE, adapted)
    assert (decision.verdict, decision.code) == ("not better", "no-gain")


def test_lists_of_different_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        decide(BASE, BASE[:3])


@pytest.mark.parametrize(("planes", "each"), [(1, 10), (1, 500), (40, 1), (40, 30), (200, 1)])
def test_objects_that_are_judged_are_spread_over_planes_and_within_them(planes: int, each: int) -> None:
    objects = [ObjectRef(plane, label, "unit") for plane in range(planes) for label in range(1, each + 1)]
    chosen = spread_objects(objects)
    assert len(chosen) == len(set(chosen))
    assert min(MOST_JUDGED / 2, len(objects)) <= len(chosen) <= MOST_JUDGED
    assert set(chosen) <= set(objects)
    labels, used = {ref.label for ref in chosen}, sorted({ref.plane for ref in chosen})
    assert {1, each} <= labels or planes == 200
    assert used[0] == 0
    assert used[-1] >= planes // 2


def _each(found: Matches) -> tuple[Matches, ...]:
    """Spread matches over objects, which are all found or missed; the first of them are found."""
    count = found.true_positives + found.false_negatives
    false = [found.false_positives // count + (number < found.false_positives % count) for number in range(count)]
    hits = [number < found.true_positives for number in range(count)]
    return tuple(Matches(int(hit), more, int(not hit)) for hit, more in zip(hits, false, strict=True))


def _pair(base: Matches, adapted: Matches) -> FoundPair:
    return FoundPair(_each(base), _each(adapted))


# Of 20 objects 10 are found by the base model.
FOUND = Matches(10, 0, 10)


def test_objects_found_without_prompts_are_a_gain_of_their_own() -> None:
    decision = decide(BASE, BASE, _pair(FOUND, Matches(18, 0, 2)))
    assert (decision.verdict, decision.code) == ("better", "gain")
    assert "+0.400" in decision.reason
    decision = decide(BASE, BASE, _pair(FOUND, Matches(11, 0, 9)))
    assert (decision.verdict, decision.code) == ("not better", "gain-uncertain")


def test_fewer_found_objects_or_more_false_ones_are_a_loss_whatever_is_gained_elsewhere() -> None:
    better = _scores([0.9] * 4, [0.9] * 4)
    for worse in (Matches(3, 0, 17), Matches(10, 40, 10)):
        decision = decide(BASE, better, _pair(FOUND, worse))
        assert (decision.verdict, decision.code) == ("not better", "found-worse")
    assert decide(BASE, better, _pair(FOUND, Matches(9, 0, 11))).verdict == "better"


def test_the_error_of_a_gain_is_that_of_the_same_objects() -> None:
    """Of paired differences d (k times 1, and 1 and -1 for what is uncertain): the standard error of their mean."""
    for more in (0, 1, 4, 10):
        differences = np.array([1] * more + [0] * (20 - more) + [1, -1])
        expected = differences.std(ddof=1) / np.sqrt(len(differences))
        pair = _pair(FOUND, Matches(10 + more, 0, 10 - more))
        assert pair.gain == pytest.approx(more / 20)
        assert pair.standard_error == pytest.approx(expected)
    swapped = FoundPair(_each(FOUND), _each(FOUND)[::-1])  # each model finds what the other one misses
    assert swapped.gain == 0
    assert swapped.standard_error > 2 * _pair(FOUND, FOUND).standard_error


def test_a_gain_in_found_objects_needs_an_interval_without_zero() -> None:
    # k more of 20, with standard errors of .100 and .107: 1.729 of them (Student's t) are .173 and .185
    assert decide(BASE, BASE, _pair(FOUND, Matches(13, 0, 7))).code == "gain-uncertain"
    decision = decide(BASE, BASE, _pair(FOUND, Matches(14, 0, 6)))
    assert decision.code == "gain"
    assert "+0.200 ± 0.185 average precision" in decision.reason
    # the same share of few objects is not enough
    assert decide(BASE, BASE, _pair(Matches(2, 0, 2), Matches(3, 0, 1))).code == "gain-uncertain"


def test_one_object_of_seven_that_is_not_found_any_more_is_not_a_loss() -> None:
    better = _scores([0.9] * 7, [0.9] * 7)
    base, seven = _scores([0.5] * 7, [0.5] * 7), Matches(6, 0, 1)
    decision = decide(base, better, _pair(seven, Matches(5, 0, 2)))
    assert decision.verdict == "better"
    assert "without prompts seem worse" in decision.reason
    # three of seven are
    assert decide(base, better, _pair(seven, Matches(3, 0, 4))).code == "found-worse"


@pytest.mark.parametrize(("size", "name"), list(enumerate(["small", "middle", "large"])))
@pytest.mark.parametrize("kind", ["boxes", "clicks"])
def test_a_loss_of_objects_of_one_size_is_not_hidden_by_the_others(size: int, name: str, kind: str) -> None:
    areas = [10 + number for number in range(21)]
    base = _sized([0.5] * 21, [0.5] * 21, areas)
    gains = np.where(np.arange(21) // 7 == size, -0.1, 0.2) + np.resize([0.02, -0.02], 21)
    none = np.full(21, 0.05)
    boxes, clicks = (gains, none) if kind == "boxes" else (none, gains)
    adapted = _sized(0.5 + boxes, 0.5 + clicks, areas)
    decision = decide(base, adapted)
    assert (decision.verdict, decision.code) == ("not better", f"{kind}-worse-{name}-objects")
    assert f"on {name} objects (-0.09" in decision.reason or f"on {name} objects (-0.10" in decision.reason
    # without sizes, or with too few of each, nothing can be said
    assert decide(_scores([0.5] * 21, [0.5] * 21), _scores(0.5 + boxes, 0.5 + clicks)).code == "gain"
    few = [number for number in range(21) if number % 3]
    assert decide([base[number] for number in few], [adapted[number] for number in few]).code == "gain"


def test_folds_are_judged_together() -> None:
    one, two = _pair(FOUND, Matches(12, 0, 8)), _pair(FOUND, Matches(14, 1, 6))
    both = one + two
    assert both.base == Matches(20, 0, 20)
    assert both.adapted == Matches(26, 1, 14)
    assert (one + FoundPair(None, _each(FOUND))).base is None


def test_a_base_model_without_a_head_has_nothing_to_compare_with() -> None:
    found = FoundPair(None, _each(Matches(0, 5, 20)))
    assert decide(BASE, _scores([0.9] * 4, [0.9] * 4), found).verdict == "better"
    assert decide(BASE, BASE, FoundPair(None, _each(Matches(20, 0, 0)))).verdict == "not better"
    nothing = FoundPair((), ())
    assert decide(BASE, BASE, nothing).verdict == "not better"

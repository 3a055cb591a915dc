"""Embeddings and masks, against segment-anything's own predictor on the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from error_codes import raises
from numpy.typing import NDArray
from segment_anything import SamPredictor

from napari_sam_lora import Model, Prompts
from napari_sam_lora.errors import InputError
from napari_sam_lora.model.embeddings import Embedding
from napari_sam_lora.model.input_size import at_input_size
from napari_sam_lora.model.predictor import OBJECTS_AT_ONCE, Predictor, Result

from .conftest import Twins

TOLERANCE: Any = {"rtol": 1e-4, "atol": 2e-5}
WIDE, TALL = (90, 200), (320, 171)
# In (y, x), within the smallest plane.
BOX_A, BOX_B = (10.0, 20.0, 60.0, 120.0), (30.25, 5.5, 85.0, 64.75)
POINT_A, POINT_B, POINT_C = (40.0, 30.0), (71.5, 150.25), (5.0, 160.0)


@dataclass(frozen=True)
class Pair:
    """One plane under both predictors."""

    ours: Predictor
    embedding: Embedding
    theirs: SamPredictor

    def expected(self, multimask: bool, **prompt: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Masks, scores, low-resolution logits and logits of the plane, of one object."""
        masks, scores, low = self.theirs.predict(multimask_output=multimask, **prompt)
        full, _, _ = self.theirs.predict(multimask_output=multimask, return_logits=True, **prompt)
        return masks, scores, low, full


def _plane(shape: tuple[int, int]) -> NDArray[np.uint8]:
    rng = np.random.default_rng(4)
    y, x = np.mgrid[: shape[0], : shape[1]]
    ramps = np.stack([y % 97, x % 131, (x * y // 50) % 200], -1)
    return (ramps + rng.integers(0, 50, (*shape, 3))).astype(np.uint8)


@pytest.fixture(scope="module", params=[WIDE, TALL], ids=["wide", "tall"])
def pair(request: pytest.FixtureRequest, vit_b: Twins, vit_b_predictor: Predictor) -> Pair:
    plane = _plane(request.param)
    theirs = SamPredictor(vit_b.reference)
    theirs.set_image(plane)
    return Pair(vit_b_predictor, vit_b_predictor.encode(plane), theirs)


def _xy(points: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    return np.array(points, np.float64)[:, ::-1]


def _theirs(
    box: tuple[float, ...] | None, points: Sequence[tuple[float, float]], labels: Sequence[int]
) -> dict[str, Any]:
    """Return the prompt as `SamPredictor.predict` takes it."""
    prompt: dict[str, Any] = {}
    if box is not None:
        prompt["box"] = np.array([box[1], box[0], box[3], box[2]])
    if points:
        prompt |= {"point_coords": _xy(points), "point_labels": np.array(labels)}
    return prompt


OBJECTS: dict[str, tuple[tuple[float, ...] | None, list[tuple[float, float]], list[int]]] = {
    "box": (BOX_A, [], []),
    "box with fractions": (BOX_B, [], []),
    "lone point": (None, [POINT_B], [1]),
    "lone point outside": (None, [POINT_A], [0]),
    "points of both labels": (None, [POINT_A, POINT_B, POINT_C], [1, 0, 1]),
    "box and points": (BOX_A, [POINT_A, POINT_B], [1, 0]),
}


def _assert_same(result: Result, row: int, single: tuple[Any, ...], many: tuple[Any, ...]) -> None:
    """Compare one row, segmented with ``multimask=False``, with both outputs of SAM."""
    masks, scores, low, full = single
    np.testing.assert_allclose(result.logits[row], low[0], **TOLERANCE)
    np.testing.assert_allclose(result.scores[row], scores[0], **TOLERANCE)
    clear = np.abs(full[0]) > 1e-4
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(result.masks[row][clear], masks[0][clear])
    masks, scores, low, full = many
    np.testing.assert_allclose(result.candidate_scores[row], scores, **TOLERANCE)
    clear = np.abs(full) > 1e-4
    np.testing.assert_array_equal(result.candidates[row][clear], masks[clear])


def test_the_embedding_is_sams(pair: Pair) -> None:
    np.testing.assert_allclose(pair.embedding.tensor, pair.theirs.get_image_embedding(), rtol=1e-4, atol=1e-4)
    assert pair.embedding.shape == pair.theirs.original_size


def test_a_plane_of_the_input_size_is_encoded_as_by_sam(nano: Model) -> None:
    plane = _plane((256, 256))
    theirs = SamPredictor(nano.predictor.sam)
    theirs.set_image(plane)
    np.testing.assert_allclose(nano.encode(plane).tensor, theirs.get_image_embedding(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", OBJECTS)
def test_one_object_is_segmented_as_by_sam(pair: Pair, name: str) -> None:
    box, points, labels = OBJECTS[name]
    prompts = Prompts(None if box is None else [box], [points] if points else None, [labels] if points else None)
    result = pair.ours.segment(pair.embedding, prompts, multimask=False)
    prompt = _theirs(box, points, labels)
    assert result.masks.shape == (1, *pair.theirs.original_size)
    assert result.candidates.shape == (1, 3, *pair.theirs.original_size)
    _assert_same(result, 0, pair.expected(False, **prompt), pair.expected(True, **prompt))


def test_objects_with_prompts_of_many_kinds_keep_their_rows(pair: Pair) -> None:
    chosen = list(OBJECTS.values())
    result = pair.ours.segment(
        pair.embedding,
        Prompts([one[0] for one in chosen], [one[1] for one in chosen], [one[2] for one in chosen]),
        multimask=False,
    )
    for row, one in enumerate(chosen):
        _assert_same(result, row, pair.expected(False, **_theirs(*one)), pair.expected(True, **_theirs(*one)))


@pytest.mark.parametrize("name", ["box", "points of both labels", "mask only"])
def test_logits_of_an_earlier_round_refine_as_in_sam(pair: Pair, name: str) -> None:
    box, points, labels = OBJECTS.get(name, (None, [], []))
    low = 30 * pair.expected(False, **_theirs(BOX_B, [], []))[2]
    prompts = Prompts(None if box is None else [box], [points] if points else None, [labels] if points else None, low)
    result = pair.ours.segment(pair.embedding, prompts, multimask=False)
    prompt = _theirs(box, points, labels) | {"mask_input": low}
    _assert_same(result, 0, pair.expected(False, **prompt), pair.expected(True, **prompt))
    if box is not None:
        without = pair.ours.segment(pair.embedding, Prompts([box]), multimask=False)
        assert np.abs(without.logits - result.logits).max() > 1e-2  # the mask was not ignored


@pytest.mark.parametrize("multimask", [True, False, "auto"])
def test_auto_takes_the_best_candidate_for_lone_points_only(pair: Pair, multimask: Any) -> None:
    chosen = list(OBJECTS.values())
    prompts = Prompts([one[0] for one in chosen], [one[1] for one in chosen], [one[2] for one in chosen])
    result = pair.ours.segment(pair.embedding, prompts, multimask)
    for row, (box, points, labels) in enumerate(chosen):
        lone = box is None and len(points) == 1
        many = lone if multimask == "auto" else multimask
        _, scores, low, _ = pair.expected(many, **_theirs(box, points, labels))
        best = int(scores.argmax())
        np.testing.assert_allclose(result.logits[row], low[best], **TOLERANCE)
        np.testing.assert_allclose(result.scores[row], scores[best], **TOLERANCE)
        if many:
            np.testing.assert_array_equal(result.masks[row], result.candidates[row, best])


def _many(count: int) -> Prompts:
    """Boxes, lone points and pairs of points, in turn."""
    rng = np.random.default_rng(7)
    boxes: list[list[float] | None] = []
    points: list[list[list[float]]] = []
    for row in range(count):
        y, x, height, width = rng.uniform((5, 5, 8, 8), (190, 190, 50, 50))
        boxes.append([y, x, y + height, x + width] if row % 3 == 0 else None)
        points.append([[y, x], [x, y]][: row % 3])
    return Prompts(boxes, points)


def _assert_close(one: Result, other: Result, rows: Sequence[int] | NDArray[np.intp] | slice) -> None:
    np.testing.assert_allclose(one.logits, other.logits[rows], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(one.scores, other.scores[rows], atol=1e-4)
    assert (one.masks != other.masks[rows]).mean() < 1e-3


def test_results_do_not_depend_on_the_order_of_the_objects(nano: Model, nuclei: tuple[Any, Any]) -> None:
    embedding, prompts = nano.encode(nuclei[0]), _many(9)
    order = np.random.default_rng(1).permutation(9)
    _assert_close(nano.segment(embedding, prompts[order]), nano.segment(embedding, prompts), order)


def test_many_boxes_are_segmented_as_one_by_one(nano: Model, nuclei: tuple[Any, Any]) -> None:
    embedding, count = nano.encode(nuclei[0]), OBJECTS_AT_ONCE + 1
    corners = np.random.default_rng(2).uniform(0, 200, (count, 2))
    prompts = Prompts(np.hstack([corners, corners + 30]))
    together = nano.segment(embedding, prompts)
    assert together.masks.shape == (count, 256, 256)
    for row in range(count):
        _assert_close(nano.segment(embedding, prompts[[row]]), together, [row])


def test_two_calls_agree_to_the_bit(nano: Model, nuclei: tuple[Any, Any]) -> None:
    embedding = nano.encode(nuclei[0])
    first, second = (nano.segment(embedding, _many(7)) for _ in range(2))
    for name in ("masks", "scores", "logits", "candidates", "candidate_scores"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def _largest(labels: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], list[int]]:
    """Return the largest object and its half-open box."""
    mask = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    y, x = np.nonzero(mask)
    return mask, [y.min(), x.min(), y.max() + 1, x.max() + 1]


def test_a_box_finds_the_largest_nucleus(nano: Model, nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    mask, box = _largest(nuclei[1])
    result = nano.segment(nano.encode(nuclei[0]), Prompts([box]))
    assert _iou(result.masks[0], mask) > 0.7


def test_a_drawn_mask_finds_the_nucleus_also_in_a_plane_that_is_not_square(
    nano: Model, nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    image, labels = (plane[:, 20:180] for plane in nuclei)
    mask, box = _largest(labels)
    embedding = nano.encode(image)
    drawn = nano.segment(embedding, Prompts(masks=mask[None]))
    assert _iou(drawn.masks[0], mask) > 0.6
    elsewhere = nano.segment(embedding, Prompts([box], masks=np.roll(mask, 80, 0)[None]))
    both = nano.segment(embedding, Prompts([box], masks=mask[None]))
    assert _iou(both.masks[0], mask) > max(0.7, _iou(elsewhere.masks[0], mask))


@pytest.mark.parametrize(
    ("masks", "error_code", "size"),
    [
        (np.ones((1, 255, 256), bool), "mask-does-not-fit", "255, 256"),
        (np.ones((1, 128, 128), bool), "mask-does-not-fit", "128, 128"),
        (np.zeros((1, 256, 256), np.float32), "logits-of-another-size", "256, 256"),
        (np.zeros((1, 64, 64), np.float64), "logits-of-another-size", "64, 64"),
    ],
)
def test_masks_of_another_size_are_refused(
    nano: Model, nuclei: tuple[Any, Any], masks: NDArray[Any], error_code: str, size: str
) -> None:
    with raises(InputError, error_code, match=size):
        nano.segment(nano.encode(nuclei[0]), Prompts(masks=masks))


def test_an_embedding_from_another_input_size_is_refused(nano: Model, nuclei: tuple[Any, Any]) -> None:
    larger = replace(nano.predictor, sam=at_input_size(nano.predictor.sam, 320))
    embedding = larger.encode(nuclei[0])
    assert embedding.tensor.shape == (1, 256, 40, 40)
    with raises(InputError, "embedding-of-another-input-size", match="320"):
        nano.segment(embedding, Prompts([[0, 0, 9, 9]]))


def test_a_stale_embedding_is_encoded_again(nano: Model, nuclei: tuple[Any, Any]) -> None:
    fresh = nano.encode(nuclei[0])
    stale = replace(fresh, tensor=fresh.tensor * 0, weights_key="of other weights")
    prompts = _many(3)
    np.testing.assert_array_equal(nano.segment(stale, prompts).logits, nano.segment(fresh, prompts).logits)


@pytest.mark.parametrize(
    "plane",
    [
        np.full((40, 60), 7, np.uint16),
        np.full((33, 20), np.nan, np.float32),
        np.zeros((1, 1), np.uint8),
        np.full((1, 600), 3.5),
        np.zeros((600, 1, 3), np.uint8),
    ],
    ids=["constant", "NaN", "one pixel", "one row", "one column"],
)
def test_degenerate_planes_give_results_of_the_right_shapes(nano: Model, plane: NDArray[Any]) -> None:
    shape = plane.shape[:2]
    prompts = Prompts([[0, 0, *shape], None, None], [[], [[0, 0]], [[0, 0], [shape[0] - 1, shape[1] - 1]]])
    result = nano.segment(nano.encode(plane), prompts)
    assert result.masks.shape == (3, *shape)
    assert result.candidates.shape == (3, 3, *shape)
    assert result.logits.shape == (3, 128, 128)
    assert result.scores.shape == (3,)
    assert result.candidate_scores.shape == (3, 3)
    assert result.masks.dtype == result.candidates.dtype == bool
    assert np.isfinite(result.logits).all()
    assert np.isfinite(result.scores).all()

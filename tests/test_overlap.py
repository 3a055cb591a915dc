"""Intersection over union: one function and one convention for arrays, tensors and regions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_sam_lora.overlap import mask_iou, region_iou
from napari_sam_lora.regions import Region

CASES = [
    ([1, 1, 0, 0], [0, 1, 1, 0], 1 / 3),
    ([1, 0, 0, 0], [0, 1, 0, 0], 0.0),
    ([1, 1, 0, 0], [1, 1, 0, 0], 1.0),
    ([0, 0, 0, 0], [0, 0, 0, 0], 1.0),
    ([0, 0, 0, 0], [1, 0, 0, 0], 0.0),
]


@pytest.mark.parametrize(("a", "b", "expected"), CASES)
def test_arrays_and_regions_have_the_same_iou_also_where_they_are_empty(
    a: list[int], b: list[int], expected: float
) -> None:
    one, other = np.array([a], bool), np.array([b], bool)
    assert mask_iou(one, other) == pytest.approx(expected)
    assert region_iou(Region.of(one), Region.of(other)) == pytest.approx(expected)


def test_tensors_are_compared_mask_by_mask_with_the_target_of_their_object() -> None:
    a, b, expected = zip(*CASES, strict=True)
    masks = torch.tensor(a, dtype=torch.bool).view(len(CASES), 1, 1, 4).expand(-1, 2, -1, -1)
    targets = torch.tensor(b, dtype=torch.bool).view(len(CASES), 1, 1, 4)
    assert mask_iou(masks, targets).tolist() == [[pytest.approx(one)] * 2 for one in expected]

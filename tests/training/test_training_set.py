"""Test the counts of a training set: learned, held out, left out, and the images of the check."""

from __future__ import annotations

import numpy as np

from napari_sam_lora import Model, Preprocessing, TrainConfig
from napari_sam_lora.api import count_objects
from napari_sam_lora.images import StackPosition
from napari_sam_lora.training.data.samples import Labelled
from napari_sam_lora.training.training_set import TrainingSet

from .runs import Pair


def test_a_stack_is_one_image(small: Model, quarters: list[Pair]) -> None:
    stack: list[Labelled] = [(*pair, {}, StackPosition("a", (z,))) for z, pair in enumerate(quarters)]
    two: list[Labelled] = [*stack, (*quarters[0], {}, StackPosition("b", (0,)))]
    for pairs, checked_on in ((stack, "one image"), (two, "other images")):
        assert TrainingSet.of(small.loaded, pairs, TrainConfig(), Preprocessing()).checked_on == checked_on


def test_every_object_is_learned_held_out_or_left_out_for_a_reason(small: Model, quarters: list[Pair]) -> None:
    """Of 40 sections of one object, some are beside held-out ones; a speck is too small."""
    image = quarters[0][0]
    labels = np.zeros(image.shape, np.int64)
    labels[40:60, 40:60] = 1
    speck = labels.copy()
    speck[0, 0] = 2
    pairs: list[Labelled] = [(image, labels if z else speck, {}, StackPosition("a", (z,))) for z in range(40)]
    counts = count_objects(small, pairs)
    assert (counts.labelled, counts.too_small, counts.outside_crops, counts.unchecked) == (41, 1, 0, 0)
    assert counts.learned + counts.held_out + counts.leaking == 40
    assert counts.learned >= 25
    assert min(counts.held_out, counts.leaking) > 0

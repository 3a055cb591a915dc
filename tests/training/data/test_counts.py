"""Every object of a training set is counted once: learned, held out or left out."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from napari_sam_lora import Preprocessing
from napari_sam_lora.training.data import crops
from napari_sam_lora.training.data.counts import ObjectCounts
from napari_sam_lora.training.data.samples import snapshot, unused_labels


def test_all_numbers_are_said_with_the_reasons() -> None:
    counts = ObjectCounts(learned=14, held_out=9, checked=6, leaking=20, unchecked=5)
    assert (counts.labelled, counts.left_out) == (48, 25)
    assert str(counts).startswith("48 objects: 14 learned, 9 held out, 25 left out (20 ")
    assert str(counts).endswith("; 6 checked")
    assert str(ObjectCounts(learned=1)) == "1 object: 1 learned, 0 held out; 0 checked"


def test_objects_that_no_crop_holds_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "MAX_CROPS", 1)
    labels = np.zeros((512, 512), np.int64)
    for number, (y, x) in enumerate([(20, 20), (50, 50), (400, 400)], start=1):
        labels[y : y + 12, x : x + 12] = number
    image = np.random.default_rng(0).integers(0, 256, labels.shape, np.uint8)
    cut = partial(crops.cut_large, input_size=128, preprocessing=Preprocessing())
    planes = snapshot([(image, labels)], 128, 2, Preprocessing(), cut=cut)
    found = sum(len(plane.objects) for plane in planes)
    assert (len(planes), found, sum(plane.outside_crops for plane in planes)) == (1, 2, 1)
    (caution,) = unused_labels(planes)
    assert caution.code == "objects-outside-crops"

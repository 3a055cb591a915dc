"""Scores of previews and objects."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_sam_lora import Model, Prompts, load_model
from napari_sam_lora.session import ArraySource, MaskOptions, PlaneKey, Session
from napari_sam_lora.session.labels.records import ObjectRecord

from ..helpers import SOON

PLANE = PlaneKey.of("nuclei", 2)


@pytest.fixture
def boastful() -> Model:
    """Load a model that predicts an IoU of more than 1."""
    model = load_model("sam_nano", device="cpu", input_size=128)
    with torch.no_grad():
        model.loaded.sam.mask_decoder.iou_prediction_head.layers[-1].bias += 1
    return model


@pytest.mark.parametrize("options", [MaskOptions(), MaskOptions(candidate=1)])
def test_no_score_of_a_preview_is_more_than_one(
    boastful: Model, nuclei: tuple[NDArray[np.uint8], NDArray[np.uint8]], options: MaskOptions
) -> None:
    raw = boastful.segment(boastful.encode(nuclei[0]), Prompts(boxes=[[40, 60, 70, 95]]))
    assert raw.scores[0] > 1
    session = Session(boastful)
    session.add_image("nuclei", ArraySource(nuclei[0]))
    session.prompts.add(PLANE, "box", [40, 60, 70, 95])
    preview = session.prompts.preview(PLANE, options).result(SOON)
    (mask,) = preview.masks
    assert mask.score == 1
    np.testing.assert_array_equal(mask.candidate_scores, np.minimum(raw.candidate_scores[0], 1))
    assert session.close(SOON)


def test_no_score_of_an_object_is_more_than_one() -> None:
    record = ObjectRecord(1, score=1.03)
    assert record.score == 1
    assert replace(record, score=0.4).score == 0.4
    assert replace(record, score=1.2).score == 1
    assert math.isnan(ObjectRecord(1).score)

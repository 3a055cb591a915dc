"""Helpers for tests of whole runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_sam_lora import Adapter, StepReport, TrainConfig
from napari_sam_lora.training.run import FineTuneReport, FineTuneRun

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
FAST = TrainConfig(mode="decoder", steps=3, objects=2, views=2, corrections=0)
# Of the four quarters two are held out, with 21 objects: enough, so that nothing is cross-validated.
HALF = replace(FAST, validation_share=0.5)


def only(pair: Pair, count: int) -> Pair:
    """Keep only the largest objects of a pair."""
    image, labels = pair
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    return image, np.where(np.isin(labels, ids[np.argsort(-areas)[:count]]), labels, 0)


def finish(run: FineTuneRun) -> tuple[list[StepReport], Adapter, FineTuneReport]:
    """Run until the end."""
    reports = list(run)
    return reports, *run.result()

"""The figures of the benchmark of everything mode."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.everything import THRESHOLDS, EverythingRow, average_precisions, table
from napari_sam_lora.training.evaluation.instance_matching import match_objects


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


def test_the_table_has_means_and_ranges_over_seeds() -> None:
    base = EverythingRow("nuclei", "base", 0, 0, 10, 9, 0.5, 0.3)
    adapted = [
        EverythingRow("nuclei", "adapted", seed, 4, 10, 9, precision, 0.4, 60.0, 0.5, "better")
        for seed, precision in enumerate((0.6, 0.8))
    ]
    printed = table([base, *adapted])
    assert "| nuclei | 10 | 0.500 | 0.700 (0.600 to 0.800) | 0.300, 0.400 | 60 | better, better |" in printed
    assert printed.endswith("Mean over sets: base 0.500, adapted 0.700.")

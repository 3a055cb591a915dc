"""Label, train and segment again, three rounds in one viewer."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from napari_sam_lora._qt.adapters.panel import AdaptersPanel
from napari_sam_lora._qt.finetuning.panel import FinetunePanel
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.labels import find_objects

from ..tuning import CHECKED, SOON_MS, finish, open_labelled

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture
def controller(viewer: Any, nuclei: Pair) -> Iterator[Controller]:
    yield from open_labelled(viewer, nuclei[0], np.zeros_like(nuclei[1]))


def test_three_rounds_in_one_viewer_without_files_or_restart(qtbot: Any, controller: Controller, nuclei: Pair) -> None:
    viewer = controller.viewer
    tuning, adapters = FinetunePanel(viewer), AdaptersPanel(viewer)
    viewer.window.add_dock_widget(tuning)
    viewer.window.add_dock_widget(adapters)
    layer, process = viewer.layers["cells"], psutil.Process()
    found = sorted(find_objects(nuclei[1]), key=lambda one: -one.area)
    names, memory = [], []
    for number in range(3):
        for one in found[6 * number : 6 * (number + 1)]:  # the user paints a few more
            layer.data_setitem(np.nonzero(nuclei[1] == one.label), one.label)
        labelled = 6 * (number + 1)
        qtbot.waitUntil(
            lambda wanted=labelled: sum(pair.objects for pair in tuning.finetuning_controller.pairs()) == wanted
        )
        tuning.finetuning_controller.set_values(dict(CHECKED))
        tuning.run.start.click()
        event = finish(qtbot, tuning.finetuning_controller)
        assert event.state == "ended", event.message
        names.append(event.adapter)
        controller.session.models.activate(event.adapter)
        adapters.resegment.refine.click()
        qtbot.waitUntil(lambda: not adapters.resegment.is_busy, timeout=SOON_MS)
        assert {change.label for _, _, change in adapters.resegment.review._changes} <= set(np.unique(layer.data))
        adapters.resegment.review.close_review()
        gc.collect()
        memory.append(process.memory_info().rss)
    assert names == ["nuclei", "nuclei 2", "nuclei 3"]
    assert sorted(entry.name for entry in controller.session.models.adapters.entries()) == names
    assert np.array_equal(layer.data > 0, np.isin(nuclei[1], [one.label for one in found[:18]])), "no label was lost"
    assert memory[2] < 1.1 * memory[0]

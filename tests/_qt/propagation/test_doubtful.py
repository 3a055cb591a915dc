"""Doubtful planes of a propagation are listed, and a key goes from one to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from napari.utils.key_bindings import coerce_keybinding
from qtpy.QtWidgets import QApplication

from napari_sam_lora._qt.prompting.panel import PromptPanel
from napari_sam_lora._qt.propagation.doubtful_planes import NONE, describe
from napari_sam_lora._qt.propagation.panel import PropagationBox
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.session import PlaneKey, Session

from ..helpers import add_box, click
from ..tuning import small_model
from .test_propagation import CENTRES, disc, planes_with, propagated

KEY, PLANES = 2, 9
ENDS = {1: 4, 2: 6}  # first plane in which something brighter is in the place of the object


@pytest.fixture
def controller(viewer: Any) -> Iterator[Controller]:
    """Controller of a viewer with two discs, below brighter ones that grow from plane to plane."""
    image, labels = np.full((PLANES, 64, 64), 40, np.uint8), np.zeros((PLANES, 64, 64), np.int32)
    for label, centre in CENTRES.items():
        for index in range(PLANES):
            grown = max(0, index - ENDS[label] + 1)
            image[index][disc(*centre, 9 + grown)] = 230 if grown else 130
        labels[KEY][disc(*centre, 9)] = label
    viewer.add_image(image, name="stack")
    viewer.add_labels(labels, name="cells")
    made = Controller(viewer, QApplication.instance(), Session(small_model()))
    viewer.dims.set_current_step(0, KEY)
    yield made
    made.close()


@pytest.fixture
def panel(controller: Controller, put: Callable[[Any], Any], qtbot: Any) -> PromptPanel:
    """Panel with a propagation to accept."""
    made: PromptPanel = put(PromptPanel(controller.viewer))
    controller.attach(made)
    propagated(made._propagation, qtbot)
    return made


def rows(box: PropagationBox) -> list[str]:
    assert box.doubtful.rows.count() == len(box.doubtful.texts)
    return box.doubtful.texts


def press(panel: PromptPanel) -> tuple[int, list[int]]:
    """Press the key; return the plane that is shown then, and the objects that are selected."""
    viewer = panel.controller.viewer
    viewer.keymap[coerce_keybinding("Shift-D")](viewer)
    return viewer.dims.current_step[0], panel._objects.selected()


def test_a_key_goes_through_the_doubtful_planes_before_and_after_they_are_accepted(
    panel: PromptPanel, controller: Controller, settle: Callable[[Controller], None]
) -> None:
    box, doubtful, messages = panel._propagation, panel._propagation.propagation_controller.doubtful, list[str]()
    controller.message.connect(messages.append)
    assert [(one.position, one.label, one.doubt) for one in doubtful.masks()] == [
        (4, 1, "intensity"),
        (6, 2, "intensity"),
    ]
    assert rows(box) == [describe(one) for one in doubtful.masks()]
    assert box.doubtful.about.text().startswith("2 planes are doubtful.")
    assert [press(panel) for _ in range(3)] == [(4, [1]), (6, [2]), (4, [1])]
    assert messages[-1] == f"{rows(box)[0]}."
    box.view.accept.click()
    assert {label: planes_with(box, label) for label in CENTRES} == {1: [*range(5)], 2: [*range(7)]}
    assert len(rows(box)) == 2
    assert press(panel) == (6, [2])
    box.doubtful.rows.itemClicked.emit(box.doubtful.rows.item(0))
    assert controller.viewer.dims.current_step[0] == 4

    assert panel._objects.selected() == [1]
    y, x = CENTRES[1]
    add_box(controller, (y - 7, x - 7, y + 8, x + 8), (4,))
    settle(controller)
    controller.commit()
    assert controller.target is not None
    assert controller.target.record(1).origin_in(PlaneKey.of("", 3, (4,))) == "prompted"
    assert [one.label for one in doubtful.masks()] == [2], "a plane that was corrected is no longer doubtful"
    controller.target.approve([2])
    assert rows(box) == []
    assert box.doubtful.isHidden()
    press(panel)
    assert messages[-1] == NONE
    controller.undo()
    assert [one.label for one in doubtful.masks()] == [2]


def test_objects_that_are_left_out_have_no_doubtful_planes(panel: PromptPanel, controller: Controller) -> None:
    box, viewer = panel._propagation, controller.viewer
    viewer.dims.set_current_step(0, 3)
    click(viewer, (3, *CENTRES[1]))
    assert [one.label for one in box.propagation_controller.doubtful.masks()] == [2]
    assert len(rows(box)) == 1
    box.view.discard.click()
    assert rows(box) == []

"""A propagated plane that is wrong is corrected with prompts, and the planes around it are propagated again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_sam_lora._qt.prompting.panel import PromptPanel
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.regions import Region
from napari_sam_lora.session import PlaneKey, Proposal, ProposedChange

from ..helpers import add_box, iou
from ..tuning import SOON_MS
from .test_propagation import CENTRES, KEY, PLANES, controller, disc

__all__ = ["controller"]  # a fixture

WRONG = 5  # plane that is corrected
BOX = (8, 8, 29, 29)  # around object 1


def at(index: int) -> PlaneKey:
    return PlaneKey.of("stack", 3, (index,))


def pixels(controller: Controller) -> NDArray[Any]:
    return np.array(controller.active_layers.target_layer.data)  # type: ignore[union-attr]


@pytest.fixture
def panel(controller: Controller, put: Callable[[Any], Any]) -> PromptPanel:
    """Panel at plane 5; propagation made object 1 too large in planes 4 to 6, and object 2 right everywhere."""
    target = controller.target
    assert target is not None
    masks = {1: (disc(*CENTRES[1], 15), range(KEY + 1, PLANES)), 2: (disc(*CENTRES[2]), set(range(PLANES)) - {KEY})}
    changes = [
        ProposedChange(PlaneKey.of(controller.image, 3, (index,)), label, Region.empty(), Region.of(mask), 0.8, 0.0)
        for label, (mask, planes) in masks.items()
        for index in planes
    ]
    target.apply(Proposal(tuple(changes), "propagated", ""))
    made: PromptPanel = put(PromptPanel(controller.viewer))
    controller.viewer.dims.set_current_step(0, WRONG)
    made._objects._update()
    made._objects.select([1])
    return made


def becomes(controller: Controller) -> tuple[str, int]:
    """Return what the mask becomes, and the object that it changes."""
    return controller.policy.target, controller.policy.label


def prompted(controller: Controller, settle: Callable[[Controller], None]) -> None:
    add_box(controller, BOX, (WRONG,))
    settle(controller)


def test_a_plane_that_is_too_large_is_replaced_and_the_planes_around_it_are_propagated_again(
    panel: PromptPanel, controller: Controller, settle: Callable[[Controller], None], qtbot: Any
) -> None:
    target, box = controller.target, panel._propagation
    assert target is not None
    before = pixels(controller)
    prompted(controller, settle)
    target_layer = controller.active_layers.target_layer
    assert target_layer is not None
    assert panel._commit._add.text() == f"Replace object 1 in {target_layer.name}"
    controller.commit()
    replaced = pixels(controller)
    assert iou(replaced[WRONG] == 1, disc(*CENTRES[1])) > 0.8
    assert np.array_equal(np.delete(replaced, WRONG, 0), np.delete(before, WRONG, 0))
    record = target.record(1)
    assert [record.origin_in(at(index)) for index in (KEY, 4, WRONG, 6)] == [
        "painted",
        "propagated",
        "prompted",
        "propagated",
    ]
    assert becomes(controller) == ("new", 0)

    box.scope.setCurrentIndex(box.scope.findData("selected"))
    box.refresh()
    box.propagate.click()
    qtbot.waitUntil(lambda: box.propagation_controller.state == "found", timeout=SOON_MS)
    assert np.array_equal(pixels(controller), replaced), "it is only a preview"
    box.view.accept.click()
    after = pixels(controller)
    for index in (4, 6):
        assert iou(after[index] == 1, disc(*CENTRES[1])) > 0.7
    for index in (KEY, WRONG):
        assert np.array_equal(after[index], replaced[index]), "key planes stay"
    assert np.array_equal(after == 2, before == 2)

    controller.undo()
    assert np.array_equal(pixels(controller), replaced)
    controller.undo()
    assert np.array_equal(pixels(controller), before)
    assert target.record(1).origin_in(at(WRONG)) == "propagated"


def test_the_mask_can_be_added_instead(
    panel: PromptPanel, controller: Controller, settle: Callable[[Controller], None]
) -> None:
    prompted(controller, settle)
    assert becomes(controller) == ("replace", 1)
    combo = panel._commit._commit_as
    combo.activated.emit(combo.findText("more of object"))
    controller.set_options(threshold=0.5)  # another mask
    settle(controller)
    assert becomes(controller) == ("part", 1)
    target_layer = controller.active_layers.target_layer
    assert target_layer is not None
    assert panel._commit._add.text() == f"Add to object 1 in {target_layer.name}"
    controller.commit()
    assert panel._commit._message.text().startswith("Nothing was added")
    assert becomes(controller) == ("part", 1), "what the user has chosen stays"


def test_an_object_elsewhere_or_not_selected_is_not_replaced(
    panel: PromptPanel, controller: Controller, settle: Callable[[Controller], None]
) -> None:
    prompted(controller, settle)
    assert becomes(controller) == ("replace", 1)
    panel._objects.select([2])
    assert becomes(controller) == ("new", 0), "the mask does not lie on object 2"
    panel._objects.select([1])
    assert becomes(controller) == ("replace", 1)
    panel._objects.select([])
    assert becomes(controller) == ("new", 0)
    controller.clear_prompts()
    assert becomes(controller) == ("new", 0)
    panel._objects.select([1])
    controller.set_policy(overwrite=True)
    prompted(controller, settle)
    assert becomes(controller) == ("new", 0), "a new object may take pixels of others"

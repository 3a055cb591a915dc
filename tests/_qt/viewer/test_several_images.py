"""Several images in one viewer: prompts, labels and edits concern the one that is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_sam_lora._qt.prompting.panel import PromptPanel
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.labels import LabelledObject

from ..helpers import add_box, add_point, drawn_on

Settle = Callable[[Controller], None]


def test_choosing_another_image_after_a_prompt_shows_the_prompts_of_that_image_only(
    controller: Controller, viewer: Any, nuclei: Any, cell: LabelledObject, settle: Settle, put: Any
) -> None:
    put(PromptPanel(viewer))
    first, second = controller.active_layers.image_layer, viewer.add_image(nuclei[0][::-1], name="other")
    controller.active_layers.choose_image(first)
    add_point(controller, cell.centre)
    points = drawn_on(controller).points
    controller.active_layers.choose_image(second)
    assert not points.visible
    add_box(controller, cell.box)
    shapes = drawn_on(controller).shapes
    controller.active_layers.choose_image(first)
    assert points.visible
    assert not shapes.visible
    settle(controller)
    assert controller.previews.preview is not None
    assert controller.previews.preview.plane.image == controller.image

"""Several images in one viewer: prompts, labels and edits concern the one that is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Points

from napari_sam_lora._qt.prompting.panel import PromptPanel
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora.labels import LabelledObject

from ..conftest import MakeController
from ..helpers import add_box, add_point, click, dense, drag, drawn_on, iou, rows_of

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


def shown_prompts(layer: Any) -> int:
    """Return how many points or shapes of a layer napari draws."""
    return len(layer._view_data) if isinstance(layer, Points) else int(np.count_nonzero(layer._data_view._displayed))


def test_all_tools_draw_in_the_nearest_plane_while_a_volume_on_another_grid_is_open(
    viewer: Any, make_controller: MakeController, nuclei: Any, cell: LabelledObject, settle: Settle
) -> None:
    viewer.add_image(np.stack([nuclei[0]] * 12), name="MR")
    coarse = viewer.add_image(np.stack([nuclei[0]] * 4), name="CT", scale=(3, 1, 1), translate=(0.3, 0, 0))
    controller = make_controller(viewer)
    controller.active_layers.choose_image(coarse)
    y0, x0, y1, x1 = cell.box
    for depth, tool in ((2, "point"), (3, "scribble"), (4, "lasso"), (5, "box")):
        viewer.dims.set_point(0, 11)
        controller.draw_with(tool)  # type: ignore[arg-type]
        viewer.dims.set_point(0, depth)
        plane = controller.active_layers.plane
        assert plane is not None
        assert plane.index == (round((depth - 0.3) / 3),)
        layer, height = viewer.layers.selection.active, viewer.dims.point[0]
        if tool == "point":
            click(viewer, (height, *cell.centre))
        else:
            around = [(y0, x0), (y1, x0), (y1, x1), (y0, x1), (y0, x1)] if tool == "lasso" else [(y0, x0), (y1, x1)] * 2
            drag(viewer, [(height, *position) for position in around])
        controller.drawing.finish()
        ((item,),) = rows_of(controller)
        assert item.kind == tool
        assert shown_prompts(layer) == 1
        viewer.dims.set_point(0, 3 * plane.index[0])  # elsewhere in the same plane
        assert controller.active_layers.plane == plane
        assert shown_prompts(layer) == 1
        if tool != "box":
            controller.clear_prompts()
    np.testing.assert_allclose(item.coordinates, np.array([[y0, x0], [y1, x1]]) + 0.5, atol=1e-4)
    settle(controller)
    assert controller.previews.preview is not None
    assert iou(dense(controller.previews.preview)[0], nuclei[1] == cell.label) > 0.6
    assert np.allclose(coarse.translate, (0.3, 0, 0))

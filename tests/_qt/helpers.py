"""Actions of a user on a viewer, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from napari.utils._test_utils import read_only_mouse_event
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks
from numpy.typing import ArrayLike, NDArray

from napari_sam_lora._qt.viewer.controller import Controller


def iou(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return the intersection over union of two masks."""
    return float(np.count_nonzero(found & wanted) / np.count_nonzero(found | wanted))


def dense(preview: Any) -> NDArray[np.bool_]:
    """Return the masks of a preview in the whole plane, bool (n, y, x)."""
    masks = [mask.region.to_mask(preview.shape) for mask in preview.masks]
    return np.array(masks, np.bool_).reshape(-1, *preview.shape)


def drawn_on(controller: Controller) -> Any:
    """Return the layers that prompts are drawn on: ``points``, ``shapes`` and ``mask.layer``."""
    return controller.drawing.layers


def rows_of(controller: Controller) -> list[tuple[Any, ...]]:
    """Return the prompts of the shown plane, object by object."""
    assert controller.active_layers.plane is not None
    return list(controller.session.prompts.draft(controller.active_layers.plane).rows().values())


def add_point(controller: Controller, position: ArrayLike) -> None:
    """Click with the point tool at data coordinates."""
    controller.draw_with("point")
    drawn_on(controller).points.add(np.atleast_2d(position))


def add_box(controller: Controller, box: tuple[float, ...], others: tuple[float, ...] = ()) -> None:
    """Draw a box over the pixels y0, x0, y1, x1 (half-open) of the last two axes."""
    y0, x0, y1, x1 = box
    corners = np.array([[y0, x0], [y0, x1], [y1, x1], [y1, x0]]) - 0.5
    add_shape(controller, np.hstack([np.tile(others, (4, 1)), corners]) if others else corners, "rectangle")


def add_shape(controller: Controller, vertices: ArrayLike, kind: str) -> None:
    """Draw a shape at data coordinates."""
    tool = {"rectangle": "box", "polygon": "lasso", "path": "scribble"}[kind]
    controller.draw_with(tool)  # type: ignore[arg-type]
    drawn_on(controller).shapes.add(np.asarray(vertices), shape_type=kind)


def click(viewer: Any, position: ArrayLike, modifiers: tuple[str, ...] = (), drag: float = 0) -> None:
    """Press and release the mouse at world coordinates, as napari's canvas does."""
    layer = viewer.layers.selection.active
    for kind, call, moved in _gesture(drag):
        event = read_only_mouse_event(
            type=kind,
            position=tuple(np.asarray(position, float)),
            pos=np.array([50.0 + moved, 50.0]),
            modifiers=modifiers,
            button=1,
            is_dragging=kind != "mouse_press",
            dims_displayed=list(viewer.dims.displayed),
            view_direction=None,
        )
        call(viewer, event)
        if layer is not None:
            call(layer, event)


def drag(viewer: Any, path: ArrayLike) -> None:
    """Drag the mouse over the active layer, along positions (k, n) in world coordinates."""
    layer, positions = viewer.layers.selection.active, np.asarray(path, float)
    calls = [(mouse_move_callbacks, "mouse_move")] * len(positions)
    calls[0], calls[-1] = (mouse_press_callbacks, "mouse_press"), (mouse_release_callbacks, "mouse_release")
    for number, ((call, kind), position) in enumerate(zip(calls, positions, strict=True)):
        event = read_only_mouse_event(
            type=kind,
            position=tuple(position),
            pos=np.array([50.0 + 20 * number, 50.0 + 20 * number]),
            modifiers=(),
            button=1,
            is_dragging=kind != "mouse_press",
            dims_displayed=list(viewer.dims.displayed),
            view_direction=None,
        )
        call(viewer, event)
        call(layer, event)


def move(viewer: Any, position: ArrayLike, on_canvas: float) -> None:
    """Move the mouse to world coordinates, no button pressed, at a position on the canvas (x = y)."""
    event = read_only_mouse_event(
        type="mouse_move",
        position=tuple(np.asarray(position, float)),
        pos=np.array([on_canvas, on_canvas]),
        modifiers=(),
        is_dragging=False,
        dims_displayed=list(viewer.dims.displayed),
        view_direction=None,
    )
    mouse_move_callbacks(viewer.layers.selection.active, event)


def _gesture(drag: float) -> Iterator[tuple[str, Any, float]]:
    yield "mouse_press", mouse_press_callbacks, 0
    if drag:
        yield "mouse_move", mouse_move_callbacks, drag
    yield "mouse_release", mouse_release_callbacks, drag

"""Next step after a run that helped: find everything in the next image, or in the next plane."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_sam_lora._qt.finetuning.controller import FinetuningController
from napari_sam_lora._qt.layers.coordinates import data_shape
from napari_sam_lora._qt.prompting.panel import open_prompt_panel
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import Notice, button
from napari_sam_lora.session import LabelSet, PlaneKey

NEXT_IMAGE, NEXT_PLANE = "Find everything in the next image", "Find everything in the next plane"
NO_OTHER = "Open another image to find everything in it with what was learned."


class NextStepBox(QWidget):
    """Button that finds everything in the image that needs it most; shown while the adapter of a better run is in use.

    Parameters
    ----------
    controller : Controller
    finetuning_controller : FinetuningController
    """

    def __init__(self, controller: Controller, finetuning_controller: FinetuningController) -> None:
        super().__init__()
        self._controller, self._finetuning_controller = controller, finetuning_controller
        self.go = button(NEXT_IMAGE, "", self._go)
        self.go.setMinimumHeight(34)
        font = self.go.font()
        font.setBold(True)
        self.go.setFont(font)
        self.hint = Notice()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.go)
        layout.addWidget(self.hint)
        for signal in (
            finetuning_controller.run_changed,
            finetuning_controller.set_changed,
            controller.layers.images_changed,
            controller.active_layers.image_chosen,
            controller.active_layers.plane_changed,
            controller.events.active_changed,
        ):
            signal.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show what the button will do, or what is missing."""
        event = self._finetuning_controller.latest
        report = None if event is None else event.report
        active = self._controller.session.models.active
        has_helped = event is not None and report is not None and report.verdict == "better" and active == event.adapter
        self.setVisible(has_helped)
        if not has_helped:
            return
        image, plane = self._next_image(), next_plane(self._controller)
        self.go.setEnabled(image is not None or plane is not None)
        self.go.setText(NEXT_PLANE if image is None and plane is not None else NEXT_IMAGE)
        where = "" if image is None else str(image.name)
        if image is None and plane is not None:
            where = f"plane {', '.join(map(str, plane.index))}"
        self.go.setToolTip(f"Look for objects in {where}; you see them before they are added." if where else NO_OTHER)
        self.hint.say("" if where else NO_OTHER)

    def _next_image(self) -> Any | None:
        trained_on = {plane.plane.image for plane in self._finetuning_controller.planes}
        return next_image(self._controller, trained_on or {self._controller.image})

    def _go(self) -> None:
        image, plane = self._next_image(), next_plane(self._controller)
        if image is None and plane is None:
            return
        panel = open_prompt_panel(self._controller)
        if image is not None:
            panel.find_everything(image)
        elif plane is not None:
            self._controller.go_to(plane)
            panel.find_everything(self._controller.active_layers.image_layer)


def next_image(controller: Controller, trained_on: Collection[str]) -> Any | None:
    """Return the image with the fewest objects that was not trained on, or another one; None if there is none.

    Of several, it is the first in the order of the layer list that follows the image in use, or that image itself.

    Parameters
    ----------
    controller : Controller
    trained_on : collection of str
        Ids of the images of the last run.
    """
    images, shown = controller.layers.images(), controller.active_layers.image_layer
    start = images.index(shown) if shown in images else 0
    ordered = [*images[start:], *images[:start]]
    unseen = [one for one in ordered if controller.layers.id_of(one) not in trained_on]
    others = unseen or [one for one in ordered if one is not shown]
    return min(others, key=lambda one: _count(controller, one), default=None)


def next_plane(controller: Controller) -> PlaneKey | None:
    """Return the next plane of the image along its last other axis that has fewest objects; None if there is none."""
    plane, image = controller.active_layers.plane, controller.active_layers.image_layer
    if plane is None or image is None or not plane.index:
        return None
    labels, length = controller.target, data_shape(image)[plane.other_axes[-1]]
    others = [plane.neighbour((plane.index[-1] + by) % length - plane.index[-1]) for by in range(1, length)]
    return min(others, key=lambda one: 0 if labels is None else len(labels.ids_in(one)), default=None)


def _count(controller: Controller, image: Any) -> int:
    labels = controller.layers.id_of(controller.active_layers.labels_of(image))
    label_set: LabelSet | None = controller.session.labels.get(labels)
    return 0 if label_set is None else len(label_set.records())

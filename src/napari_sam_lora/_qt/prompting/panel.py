"""Dock widget "Prompt and segment"."""

from __future__ import annotations

from typing import Any

from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QDockWidget, QLabel, QWidget

from napari_sam_lora._qt.automatic.image_focus import uncover
from napari_sam_lora._qt.automatic.panel import EverythingBox
from napari_sam_lora._qt.layers.coordinates import data_shape
from napari_sam_lora._qt.objects.table import ObjectsTable
from napari_sam_lora._qt.project.panel import ProjectBox
from napari_sam_lora._qt.prompting.commit import CommitBox
from napari_sam_lora._qt.prompting.correction import Correction
from napari_sam_lora._qt.prompting.mask_options import MaskBox
from napari_sam_lora._qt.prompting.model_selector import ModelBox
from napari_sam_lora._qt.prompting.tools import ToolBox
from napari_sam_lora._qt.propagation.panel import PropagationBox
from napari_sam_lora._qt.viewer import shortcuts
from napari_sam_lora._qt.viewer.controller import Controller, controller_of
from napari_sam_lora._qt.widgets.controls import NO_IMAGE, LayerCombo, Notice, TextLabel
from napari_sam_lora._qt.widgets.layout import ScrollPanel, collapsible, row
from napari_sam_lora.session.plane_key import last_axes_planes


def open_prompt_panel(controller: Controller) -> PromptPanel:
    """Return the prompt panel of a viewer, opened if it was closed and brought to the front."""
    panel = next((one for one in controller.panels if isinstance(one, PromptPanel)), None)
    if panel is None:
        panel = controller.viewer.window.add_plugin_dock_widget("napari-sam-lora", "Prompt and segment")[1]
    dock: QWidget | None = panel
    while dock is not None and not isinstance(dock, QDockWidget):
        dock = dock.parentWidget()
    if dock is not None:
        dock.show()
        dock.raise_()
    return panel


class PromptPanel(ScrollPanel):
    """Panel for the prompts, masks and labels of one viewer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.controller = controller_of(napari_viewer)
        self._image = LayerCombo("The image to segment")
        self._image.chosen.connect(self.controller.active_layers.select_image)
        self._hint = Notice(NO_IMAGE)
        self._model = collapsible("Model", ModelBox(self.controller))
        self._tools = ToolBox(self.controller)
        self._mask = MaskBox(self.controller)
        self._everything = EverythingBox(self.controller)
        self._objects = ObjectsTable(self.controller)
        self._commit = CommitBox(self.controller, self._objects.selected)
        self._correction = Correction(self.controller, self._objects.selected, self)
        self._objects.selection.selectionChanged.connect(self._correction.follow)
        self._propagation = PropagationBox(self.controller, self._objects.selected)
        self._objects.selection.selectionChanged.connect(self._propagation.refresh_soon)
        self._everything_section = collapsible("Find everything", self._everything)
        self._sections = (
            collapsible("Objects", self._objects),
            collapsible("Propagate through the stack", self._propagation),
            self._everything_section,
            self._make_project_section(),
            collapsible("Keys", TextLabel(shortcuts.table())),
        )
        self._lay_out()
        for signal in (
            self.controller.layers.images_changed,
            self.controller.active_layers.image_chosen,
            self.controller.active_layers.plane_changed,
            self.controller.active_layers.image_shown,
        ):
            signal.connect(self.refresh)
        for signal in (
            self.controller.events.model_changed,
            self.controller.events.active_changed,
            self.controller.model_loader.loading_changed,
        ):
            signal.connect(self._name_model)
        self.refresh()
        self._name_model()

    def refresh(self) -> None:
        """Update the list of images and the hint below it."""
        images, chosen = self.controller.layers.images(), self.controller.active_layers.image_layer
        self._image.set_layers(images, chosen)
        hint = "" if chosen is not None else NO_IMAGE
        if chosen is not None and self.controller.active_layers.is_hidden:
            hint = f"{chosen.name} is hidden: show it to segment it."
        elif chosen is not None and self.controller.active_layers.plane is None:
            hint = "Leave the 3-D view and show a plane of the image to segment it."
        self._hint.say(hint)

    def find_everything(self, image_layer: Any) -> None:
        """Show the section "Find everything" and find everything in the shown plane of an image, or in its first."""
        self._everything_section.expand(animate=False)
        if not self._everything.everything.is_busy:
            uncover(self.controller, image_layer)
            if self.controller.active_layers.plane is None:
                self.controller.go_to(next(last_axes_planes(self.controller.image, data_shape(image_layer))))
            self._everything.choose_where("plane")
            self._everything.start()
        self._everything.scroll_to_buttons_soon()

    def _name_model(self, *_: object) -> None:
        """Name the model and adapter in use in the title of the section "Model"."""
        session, loading = self.controller.session, self.controller.model_loader.loading
        model = session.models.model
        name = f"loading {loading} …" if loading else "none yet" if model is None else model.name
        adapter = f" + {session.models.active}" if session.models.active else ""
        self._model.setText(f"Model: {name}{adapter}")

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """Attach to the controller, whose keyboard shortcuts work while a panel is open."""
        super().showEvent(event)
        self.controller.attach(self)

    def on_dock_closed(self) -> None:
        """Clear the proposal before the panel closes; prompts and labels stay."""
        self._everything.on_dock_closed()
        self.controller.detach(self)

    def _make_project_section(self) -> QWidget:
        """Make the section "Project", unfolded if there is a session to restore."""
        box = ProjectBox(self.controller)
        made = collapsible("Project", box)
        if box.project.offered:
            made.expand(animate=False)
        return made

    def _lay_out(self) -> None:
        self.column.addWidget(row(QLabel("Image"), self._image))
        self.column.addWidget(self._hint)
        for widget in (self._model, self._tools, self._mask, self._commit, *self._sections):
            self.column.addWidget(widget)
        self.column.addStretch(1)

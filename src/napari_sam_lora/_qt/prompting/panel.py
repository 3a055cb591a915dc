"""The widget "Prompt and segment"."""

from __future__ import annotations

from typing import Any

from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QLabel, QWidget

from napari_sam_lora._qt.automatic.panel import EverythingBox
from napari_sam_lora._qt.objects.table import ObjectsTable
from napari_sam_lora._qt.project.panel import ProjectBox
from napari_sam_lora._qt.prompting.commit import CommitBox
from napari_sam_lora._qt.prompting.mask_options import MaskBox
from napari_sam_lora._qt.prompting.model_selector import ModelBox
from napari_sam_lora._qt.prompting.tools import ToolBox
from napari_sam_lora._qt.propagation.panel import PropagationBox
from napari_sam_lora._qt.viewer import shortcuts
from napari_sam_lora._qt.viewer.controller import controller_of
from napari_sam_lora._qt.widgets.controls import NO_IMAGE, LayerCombo, ScrollPanel, TextLabel, folded, row


class PromptPanel(ScrollPanel):
    """Prompts, masks and labels of one viewer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.controller = controller_of(napari_viewer)
        self._image = LayerCombo("The image to segment")
        self._image.chosen.connect(self.controller.choose_image)
        self._empty = TextLabel(NO_IMAGE)
        self._model = folded("Model", ModelBox(self.controller))
        self._tools = ToolBox(self.controller)
        self._mask = MaskBox(self.controller)
        self._commit = CommitBox(self.controller)
        self._everything = EverythingBox(self.controller)
        self._objects = ObjectsTable(self.controller)
        self._propagation = PropagationBox(self.controller, self._objects.selected)
        self._objects.selection.selectionChanged.connect(self._propagation.look_soon)
        self._more = (
            folded("Objects", self._objects),
            folded("Propagate through the stack", self._propagation),
            folded("Find everything", self._everything),
            self._project(),
            folded("Keys", TextLabel(shortcuts.table())),
        )
        self._lay_out()
        for signal in (self.controller.images_changed, self.controller.image_chosen, self.controller.plane_changed):
            signal.connect(self.refresh)
        for signal in (self.controller.model_changed, self.controller.active_changed, self.controller.loading_changed):
            signal.connect(self._name_model)
        self.refresh()
        self._name_model()

    def refresh(self) -> None:
        """Show how things are."""
        images, chosen = self.controller.image_layers(), self.controller.image_layer
        self._image.set_layers(images, chosen)
        unseen = chosen is not None and self.controller.plane is None
        self._empty.setText("Leave the 3-D view and go to a plane of the image to segment it." if unseen else NO_IMAGE)
        self._empty.setVisible(unseen or chosen is None)

    def _name_model(self, *_: object) -> None:
        """Say in the title of the model's section what segments."""
        session, loading = self.controller.session, self.controller.model_loader.loading
        model = session.model
        name = f"loading {loading} …" if loading else "none yet" if model is None else model.name
        adapter = f" + {session.active}" if session.active else ""
        self._model.setText(f"Model: {name}{adapter}")

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """Keys work while a panel is open."""
        super().showEvent(event)
        self.controller.attach(self)

    def leave(self) -> None:
        """Leave nothing behind but what is being drawn, and what was added."""
        self._everything.leave()
        self.controller.panel_left(self)

    def _project(self) -> QWidget:
        """Unfolded if there is a session to restore."""
        box = ProjectBox(self.controller)
        made = folded("Project", box)
        if box.project.offered:
            made.expand(animate=False)
        return made

    def _lay_out(self) -> None:
        self.column.addWidget(row(QLabel("Image"), self._image))
        self.column.addWidget(self._empty)
        for widget in (self._model, self._tools, self._mask, self._commit, *self._more):
            self.column.addWidget(widget)
        self.column.addStretch(1)

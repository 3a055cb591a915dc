"""Choosing how to show an object to the model."""

from __future__ import annotations

from napari.layers import Points, Shapes
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QButtonGroup, QCheckBox, QGridLayout, QLabel, QWidget

from napari_sam_lora._qt.prompting.prompt_layers import Tool
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.napari_stores import is_managed
from napari_sam_lora._qt.widgets.controls import LayerCombo, TextLabel, button, column, heading, row

TOOLS: dict[Tool, tuple[str, str]] = {
    "point": ("Click", "Click on the object. The simplest prompt; add more clicks until the mask fits."),
    "box": ("Box", "Drag a box around the object. The most reliable prompt."),
    "lasso": ("Lasso", "Draw around the object roughly: press, draw, release."),
    "scribble": ("Scribble", "Draw a line through the object: press, draw, release."),
    "mask": ("Paint", "Paint the object roughly with a brush."),
}


HINTS: dict[Tool, str] = {
    "point": "Click on the object.",
    "box": "Drag a box around the object.",
    "lasso": "Press, draw around the object, release.",
    "scribble": "Press, draw a line through the object, release.",
    "mask": "Paint the object roughly.",
}
SHIFT = "Shift-click marks what is outside."
OUTSIDE = "What you draw now does not belong to the object."
CHOOSE = "Choose how to show it, then draw in the image."


class ToolBox(QWidget):
    """Tools, polarity, batch mode and layers of the user's that prompts can come from."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._tools = QButtonGroup(self)
        self._tools.setExclusive(False)  # napari's own modes can be chosen as well
        grid = QGridLayout()
        grid.setSpacing(4)
        for number, (text, tip) in enumerate(TOOLS.values()):
            made = button(text, tip, checkable=True)
            self._tools.addButton(made, number)
            grid.addWidget(made, number // 3, number % 3)
        self._tools.idClicked.connect(self._on_tool)
        self._inside = button("+ inside", "What you draw belongs to the object (Shift-T switches)", checkable=True)
        self._outside = button("- outside", "What you draw does not belong to the object (Shift-T)", checkable=True)
        self._inside.clicked.connect(self._on_inside)
        self._outside.clicked.connect(self._on_outside)
        self._batch = QCheckBox("Each click or box is its own object")
        self._batch.setToolTip("Click or box many objects, then add them all at once.")
        self._batch.toggled.connect(self._on_batch)
        self._source = LayerCombo("A Points or Shapes layer of your own, whose points and shapes are prompts too")
        self._source.chosen.connect(self._on_source)
        self._hint = TextLabel()
        whole = column(self)
        whole.addWidget(heading("1. Show the object"))
        whole.addLayout(grid)
        whole.addWidget(row(self._inside, self._outside))
        whole.addWidget(self._hint)
        whole.addWidget(self._batch)
        whole.addWidget(row(QLabel("Prompts from"), self._source))
        self._connect()
        self.refresh()

    def refresh(self) -> None:
        """Show how things are."""
        controller, drawing = self._controller, self._controller.drawing
        usable = controller.plane is not None
        layers = drawing.layers
        tool = None if layers is None else layers.tool()
        self._hint.setText(self._words(tool, usable))
        for number, one in enumerate(TOOLS):
            made = self._tools.button(number)
            if made is not None:
                made.setEnabled(usable)
                made.setChecked(one == tool)
        for made, positive in ((self._inside, True), (self._outside, False)):
            made.setEnabled(usable)
            made.setChecked(drawing.positive == positive)
        blocker = QSignalBlocker(self._batch)
        self._batch.setChecked(drawing.batch)
        blocker.unblock()
        self._batch.setEnabled(usable)
        self._list_sources()

    def _words(self, tool: Tool | None, usable: bool) -> str:
        """What to do next."""
        if tool is None:
            return CHOOSE if usable else SHIFT
        return f"{HINTS[tool]} {SHIFT}" if self._controller.drawing.positive else OUTSIDE

    def _connect(self) -> None:
        controller = self._controller
        for signal in (controller.settings_changed, controller.plane_changed, controller.image_chosen):
            signal.connect(self.refresh)
        controller.tool_changed.connect(self.refresh)
        controller.layers_changed.connect(self._list_sources)

    def _list_sources(self) -> None:
        viewer = self._controller.viewer
        if viewer is None:
            return
        own = [one for one in viewer.layers if isinstance(one, (Points, Shapes)) and not is_managed(one)]
        self._source.set_layers(own, self._controller.drawing.source_layer, "SAM layers only")
        self._source.setEnabled(bool(own))

    def _on_tool(self, number: int) -> None:
        self._controller.draw_with(list(TOOLS)[number])
        self.refresh()

    def _on_inside(self) -> None:
        self._controller.drawing.set_positive(True)

    def _on_outside(self) -> None:
        self._controller.drawing.set_positive(False)

    def _on_batch(self, checked: bool) -> None:
        self._controller.drawing.set_batch(checked)

    def _on_source(self, layer: object) -> None:
        self._controller.drawing.choose_source(layer)

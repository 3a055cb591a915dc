"""Panel section to choose the tool, polarity and source of prompts."""

from __future__ import annotations

from napari.layers import Points, Shapes
from qtpy.QtWidgets import QButtonGroup, QCheckBox, QGridLayout, QLabel, QWidget
from superqt.utils import signals_blocked

from napari_sam_lora._qt.layers.napari_stores import is_managed
from napari_sam_lora._qt.prompting.prompt_layers import Tool
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import LayerCombo, TextLabel, button
from napari_sam_lora._qt.widgets.layout import column, heading, row

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
SHIFT_CLICK = "Shift-click marks what is outside."
OUTSIDE = "What you draw now does not belong to the object."
CHOOSE_TOOL = "Choose a tool, then draw in the image."


class ToolBox(QWidget):
    """Tools, polarity, batch mode, and the choice of a layer of the user's own as source of prompts."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._tools = QButtonGroup(self)
        self._tools.setExclusive(False)  # none is checked while a mode of napari's own is chosen
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
        self._source = LayerCombo("A Points or Shapes layer of your own, which is used as prompts too")
        self._source.chosen.connect(self._on_source)
        self._hint = TextLabel()
        layout = column(self)
        layout.addWidget(heading("1. Show the object"))
        layout.addLayout(grid)
        layout.addWidget(row(self._inside, self._outside))
        layout.addWidget(self._hint)
        layout.addWidget(self._batch)
        layout.addWidget(row(QLabel("Prompts from"), self._source))
        self._connect()
        self.refresh()

    def refresh(self) -> None:
        """Update all widgets from the controller."""
        controller, drawing = self._controller, self._controller.drawing
        usable = controller.active_layers.plane is not None and not controller.active_layers.is_hidden
        layers = drawing.layers
        tool = None if layers is None else layers.tool()
        self._hint.setText(self._hint_text(tool, usable))
        for number, name in enumerate(TOOLS):
            made = self._tools.button(number)
            if made is not None:
                made.setEnabled(usable)
                made.setChecked(name == tool)
        for made, positive in ((self._inside, True), (self._outside, False)):
            made.setEnabled(usable)
            made.setChecked(drawing.positive == positive)
        with signals_blocked(self._batch):
            self._batch.setChecked(drawing.batch)
        self._batch.setEnabled(usable)
        self._list_sources()

    def _hint_text(self, tool: Tool | None, usable: bool) -> str:
        """Say what to do next."""
        if tool is None:
            return CHOOSE_TOOL if usable else SHIFT_CLICK
        return f"{HINTS[tool]} {SHIFT_CLICK}" if self._controller.drawing.positive else OUTSIDE

    def _connect(self) -> None:
        controller = self._controller
        drawing, active_layers = controller.drawing, controller.active_layers
        for signal in (
            drawing.settings_changed,
            drawing.tool_changed,
            active_layers.plane_changed,
            active_layers.image_chosen,
            active_layers.image_shown,
        ):
            signal.connect(self.refresh)
        controller.layers.layers_changed.connect(self._list_sources)

    def _list_sources(self) -> None:
        viewer = self._controller.viewer
        if viewer is None:
            return
        own = [layer for layer in viewer.layers if isinstance(layer, (Points, Shapes)) and not is_managed(layer)]
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

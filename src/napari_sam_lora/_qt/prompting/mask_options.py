"""Panel section with the state of the preview, the candidate masks, and how masks are cleaned."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QLabel, QSlider, QSpinBox, QWidget
from superqt.utils import signals_blocked

from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import TextLabel, button
from napari_sam_lora._qt.widgets.layout import collapsible, column, heading, row

STEPS_PER_UNIT = 10
MAX_THRESHOLD = 5


class MaskBox(QWidget):
    """Candidate masks with their scores, and options that clean masks."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._state = TextLabel()
        self._auto = button("Auto", "Let the model choose the mask", self._on_auto, checkable=True)
        self._candidates = [
            button(
                f"{number + 1}",
                "One of the model's three masks, often a part, the whole, or a group of objects; the number is the "
                "score that the model gives it, from 0 to 1 (Shift-K takes the next one)",
                checkable=True,
            )
            for number in range(3)
        ]
        for made, call in zip(self._candidates, (self._on_first, self._on_second, self._on_third), strict=True):
            made.clicked.connect(call)
        self._threshold = QSlider(Qt.Orientation.Horizontal)
        self._threshold.setRange(-MAX_THRESHOLD * STEPS_PER_UNIT, MAX_THRESHOLD * STEPS_PER_UNIT)
        self._threshold.setToolTip(
            "To the right masks become smaller, to the left larger. The middle is the model's own threshold."
        )
        self._threshold.valueChanged.connect(self._on_threshold)
        self._fill = QCheckBox("Fill holes")
        self._fill.setToolTip("Fill the holes of a mask")
        self._fill.toggled.connect(self._on_fill)
        self._smallest = QSpinBox()
        self._smallest.setRange(0, 1_000_000)
        self._smallest.setToolTip("Separate parts of a mask with fewer pixels are left out; 0 keeps all")
        self._smallest.setKeyboardTracking(False)
        self._smallest.setSuffix(" px")
        self._smallest.valueChanged.connect(self._on_smallest)
        self._contrast = QCheckBox("Use the layer's contrast limits")
        self._contrast.setToolTip("The model sees the image with the contrast that you see. Helps with dim objects.")
        self._contrast.toggled.connect(self._on_contrast)
        self._lay_out()
        controller.previews.preview_changed.connect(self.refresh)
        controller.previews.waiting_changed.connect(self.refresh)
        controller.previews.options_changed.connect(self.refresh)
        controller.model_loader.loading_changed.connect(self.refresh)
        controller.active_layers.image_chosen.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Update all widgets from the controller."""
        controller, preview, options = (
            self._controller,
            self._controller.previews.preview,
            self._controller.previews.options,
        )
        has_masks = preview is not None and len(preview) > 0
        self._auto.setEnabled(has_masks)
        self._auto.setChecked(options.candidate == "auto")
        for number, made in enumerate(self._candidates):
            made.setEnabled(has_masks)
            made.setChecked(options.candidate == number)
            score = "" if preview is None or not has_masks else f" · {preview.masks[-1].candidate_scores[number]:.2f}"
            made.setText(f"{number + 1}{score}")
        self._state.setText(self._state_text())
        for widget, value in ((self._fill, options.fill_holes), (self._contrast, controller.previews.use_contrast)):
            with signals_blocked(widget):
                widget.setChecked(value)
        image = controller.active_layers.image_layer
        self._contrast.setEnabled(image is not None and not image.rgb)

    def _state_text(self) -> str:
        """Describe the preview, or say what it waits for."""
        controller, preview = self._controller, self._controller.previews.preview
        if controller.model_loader.loading and controller.session.models.model is None:
            return f"Loading the model {controller.model_loader.loading} …"
        if controller.previews.is_waiting:
            return "Segmenting …"
        if preview is None:
            return "The mask appears here as soon as you have drawn something."
        if not len(preview):
            return "Draw something inside the object too, such as a click."
        if len(preview) == 1:
            return f"{preview.masks[0].region.area} pixels, score {preview.masks[0].score:.2f}."
        return f"{len(preview)} objects."

    def _lay_out(self) -> None:
        layout = column(self)
        layout.addWidget(heading("2. Look at the mask"))
        layout.addWidget(self._state)
        layout.addWidget(row(self._auto, *self._candidates))
        inner = QWidget()
        options = column(inner)
        options.addWidget(row(QLabel("Larger"), self._threshold, QLabel("smaller")))
        options.addWidget(self._fill)
        options.addWidget(row(QLabel("Leave out parts below"), self._smallest))
        options.addWidget(self._contrast)
        layout.addWidget(collapsible("Adjust the mask", inner))

    def _on_auto(self) -> None:
        self._choose("auto")

    def _on_first(self) -> None:
        self._choose(0)

    def _on_second(self) -> None:
        self._choose(1)

    def _on_third(self) -> None:
        self._choose(2)

    def _choose(self, candidate: object) -> None:
        self._controller.set_options(candidate=candidate)
        self.refresh()  # a second click on the chosen one must not uncheck it

    def _on_threshold(self, steps: int) -> None:
        self._controller.set_options(threshold=steps / STEPS_PER_UNIT)

    def _on_fill(self, checked: bool) -> None:
        self._controller.set_options(fill_holes=checked)

    def _on_smallest(self, pixels: int) -> None:
        self._controller.set_options(smallest=pixels)

    def _on_contrast(self, checked: bool) -> None:
        self._controller.previews.set_use_contrast(checked)

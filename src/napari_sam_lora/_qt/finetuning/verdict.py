"""Verdict of a run: figures of the base and the adapted model, and a button to use the adapter."""

from __future__ import annotations

from functools import partial

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_sam_lora._qt.finetuning.controller import FinetuningController
from napari_sam_lora._qt.finetuning.example_pictures import image_position, objects_in, render_objects
from napari_sam_lora._qt.finetuning.pair_plot import PairPlot
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import Notice, button
from napari_sam_lora._qt.widgets.layout import row
from napari_sam_lora._qt.widgets.picture_strip import PictureStrip
from napari_sam_lora.session import TrainingEvent

FIGURES = (
    # attribute of the scores, title, format, and 1 if higher is better, else -1
    ("box_iou", "IoU, box", "{:.3f}", 1),
    ("click_iou", "IoU, one click", "{:.3f}", 1),
    ("clicks_to_good", "Clicks to 0.8", "{:.1f}", -1),
)
ON_ONE_IMAGE = "Better on this image; not checked on another one"
TITLES = {
    "better": "Better than without it",
    "not better": "Not better than without it, and not in use",
    "too few": "Too few objects to tell whether it is better",
}


class VerdictBox(QWidget):
    """Verdict of the last run; hidden until the first run has ended.

    Parameters
    ----------
    controller : Controller
    finetuning_controller : FinetuningController
    """

    def __init__(self, controller: Controller, finetuning_controller: FinetuningController) -> None:
        super().__init__()
        self._controller, self._finetuning_controller = controller, finetuning_controller
        self._shown: TrainingEvent | None = None
        self.title, self.reason, self.counts, self.warnings = Notice(), Notice(), Notice(), Notice()
        font = self.title.font()
        font.setBold(True)
        self.title.setFont(font)
        self.figures = QGridLayout()
        self.plot = PairPlot()
        self.plot.picked.connect(self._go_to_object)
        self.examples = PictureStrip(controller)
        self.use = button("Use it", "", self._use)
        tip = "Switch between the model with and without it, for the prompts on the screen; open another image to see."
        self.compare = button("Compare", tip, self._use)
        self.buttons = row(self.use, self.compare)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.title)
        layout.addWidget(self.reason)
        layout.addWidget(self.counts)
        layout.addLayout(self.figures)
        for widget in (self.plot, self.examples, self.warnings, self.buttons):
            layout.addWidget(widget)
        finetuning_controller.run_changed.connect(self.refresh)
        controller.events.active_changed.connect(self._show_use)
        controller.events.adapters_changed.connect(self._show_use)
        self.refresh()

    def refresh(self) -> None:
        """Show the verdict of the last run that has ended."""
        event = self._finetuning_controller.latest
        report = None if event is None else event.report
        self.setVisible(report is not None)
        if event is None or report is None or event is self._shown:
            return
        self._shown = event
        on_one = report.verdict == "better" and not report.use_at_once
        self.title.say(f"{event.adapter}: {ON_ONE_IMAGE if on_one else TITLES[report.verdict]}")
        self.reason.say(report.reason)
        self.counts.say(f"{report.counts}.")
        self.warnings.say("\n".join(f"⚠ {warning}" for warning in report.warnings))
        self._show_figures(event)
        base, adapted = (
            [(score.box_iou + score.click_iou) / 2 for score in scores]
            for scores in (report.base_objects, report.adapted_objects)
        )
        self.plot.show_points(base, adapted)
        self.plot.setVisible(bool(base))
        self._show_use()
        self._render_examples(event)

    def _show_figures(self, event: TrainingEvent) -> None:
        while (item := self.figures.takeAt(0)) is not None:
            if (old := item.widget()) is not None:
                old.deleteLater()
        report = event.report
        if report is None or not report.base.count:
            return
        for column, heading in enumerate(("", "base", "adapted", "")):
            self.figures.addWidget(QLabel(heading), 0, column, Qt.AlignmentFlag.AlignRight)
        for line, (name, title, number_format, sign) in enumerate(FIGURES, start=1):
            base, adapted = getattr(report.base, name), getattr(report.adapted, name)
            gain = sign * (adapted - base)
            self.figures.addWidget(QLabel(title), line, 0)
            self.figures.addWidget(QLabel(number_format.format(base)), line, 1, Qt.AlignmentFlag.AlignRight)
            self.figures.addWidget(QLabel(number_format.format(adapted)), line, 2, Qt.AlignmentFlag.AlignRight)
            arrow = QLabel("▲" if gain > 0.0005 else "▼" if gain < -0.0005 else "=")
            arrow.setToolTip("better" if gain > 0 else "worse" if gain < 0 else "equal")
            self.figures.addWidget(arrow, line, 3)
        self.figures.setColumnStretch(0, 1)

    def _render_examples(self, event: TrainingEvent) -> None:
        report, model = event.report, self._controller.session.models.model
        self.examples.clear()
        if report is None or model is None or not report.base_objects:
            return
        with self._controller.report_errors():
            adapter = self._controller.session.models.adapters.get(event.adapter)
            job = partial(
                render_objects,
                model=model,
                adapter=adapter,
                planes=self._finetuning_controller.planes,
                base=report.base_objects,
                adapted=report.adapted_objects,
                meaning=self._finetuning_controller.meaning,
            )
            self._finetuning_controller.in_background("examples", job, self.examples.show_examples, self)

    # Using the adapter

    def _show_use(self, *_: object) -> None:
        event = self._shown
        if event is None or event.report is None:
            return
        session = self._controller.session
        exists = any(entry.name == event.adapter for entry in session.models.adapters.entries())
        is_active = session.models.active == event.adapter
        self.buttons.setVisible(exists)
        self.compare.setVisible(not event.report.use_at_once)
        title = "Use it" if event.report.verdict == "better" else "Use it anyway"
        self.use.setText("Stop using it" if is_active else title)
        self.use.setToolTip(
            "Segment with the base model again." if is_active else "Segment with this adapter from now on."
        )

    def _use(self) -> None:
        event = self._shown
        if event is not None:
            session = self._controller.session
            with self._controller.report_errors():
                if session.models.active == event.adapter:
                    session.models.deactivate()
                else:
                    session.models.activate(event.adapter)

    def _go_to_object(self, index: int) -> None:
        event = self._shown
        if event is None or event.report is None:
            return
        score = event.report.base_objects[index]
        plane = self._finetuning_controller.planes[score.plane]
        objects = objects_in(plane, self._finetuning_controller.meaning)
        pixels = np.argwhere(objects == score.label)
        if len(pixels):
            self._controller.go_to(plane.plane, image_position(plane.plane, pixels.mean(0)))

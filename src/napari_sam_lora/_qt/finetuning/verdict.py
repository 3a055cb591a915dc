"""How a run ended: figures of base and adapted model, object by object, and what to do with the adapter."""

from __future__ import annotations

from functools import partial

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_sam_lora._qt.finetuning.controller import FinetuningController
from napari_sam_lora._qt.finetuning.example_pictures import place, show_objects
from napari_sam_lora._qt.finetuning.pair_plot import PairPlot
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import Notice, action
from napari_sam_lora._qt.widgets.picture_strip import Strip
from napari_sam_lora.labels import LABEL_MEANINGS, LabelMeaning, separate_objects
from napari_sam_lora.session import TrainingEvent

FIGURES = (
    ("box_iou", "IoU, box", "{:.3f}", 1),
    ("click_iou", "IoU, one click", "{:.3f}", 1),
    ("clicks_to_good", "Clicks to 0.8", "{:.1f}", -1),
)
TITLES = {
    "better": "Better than without it",
    "not better": "Not better than without it: not in use",
    "too few": "Too few objects to tell whether it is better",
}


class VerdictBox(QWidget):
    """The verdict of the last run; empty before the first one has ended.

    Parameters
    ----------
    controller : Controller
    finetuning : FinetuningController
    """

    def __init__(self, controller: Controller, finetuning: FinetuningController) -> None:
        super().__init__()
        self._controller, self._finetuning = controller, finetuning
        self._shown: TrainingEvent | None = None
        self.title, self.reason, self.cautions = Notice(), Notice(), Notice()
        font = self.title.font()
        font.setBold(True)
        self.title.setFont(font)
        self.figures = QGridLayout()
        self.plot = PairPlot()
        self.plot.picked.connect(self._go)
        self.examples = Strip(controller)
        self.use = action("Use it", "", self._use)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.title)
        layout.addWidget(self.reason)
        layout.addLayout(self.figures)
        for widget in (self.plot, self.examples, self.cautions, self.use):
            layout.addWidget(widget)
        finetuning.run_changed.connect(self.refresh)
        controller.active_changed.connect(self._show_use)
        controller.adapters_changed.connect(self._show_use)
        self.refresh()

    def refresh(self) -> None:
        """Show the last run that has ended."""
        event = self._finetuning.latest
        ended = event is not None and event.report is not None
        self.setVisible(ended)
        if not ended or event is None or event is self._shown:
            return
        self._shown = event
        report = event.report
        assert report is not None
        self.title.say(f"{event.adapter}: {TITLES[report.verdict]}")
        self.reason.say(report.reason)
        self.cautions.say("\n".join(f"⚠ {one}" for one in report.warnings))
        self._show_figures(event)
        both = [
            [(score.box_iou + score.click_iou) / 2 for score in scores]
            for scores in (report.base_objects, report.adapted_objects)
        ]
        self.plot.show_points(*both)
        self.plot.setVisible(bool(both[0]))
        self._show_use()
        self._make_examples(event)

    def _show_figures(self, event: TrainingEvent) -> None:
        while (item := self.figures.takeAt(0)) is not None:
            if (old := item.widget()) is not None:
                old.deleteLater()
        report = event.report
        if report is None or not report.base.count:
            return
        for column, text in enumerate(("", "base", "adapted", "")):
            self.figures.addWidget(QLabel(text), 0, column, Qt.AlignmentFlag.AlignRight)
        for line, (name, title, form, sign) in enumerate(FIGURES, start=1):
            base, adapted = getattr(report.base, name), getattr(report.adapted, name)
            gain = sign * (adapted - base)
            self.figures.addWidget(QLabel(title), line, 0)
            self.figures.addWidget(QLabel(form.format(base)), line, 1, Qt.AlignmentFlag.AlignRight)
            self.figures.addWidget(QLabel(form.format(adapted)), line, 2, Qt.AlignmentFlag.AlignRight)
            arrow = "▲" if gain > 0.0005 else "▼" if gain < -0.0005 else "="
            mark = QLabel(arrow)
            mark.setToolTip("better" if gain > 0 else "worse" if gain < 0 else "equal")
            self.figures.addWidget(mark, line, 3)
        self.figures.setColumnStretch(0, 1)

    def _make_examples(self, event: TrainingEvent) -> None:
        report, model = event.report, self._controller.session.model
        self.examples.clear()
        if report is None or model is None or not report.base_objects:
            return
        with self._controller.report_errors():
            adapter = self._controller.session.adapters.get(event.adapter)
            job = partial(
                show_objects,
                model=model,
                adapter=adapter,
                planes=self._finetuning.planes,
                base=report.base_objects,
                adapted=report.adapted_objects,
                meaning=self._finetuning.meaning,
            )
            self._finetuning.in_background("examples", job, self.examples.show_examples, self)

    # What to do with it

    def _show_use(self, *_: object) -> None:
        event = self._shown
        if event is None or event.report is None:
            return
        session = self._controller.session
        there = any(entry.name == event.adapter for entry in session.adapters.entries())
        active = session.active == event.adapter
        self.use.setVisible(there)
        words = "Use it" if event.report.verdict == "better" else "Use it anyway"
        self.use.setText("Stop using it" if active else words)
        self.use.setToolTip(
            "Segment with the base model again." if active else "Segment with this adapter from now on."
        )

    def _use(self) -> None:
        event = self._shown
        if event is not None:
            session = self._controller.session
            with self._controller.report_errors():
                if session.active == event.adapter:
                    session.deactivate()
                else:
                    session.activate(event.adapter)

    def _go(self, number: int) -> None:
        event = self._shown
        if event is None or event.report is None:
            return
        score = event.report.base_objects[number]
        plane = self._finetuning.planes[score.plane]
        objects = separate_objects(plane.labels, self._meaning())[0]
        there = np.argwhere(objects == score.label)
        if len(there):
            self._controller.go_to(plane.plane, place(plane.plane, there.mean(0)))

    def _meaning(self) -> LabelMeaning:
        return next(one for one in LABEL_MEANINGS if one == self._finetuning.meaning)

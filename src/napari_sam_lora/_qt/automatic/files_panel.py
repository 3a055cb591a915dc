"""Segmenting the files of a folder with the model in use."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_info, show_warning
from qtpy.QtWidgets import QCheckBox, QFileDialog, QLineEdit, QProgressBar, QVBoxLayout, QWidget

from napari_sam_lora._qt.finetuning.controller import FinetuningController
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.progress import activity_bar
from napari_sam_lora._qt.widgets.controls import Notice, action, row
from napari_sam_lora.batch.files import FolderResult, plan_folder, segment_folder
from napari_sam_lora.errors import InputError
from napari_sam_lora.session import CancelToken
from napari_sam_lora.text import pluralize

KEY = "folder"


class FolderBox(QWidget):
    """Everything mode over the images of a folder; label TIFFs are written beside them or elsewhere.

    Parameters
    ----------
    controller : Controller
    finetuning : FinetuningController
    """

    def __init__(self, controller: Controller, finetuning: FinetuningController) -> None:
        super().__init__()
        self._controller, self._finetuning = controller, finetuning
        self._dock_bar: Any = None
        self.images, self.output = QLineEdit(), QLineEdit()
        self.images.setPlaceholderText("Folder of images")
        self.output.setPlaceholderText("Labels go beside the images")
        self.output.setToolTip("A folder for the label TIFFs; if empty, NAME_labels.tif beside each image.")
        self.overwrite = QCheckBox("Replace label files that exist")
        self.start = action(
            "Segment all", "Find all objects of each image with the model or adapter in use.", self.begin
        )
        self.cancel = action("Cancel", "End after the present part; files that are done stay.", self._cancel)
        self.bar, self.state = QProgressBar(), Notice()
        self.busy = row(self.bar, self.cancel)
        self.busy.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for line in (self.images, self.output):
            browse = action("…", "Choose a folder", partial(self._choose, line))
            browse.setMaximumWidth(32)
            layout.addWidget(row(line, browse))
        for widget in (self.overwrite, self.start, self.busy, self.state):
            layout.addWidget(widget)
        self.images.textChanged.connect(self._refresh)
        finetuning.progressed.connect(self._on_progress)
        self._refresh()

    def begin(self) -> None:
        """Segment the files, in the background."""
        with self._controller.report_errors():
            session = self._controller.session
            if session.model is None:
                self._controller.ensure_model()
                raise InputError("The model is being loaded; try again when it is there.")
            folder = Path(self.images.text()).expanduser()
            output = Path(self.output.text()).expanduser() if self.output.text().strip() else folder
            adapter = session.adapters.get(session.active) if session.active else None
            targets, overwrite, model = plan_folder(folder, output), self.overwrite.isChecked(), session.model

            def job(token: CancelToken) -> FolderResult:
                return segment_folder(
                    model=model, adapter=adapter, targets=targets, overwrite=overwrite, progress=token.progress
                )

            self.busy.show()
            self.state.say("")
            self._dock_bar = activity_bar(1, "Segmenting files")
            self._finetuning.in_background(KEY, job, self._done, self, self._end)
            self._refresh()

    def _done(self, result: FolderResult) -> None:
        self._end()
        said = [f"{pluralize(result.objects, 'object')} in {pluralize(len(result.written), 'image')}."]
        if result.skipped:
            said.append(f"{pluralize(result.skipped, 'image')} had labels already.")
        self.state.say(" ".join([*said, *result.problems]))
        (show_warning if result.problems else show_info)(self.state.text())

    def _cancel(self) -> None:
        self._finetuning.cancel(KEY)
        self._end()
        self.state.say("Cancelled; files that were done stay.")

    def _end(self) -> None:
        self.busy.hide()
        dock_bar, self._dock_bar = self._dock_bar, None  # napari processes events when a bar changes
        if dock_bar is not None:
            dock_bar.close()
        self._refresh()

    def _refresh(self, *_: object) -> None:
        self.start.setEnabled(bool(self.images.text().strip()) and self.busy.isHidden())

    def _choose(self, line: QLineEdit) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Choose a folder", line.text())
        if folder:
            line.setText(folder)

    def _on_progress(self, key: object, done: int, total: int) -> None:
        dock_bar = self._dock_bar
        if key == KEY and dock_bar is not None:
            self.bar.setRange(0, total)
            self.bar.setValue(done)
            dock_bar.total = total
            dock_bar.update(done - dock_bar.n)

"""Panel section that segments the image files of a folder with the model in use."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info, show_warning
from qtpy.QtWidgets import QCheckBox, QFileDialog, QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_sam_lora._qt.finetuning.controller import FinetuningController
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.progress import activity_bar
from napari_sam_lora._qt.widgets.controls import Notice, button, combo_box
from napari_sam_lora._qt.widgets.layout import row
from napari_sam_lora._qt.widgets.work_bar import WorkBar
from napari_sam_lora.batch.files import FolderResult, plan_folder, segment_folder
from napari_sam_lora.session import CancelToken
from napari_sam_lora.text import pluralize

if TYPE_CHECKING:
    from napari_sam_lora.api import Method

KEY = "folder"
METHODS = {"": "Object finder, where the model has one", "clicks": "Grid of clicks (slow)"}
METHOD_TIP = (
    "The object finder uses the thresholds that were chosen when it was trained. The grid of clicks asks the model at "
    "many points."
)


class FolderBox(QWidget):
    """Find everything in the images of a folder, and write label TIFFs beside them or elsewhere.

    Parameters
    ----------
    controller : Controller
    finetuning_controller : FinetuningController
    """

    def __init__(self, controller: Controller, finetuning_controller: FinetuningController) -> None:
        super().__init__()
        self._controller, self._finetuning_controller = controller, finetuning_controller
        self._dock_bar: Any = None
        self.images, self.output = QLineEdit(), QLineEdit()
        self.images.setPlaceholderText("Folder of images")
        self.output.setPlaceholderText("Labels go beside the images")
        self.output.setToolTip(
            "Folder for the label TIFFs. If it is empty, they are written as NAME_labels.tif beside each image."
        )
        self.method = combo_box(METHODS, METHOD_TIP)
        self.overwrite = QCheckBox("Replace label files that exist")
        self.start = button(
            "Segment all", "Find all objects of each image with the model and adapter in use.", self.begin
        )
        self.cancel = button("Cancel", "Stop; label files that are finished stay.", self._cancel)
        self.bar, self.state = WorkBar(), Notice()
        self.working = row(self.bar, self.cancel)
        self.working.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for line in (self.images, self.output):
            browse = button("…", "Choose a folder", partial(self._choose, line))
            browse.setMaximumWidth(32)
            layout.addWidget(row(line, browse))
        for widget in (row(QLabel("How"), self.method), self.overwrite, self.start, self.working, self.state):
            layout.addWidget(widget)
        self.images.textChanged.connect(self._refresh)
        finetuning_controller.progressed.connect(self._on_progress)
        self._refresh()

    def begin(self) -> None:
        """Segment the files in the background, once a model is loaded."""
        self.state.say("Loading the model…")
        self._controller.with_model(self._begin, self, self.state.say)

    def _begin(self) -> None:
        self.state.say("")
        if not self.working.isHidden():  # asked twice while the model was loaded
            return
        models = self._controller.session.models
        folder = Path(self.images.text()).expanduser()
        output = Path(self.output.text()).expanduser() if self.output.text().strip() else folder
        adapter = models.adapters.get(models.active) if models.active else None
        targets, overwrite, model = plan_folder(folder, output), self.overwrite.isChecked(), models.need()

        method: Method | None = "clicks" if self.method.currentData() == "clicks" else None

        def job(token: CancelToken) -> FolderResult:
            return segment_folder(
                model, targets, adapter=adapter, overwrite=overwrite, progress=token.progress, method=method
            )

        self.working.show()
        self._dock_bar = activity_bar(1, "Segmenting files")
        self._finetuning_controller.in_background(KEY, job, self._done, self, self._end)
        self._refresh()

    def _done(self, result: FolderResult) -> None:
        self._end()
        summary = [f"{pluralize(result.objects, 'object')} in {pluralize(len(result.written), 'image')}."]
        if result.skipped:
            summary.append(f"{pluralize(result.skipped, 'image')} had a label file already.")
        self.state.say(" ".join([*summary, *result.problems]))
        (show_warning if result.problems else show_info)(self.state.text())

    def _cancel(self) -> None:
        self._finetuning_controller.cancel(KEY)
        self._end()
        self.state.say("Cancelled; label files that were finished stay.")

    def _end(self) -> None:
        self.working.hide()
        dock_bar, self._dock_bar = self._dock_bar, None  # napari processes events when a bar changes
        if dock_bar is not None:
            dock_bar.close()
        self._refresh()

    def _refresh(self, *_: object) -> None:
        self.start.setEnabled(bool(self.images.text().strip()) and self.working.isHidden())

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

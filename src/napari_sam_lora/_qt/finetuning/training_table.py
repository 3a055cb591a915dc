"""Table of the training set: labels and the images that they belong to."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sam_lora._qt.finetuning.controller import FinetuningController
from napari_sam_lora._qt.finetuning.example_pictures import render_planes
from napari_sam_lora._qt.finetuning.training_set import TrainingPair, hint_for_dense_head, training_warnings
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.compact_table import CompactTable
from napari_sam_lora._qt.widgets.controls import Notice, button
from napari_sam_lora._qt.widgets.layout import row
from napari_sam_lora._qt.widgets.picture_strip import PictureStrip
from napari_sam_lora.session import CancelToken
from napari_sam_lora.text import pluralize

if TYPE_CHECKING:
    from napari_sam_lora.session.training_import import LabelledStack

COLUMNS = {
    "Labels": "A labels layer with objects. Tick it to include it in the training set.",
    "Image": "The image that the labels belong to.",
    "Objects": "Number of labelled objects; the tooltip of each row tells how many of them have your prompts.",
    "Planes": "Number of planes with labels.",
    "Done": "Tick it when every object in the labelled planes is labelled: then fine-tuning also learns to find "
    "objects without prompts. Partly labelled images are fine, too: their other pixels do not count as background.",
}
NO_LABELS = (
    "No labels yet. Segment a few objects with the prompt widget, or paint some with napari's labels tools; they are "
    "then listed here."
)
NOTHING_CHECKED = "No object is painted or approved yet."
NO_IMAGE = "No open image has the size of these labels. Open their image to learn from them."
MAX_SHOWN = 8  # planes
DEFAULT_INPUT_SIZE = 1024  # that of the original SAM, while no model is loaded


class TrainingTable(QWidget):
    """Table in which the user chooses the labels to learn from, with advice.

    Parameters
    ----------
    controller : Controller
    finetuning_controller : FinetuningController
    """

    def __init__(self, controller: Controller, finetuning_controller: FinetuningController) -> None:
        super().__init__()
        self._controller, self._finetuning_controller = controller, finetuning_controller
        self.table = CompactTable(COLUMNS, stretched=(0, 1), most_rows=6)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.empty = Notice()
        self.checked = QCheckBox("Only what I painted or approved")
        self.checked.setToolTip(
            "Leaves out objects that are exactly as the model segmented them, since training on its mistakes would "
            "repeat them. Correct or approve such objects, or tick this."
        )
        self.checked.setChecked(finetuning_controller.only_checked)
        self.checked.toggled.connect(finetuning_controller.choose_checked)
        self.warnings, self.hint = Notice(), Notice()
        self.strip = PictureStrip(controller)
        self._show = button("Show", "Show pictures of the labelled planes; click one to go there.", self._show_planes)
        self._add = button(
            "Add from files…",
            "Open labelled images as layers: a folder with images/ and labels/ (or masks/), or a saved training set.",
            self._choose_folder,
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.empty, self.table, self.checked, self.hint, self.warnings):
            layout.addWidget(widget)
        layout.addWidget(row(self._show, self._add))
        layout.addWidget(self.strip)
        self._filling = False
        self.table.itemChanged.connect(self._on_item)
        finetuning_controller.set_changed.connect(self.refresh)
        finetuning_controller.settings_changed.connect(self._advise)
        self.refresh()

    def refresh(self) -> None:
        """Show the current training set."""
        pairs, self._filling = self._finetuning_controller.pairs(), True
        self.table.setRowCount(len(pairs))
        for index, pair in enumerate(pairs):
            self._fill_row(index, pair)
        self._filling = False
        self.table.setColumnHidden(1, all(len(pair.images) == 1 for pair in pairs))
        self.table.setVisible(bool(pairs))
        self.empty.say("" if pairs else NOTHING_CHECKED if self._finetuning_controller.only_checked else NO_LABELS)
        self._show.setEnabled(bool(self._finetuning_controller.included()))
        self.strip.clear()
        self.table.updateGeometry()
        self._advise()

    def _fill_row(self, index: int, pair: TrainingPair) -> None:
        name = _item(pair.labels_name, pair.labels)
        name.setToolTip(f"{pair.labels_name}, labels of the image {pair.image_name}" if pair.image else NO_IMAGE)
        if pair.image:
            name.setFlags(name.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            included = self._finetuning_controller.is_included(pair)
            name.setCheckState(Qt.CheckState.Checked if included else Qt.CheckState.Unchecked)
        self.table.setItem(index, 0, name)
        self.table.setItem(index, 1, _item(pair.image_name or "none"))
        self.table.removeCellWidget(index, 1)
        if len(pair.images) > 1:
            self.table.setCellWidget(index, 1, self._image_combo(pair))
        objects = _item(str(pair.objects))
        objects.setToolTip(f"{pluralize(pair.objects, 'object')}, {pair.prompted} with your prompts")
        self.table.setItem(index, 2, objects)
        self.table.setItem(index, 3, _item(str(pair.planes)))
        complete = _item("")
        complete.setFlags(complete.flags() | Qt.ItemFlag.ItemIsUserCheckable)
        states = Qt.CheckState
        state = states.Checked if pair.complete == pair.planes else states.PartiallyChecked
        complete.setCheckState(state if pair.complete else states.Unchecked)
        self.table.setItem(index, 4, complete)

    def _image_combo(self, pair: TrainingPair) -> QComboBox:
        names = {
            image: layer.name for image in pair.images if (layer := self._controller.layers.layer_of(image)) is not None
        }
        combo = QComboBox()
        combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        combo.setMinimumContentsLength(4)
        for image, name in names.items():
            combo.addItem(str(name), image)
        combo.setCurrentIndex(combo.findData(pair.image))
        controller = self._finetuning_controller
        combo.activated.connect(lambda index: controller.choose_image(pair.labels, str(combo.itemData(index))))
        return combo

    def _on_item(self, item: QTableWidgetItem) -> None:
        if self._filling:
            return
        name = self.table.item(item.row(), 0)
        labels = str(name.data(Qt.ItemDataRole.UserRole)) if name is not None else ""
        ticked = item.checkState() == Qt.CheckState.Checked
        if item.column() == 0:
            self._finetuning_controller.include(labels, ticked)
        elif item.column() == 4:
            self._finetuning_controller.mark_complete(labels, ticked)

    def _advise(self) -> None:
        included, values = self._finetuning_controller.included(), self._finetuning_controller.values
        trains_head = values.get("dense", True) and not values.get("complete", False)
        self.hint.say(hint_for_dense_head(included) if trains_head else "")
        if not self._finetuning_controller.pairs():
            self.warnings.say("")
            return
        model = self._controller.session.models.model
        size = model.predictor.input_size if model is not None else DEFAULT_INPUT_SIZE
        warnings = training_warnings(included, self._meaning(), size)
        self.warnings.say("\n".join(f"⚠ {warning}" for warning in warnings))

    def _meaning(self) -> str:
        return str(self._finetuning_controller.values.get("labels", "instances"))

    def _show_planes(self) -> None:
        with self._controller.report_errors():
            planes = self._finetuning_controller.snapshot()
            shown = np.linspace(0, len(planes) - 1, min(MAX_SHOWN, len(planes)), dtype=int)
            job = partial(render_planes, planes=[planes[index] for index in shown], meaning=self._meaning())
            self._finetuning_controller.in_background("show", job, self.strip.show_examples, self)

    # Labels from files

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder with images/ and labels/ or masks/")
        if folder:
            self.add_folder(Path(folder))

    def add_folder(self, folder: Path) -> None:
        """Open the labelled images of a folder as layers, which joins them to the training set."""
        self._add.setEnabled(False)
        self._finetuning_controller.in_background(
            "files", partial(_read_folder, folder=folder), self._add_layers, self, self._enable_add
        )

    def _enable_add(self) -> None:
        self._add.setEnabled(True)

    def _add_layers(self, stacks: list[LabelledStack]) -> None:
        self._enable_add()
        for one in stacks:
            rgb = one.images.ndim > one.labels.ndim
            self._controller.viewer.add_image(one.images, name=one.name, rgb=rgb)
            layer = self._controller.viewer.add_labels(one.labels, name=f"{one.name} labels")
            label_set = self._controller.session.labels.get(self._controller.layers.id_of(layer))
            if label_set is not None:
                one.describe(label_set)


def _read_folder(token: CancelToken, folder: Path) -> list[LabelledStack]:
    from napari_sam_lora.session.training_import import read_labelled_stacks  # noqa: PLC0415

    return read_labelled_stacks(token, folder)


def _item(text: str, data: object = None) -> QTableWidgetItem:
    item = QTableWidgetItem(text)
    item.setFlags(Qt.ItemFlag.ItemIsEnabled)
    item.setToolTip(text)
    if data is not None:
        item.setData(Qt.ItemDataRole.UserRole, data)
    return item

"""The training set: labels and the images that they belong to."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sam_lora._qt.finetuning.controller import FinetuningController
from napari_sam_lora._qt.finetuning.example_pictures import show_planes
from napari_sam_lora._qt.finetuning.training_set import TrainingPair, cautions
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import Notice, action, row
from napari_sam_lora._qt.widgets.picture_strip import Strip
from napari_sam_lora.session import CancelToken
from napari_sam_lora.text import pluralize

COLUMNS = ("Labels", "Image", "Objects", "Planes", "Done")
TIPS = (
    "A labels layer with objects. Tick it to learn from it.",
    "The image that the labels belong to.",
    "Labelled objects, and how many of them have the prompts that you gave.",
    "Planes with labels.",
    "Tick it when everything in the labelled planes that should be labelled is. Partly labelled images are fine: what "
    "is not labelled is never taken for background.",
)
NOTHING = (
    "No labels yet. Segment a few objects with the prompt widget or paint some with napari's labels tools; they appear "
    "here by themselves."
)
NOTHING_CHECKED = "Nothing is painted or approved yet."
MOST_SHOWN = 8
NO_IMAGE = "No image has the size of these labels: open it to learn from them."
SHOWN_SIDE = 1024  # without a model, input pixels are counted as for the original one


class TrainingTable(QWidget):
    """Which labels are learned from; warns of what may go wrong.

    Parameters
    ----------
    controller : Controller
    finetuning : FinetuningController
    """

    def __init__(self, controller: Controller, finetuning: FinetuningController) -> None:
        super().__init__()
        self._controller, self._finetuning = controller, finetuning
        self.table = _table()
        self.empty = Notice()
        self.checked = QCheckBox("Only what I painted or approved")
        self.checked.setToolTip(
            "Leaves out objects that are as the model left them. It learns nothing good from its own mistakes: correct "
            "them, approve what is right, or tick this."
        )
        self.checked.setChecked(finetuning.only_checked)
        self.checked.toggled.connect(finetuning.choose_checked)
        self.cautions = Notice()
        self.strip = Strip(controller)
        self._show = action("Show", "Pictures of what will be learned from; click one to go there.", self._show_planes)
        self._add = action(
            "Add from files…",
            "Labelled images from a folder with images/ and labels/ (or masks/): they are opened as layers.",
            self._choose_folder,
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.empty, self.table, self.checked, self.cautions, row(self._show, self._add), self.strip):
            layout.addWidget(widget)
        self._filling = False
        self.table.itemChanged.connect(self._on_item)
        finetuning.set_changed.connect(self.refresh)
        finetuning.settings_changed.connect(self._warn)
        self.refresh()

    def refresh(self) -> None:
        """Show the training set as it is now."""
        pairs, self._filling = self._finetuning.pairs(), True
        self.table.setRowCount(len(pairs))
        for number, pair in enumerate(pairs):
            self._fill(number, pair)
        self._filling = False
        self.table.setColumnHidden(1, all(len(pair.images) == 1 for pair in pairs))
        self.table.setVisible(bool(pairs))
        self.empty.say("" if pairs else NOTHING_CHECKED if self._finetuning.only_checked else NOTHING)
        self._show.setEnabled(bool(self._finetuning.included()))
        self.strip.clear()
        self.table.updateGeometry()
        self._warn()

    def _fill(self, number: int, pair: TrainingPair) -> None:
        name = _item(pair.labels_name, pair.labels)
        name.setToolTip(f"{pair.labels_name}, of the image {pair.image_name}" if pair.image else NO_IMAGE)
        if pair.image:
            name.setFlags(name.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            included = self._finetuning.is_included(pair)
            name.setCheckState(Qt.CheckState.Checked if included else Qt.CheckState.Unchecked)
        self.table.setItem(number, 0, name)
        self.table.setItem(number, 1, _item(pair.image_name or "none"))
        self.table.removeCellWidget(number, 1)
        if len(pair.images) > 1:
            self.table.setCellWidget(number, 1, self._image_box(pair))
        objects = _item(str(pair.objects))
        objects.setToolTip(f"{pluralize(pair.objects, 'object')}, {pair.prompted} with your prompts")
        self.table.setItem(number, 2, objects)
        self.table.setItem(number, 3, _item(str(pair.planes)))
        done = _item("")
        done.setFlags(done.flags() | Qt.ItemFlag.ItemIsUserCheckable)
        states = Qt.CheckState
        state = states.Checked if pair.complete == pair.planes else states.PartiallyChecked
        done.setCheckState(state if pair.complete else states.Unchecked)
        self.table.setItem(number, 4, done)

    def _image_box(self, pair: TrainingPair) -> QComboBox:
        names = {image: layer.name for image in pair.images if (layer := self._controller.layer_of(image)) is not None}
        made = QComboBox()
        made.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        made.setMinimumContentsLength(4)
        for image, name in names.items():
            made.addItem(str(name), image)
        made.setCurrentIndex(made.findData(pair.image))
        made.activated.connect(lambda place: self._finetuning.choose_image(pair.labels, str(made.itemData(place))))
        return made

    def _on_item(self, item: QTableWidgetItem) -> None:
        if self._filling:
            return
        first = self.table.item(item.row(), 0)
        labels = str(first.data(Qt.ItemDataRole.UserRole)) if first is not None else ""
        ticked = item.checkState() == Qt.CheckState.Checked
        if item.column() == 0:
            self._finetuning.include(labels, ticked)
        elif item.column() == 4:
            self._finetuning.mark_complete(labels, ticked)

    def _warn(self) -> None:
        if not self._finetuning.pairs():
            self.cautions.say("")
            return
        model = self._controller.session.model
        size = model.predictor.input_size if model is not None else SHOWN_SIDE
        said = cautions(self._finetuning.included(), str(self._finetuning.values.get("labels", "instances")), size)
        self.cautions.say("\n".join(f"⚠ {one}" for one in said))

    def _show_planes(self) -> None:
        with self._controller.report_errors():
            planes = self._finetuning.snapshot()
            meaning = str(self._finetuning.values.get("labels", "instances"))
            places = np.linspace(0, len(planes) - 1, min(MOST_SHOWN, len(planes)), dtype=int)
            job = partial(show_planes, planes=[planes[one] for one in places], meaning=meaning)
            self._finetuning.in_background("show", job, self.strip.show_examples, self)

    # Labels of files

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder with images/ and labels/ or masks/")
        if folder:
            self.add_folder(Path(folder))

    def add_folder(self, folder: Path) -> None:
        """Open the labelled images of a folder as layers, which then belong to the training set."""
        self._add.setEnabled(False)
        self._finetuning.in_background("files", partial(_read, folder=folder), self._add_layers, self, self._enable_add)

    def _enable_add(self) -> None:
        self._add.setEnabled(True)

    def _add_layers(self, groups: list[tuple[str, Any, Any]]) -> None:
        self._enable_add()
        for name, images, labels in groups:
            rgb = images.ndim > labels.ndim
            self._controller.viewer.add_image(images, name=name, rgb=rgb)
            self._controller.viewer.add_labels(labels, name=f"{name} labels")


def _read(token: CancelToken, folder: Path) -> list[tuple[str, Any, Any]]:
    """Images of one shape and type become one stack."""
    from napari_sam_lora.io.datasets import read_dataset  # noqa: PLC0415

    groups: dict[tuple[Any, ...], list[Any]] = {}
    for sample in read_dataset(folder, progress=token.progress).samples:
        groups.setdefault((sample.image.shape, sample.image.dtype), []).append(sample)
    made = []
    for number, samples in enumerate(groups.values()):
        name = samples[0].name if len(samples) == 1 else f"{folder.name}{f' {number + 1}' if len(groups) > 1 else ''}"
        images, labels = [one.image for one in samples], [one.labels.astype(np.int32) for one in samples]
        whole = (images[0], labels[0]) if len(samples) == 1 else (np.stack(images), np.stack(labels))
        made.append((name, *whole))
    return made


class _Table(QTableWidget):
    """As high as its rows, up to a few."""

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        rows = sum(self.rowHeight(number) for number in range(min(self.rowCount(), 6)))
        header = self.horizontalHeader()
        return QSize(260, rows + (header.height() if header is not None else 0) + 4)

    minimumSizeHint = sizeHint  # noqa: N815 - Qt's name


def _table() -> QTableWidget:
    made = _Table(0, len(COLUMNS))
    made.setHorizontalHeaderLabels(list(COLUMNS))
    for number, tip in enumerate(TIPS):
        head = made.horizontalHeaderItem(number)
        if head is not None:
            head.setToolTip(tip)
    made.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
    made.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    made.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    rows, header = made.verticalHeader(), made.horizontalHeader()
    if rows is not None and header is not None:
        rows.hide()
        header.setMinimumSectionSize(20)
        for number in range(len(COLUMNS)):
            stretch = number < 2
            mode = QHeaderView.ResizeMode.Stretch if stretch else QHeaderView.ResizeMode.ResizeToContents
            header.setSectionResizeMode(number, mode)
    return made


def _item(text: str, data: object = None) -> QTableWidgetItem:
    made = QTableWidgetItem(text)
    made.setFlags(Qt.ItemFlag.ItemIsEnabled)
    made.setToolTip(text)
    if data is not None:
        made.setData(Qt.ItemDataRole.UserRole, data)
    return made

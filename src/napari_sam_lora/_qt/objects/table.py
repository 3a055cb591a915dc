"""Panel section with the table of objects: inspect them, find them in the image, and correct them."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QItemSelectionModel, QModelIndex, QPoint, Qt, QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QHeaderView,
    QMenu,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_sam_lora._qt.objects.actions import ObjectActions, button_of, summary
from napari_sam_lora._qt.objects.classes import ClassesDialog
from napari_sam_lora._qt.objects.model import APPROVED, CLASS, ID, ORIGIN, SCORE, SIZE, ObjectsModel, SortedObjects
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import NO_IMAGE, Notice, button
from napari_sam_lora._qt.widgets.layout import row
from napari_sam_lora.session import ObjectRecord, PlaneKey

NO_OBJECTS = "No objects yet. Draw a prompt on one in the image and add it, or use “Find everything”."
WIDEST_TEXTS = {ID: "000", SIZE: "0.00e+00", SCORE: "0.00", ORIGIN: "propagated", APPROVED: "00"}
FOLLOWED_EVENTS = ("colormap", "scale", "units")


class ObjectsTable(QWidget):
    """Table of the objects of the target, with the actions on them.

    Parameters
    ----------
    controller : Controller
    parent : QWidget, optional
    """

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self._layer: Any | None = None
        self._updating = self._is_fitted = False
        self._dialog: ClassesDialog | None = None
        self.actions_ = ObjectActions(controller, self.selected, self)
        self.model = ObjectsModel(self.actions_.set_approved, self)
        self.sorted = SortedObjects(self)
        self.sorted.setSourceModel(self.model)
        self.counts, self.empty = Notice(), Notice()
        self.view: Any = self._make_view()
        self.selection: Any = self.view.selectionModel()
        self.classes = QComboBox()
        self.classes.setToolTip("Give the selected objects this class")
        self.edit_classes = button(
            "Classes…", "Add, rename or remove classes, and choose their colours", self._open_classes
        )
        self.complete = QCheckBox("This plane is complete")
        self.complete.setToolTip(
            "All objects in the plane are labelled. Fine-tuning then also learns to find objects without prompts, and "
            "segmenting the whole stack again does not change this plane."
        )
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._update)
        self._lay_out()
        self._connect()
        self._on_target()

    def _make_view(self) -> Any:
        view: Any = QTableView()
        view.setModel(self.sorted)
        view.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        view.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        view.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        view.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        view.setMinimumHeight(150)
        view.setSortingEnabled(True)
        view.sortByColumn(ID, Qt.SortOrder.AscendingOrder)
        view.setWordWrap(False)
        view.verticalHeader().hide()
        view.verticalHeader().setDefaultSectionSize(view.fontMetrics().height() + 8)
        header = view.horizontalHeader()
        header.setMinimumSectionSize(24)
        header.setHighlightSections(False)
        header.setStretchLastSection(False)
        header.setSectionResizeMode(CLASS, QHeaderView.ResizeMode.Stretch)
        for one in self.actions_.of_selection():
            view.addAction(one)
        return view

    def _lay_out(self) -> None:
        actions = self.actions_
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (
            self.counts,
            self.empty,
            self.view,
            row(*(button_of(one) for one in (actions.delete, actions.merge, actions.split))),
            row(*(button_of(one) for one in (actions.approve, actions.edit))),
            row(self.classes, self.edit_classes),
            self.complete,
        ):
            layout.addWidget(widget)

    def _connect(self) -> None:
        controller, view, selection = self._controller, self.view, self.selection
        controller.layers.objects_changed.connect(self._on_objects)
        controller.object_wanted.connect(self._on_wanted)
        controller.active_layers.target_chosen.connect(self._on_target)
        controller.active_layers.image_chosen.connect(self._refresh)
        controller.active_layers.plane_changed.connect(self._refresh)
        view.clicked.connect(self._choose_label)
        view.doubleClicked.connect(self._go_to)
        selection.currentRowChanged.connect(self._on_current)
        selection.selectionChanged.connect(self._refresh)
        view.customContextMenuRequested.connect(self._show_menu)
        self.classes.activated.connect(self._on_class)
        self.complete.clicked.connect(self._on_complete)

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802 - Qt's name
        """Follow the layer while the table is visible."""
        super().showEvent(event)
        if not self._is_fitted:
            self._fit_columns()
        self._follow_layer(self._controller.active_layers.target_layer)
        self._timer.start()

    def hideEvent(self, event: QHideEvent | None) -> None:  # noqa: N802 - Qt's name
        """Stop following the layer while the table is hidden."""
        super().hideEvent(event)
        self._follow_layer(None)

    def _fit_columns(self) -> None:
        """Make the columns fit a panel of 300 pixels; once, since the user may want other widths."""
        self._is_fitted = True
        metrics, header = self.view.fontMetrics(), self.view.horizontalHeader()
        short = {} if self.view.isColumnHidden(CLASS) else {ORIGIN: "prompted"}  # leaves room for the class
        for column, sample in (WIDEST_TEXTS | short).items():
            name = self.model.headerData(column, Qt.Orientation.Horizontal)
            room = max(metrics.horizontalAdvance(text) for text in (sample, name))
            header.resizeSection(column, room + (30 if column == ID else 8))

    def _show_class_column(self, shown: bool) -> None:
        """Hide the column of classes while there are none, since a narrow panel has no room for it."""
        if self.view.isColumnHidden(CLASS) == shown:
            self.view.setColumnHidden(CLASS, not shown)
            modes = QHeaderView.ResizeMode
            self.view.horizontalHeader().setSectionResizeMode(ORIGIN, modes.Interactive if shown else modes.Stretch)
            self._fit_columns()

    # Selection

    def selected(self) -> list[int]:
        """Return the ids of the selected objects in the order of the table."""
        rows = sorted(index.row() for index in self.selection.selectedRows())
        return [self.model.id_at(self.sorted.mapToSource(self.sorted.index(row, ID)).row()) for row in rows]

    def select(self, labels: list[int]) -> None:
        """Select these objects and no others."""
        flags = QItemSelectionModel.SelectionFlag
        self._updating = True
        self.selection.clearSelection()
        for label in labels:
            index = self._index_of(label)
            if index.isValid():
                self.selection.setCurrentIndex(index, flags.Select | flags.Rows)
                self.view.scrollTo(index)
        self._updating = False

    def _index_of(self, label: int) -> QModelIndex:
        found = self.model.row_of(label)
        return self.sorted.mapFromSource(self.model.index(found, ID)) if found >= 0 else QModelIndex()

    def _on_current(self, current: QModelIndex, _: QModelIndex) -> None:
        if not self._updating and self.view.hasFocus():
            self._choose_label(current)

    def _choose_label(self, index: QModelIndex) -> None:
        """Choose the id of the object for painting."""
        layer = self._controller.active_layers.target_layer
        if layer is not None and index.isValid():
            self._updating = True
            layer.selected_label = self.model.id_at(self.sorted.mapToSource(index).row())
            self._updating = False

    def _go_to(self, index: QModelIndex) -> None:
        """Go to the object in the viewer."""
        controller, target, layer = (
            self._controller,
            self._controller.target,
            self._controller.active_layers.target_layer,
        )
        if target is None or layer is None or not index.isValid():
            return
        label = self.model.id_at(self.sorted.mapToSource(index).row())
        with controller.report_errors():
            stats = target.stats(label)
            controller.go_to(PlaneKey.of(controller.layers.id_of(layer), layer.ndim, stats.plane_index), stats.centroid)

    def _on_picked(self, event: Any = None) -> None:
        """Select the object whose label was chosen in the layer, such as with the colour picker."""
        if not self._updating and self._layer is not None and self._layer.selected_label not in self.selected():
            self.select([int(self._layer.selected_label)])

    def _on_wanted(self, label: int) -> None:
        self.select([label])

    # Changes

    def _on_objects(self, labels: str) -> None:
        if labels == self._controller.layers.id_of(self._controller.active_layers.target_layer):
            self._timer.start()  # several changes in a row are shown once

    def _on_target(self) -> None:
        self._updating = True
        self.model.show(self._controller.target, self._controller.active_layers.target_layer)
        self._updating = False
        self._follow_layer(self._controller.active_layers.target_layer if self.isVisible() else None)
        self._refresh()

    def _update(self) -> None:
        self._updating = True
        self.model.update()
        self._updating = False
        self._refresh()

    def _follow_layer(self, layer: Any | None) -> None:
        if layer is self._layer:
            return
        if self._layer is not None:
            self._layer.events.selected_label.disconnect(self._on_picked)
            for name in FOLLOWED_EVENTS:
                getattr(self._layer.events, name).disconnect(self._on_appearance)
        self._layer = layer
        if layer is not None:
            layer.events.selected_label.connect(self._on_picked)
            for name in FOLLOWED_EVENTS:
                getattr(layer.events, name).connect(self._on_appearance)

    def _on_appearance(self, event: Any = None) -> None:
        self.model.recolour()

    # Showing

    def _refresh(self, *_: Any) -> None:
        target, plane = self._controller.target, self._controller.active_layers.plane
        records = self.model.records()
        chosen = [record for record in map(self.model.record, self.selected()) if record is not None]
        complete = 0 if target is None else len(target.complete_planes)
        self.counts.say(summary(records, len(chosen), complete) if records else "")
        if records:
            self.empty.say("")
        else:
            self.empty.say(NO_IMAGE if self._controller.active_layers.image_layer is None else NO_OBJECTS)
        self.actions_.refresh(chosen)
        self._fill_classes(chosen)
        self.complete.setEnabled(target is not None and plane is not None)
        is_complete = target is not None and plane is not None and plane.on("") in target.complete_planes
        self.complete.setChecked(is_complete)

    def _fill_classes(self, chosen: list[ObjectRecord]) -> None:
        target = self._controller.target
        self.classes.clear()
        self.classes.addItem("no class", 0)
        for one in () if target is None else target.classes:
            self.classes.addItem(one.name, one.id)
        ids = {record.class_id for record in chosen}
        self.classes.setCurrentIndex(self.classes.findData(ids.pop()) if len(ids) == 1 else -1 if ids else 0)
        self._show_class_column(self.classes.count() > 1)
        self.classes.setEnabled(bool(chosen) and self.classes.count() > 1)
        self.edit_classes.setEnabled(target is not None)

    def _on_class(self, index: int) -> None:
        self.actions_.set_class(int(self.classes.itemData(index)))

    def _on_complete(self, checked: bool) -> None:
        target, plane = self._controller.target, self._controller.active_layers.plane
        if target is not None and plane is not None:
            with self._controller.report_errors():
                target.mark_complete(plane, checked)

    def _open_classes(self) -> None:
        if self._dialog is None:
            self._dialog = ClassesDialog(self._controller, self)
        self._dialog.show()
        self._dialog.raise_()

    def _show_menu(self, position: QPoint) -> None:
        if self.selected():
            menu = QMenu(self)
            menu.addActions(self.actions_.of_selection())
            menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            menu.popup(self.view.viewport().mapToGlobal(position))

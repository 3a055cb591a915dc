"""Editor of the names and colours of the classes of a label image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QColorDialog, QDialog, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import Notice, button
from napari_sam_lora._qt.widgets.layout import row
from napari_sam_lora.session import ObjectClass
from napari_sam_lora.session.labels.classes import new_class

NO_CLASSES = "No classes yet. Add one for each kind of object that you want to distinguish."
NO_LABELS = "There are no labels yet: add an object first, or choose a labels layer."


class ClassesEditor(QWidget):
    """List of classes; a double click renames one. Each change is one step of undo.

    Parameters
    ----------
    controller : Controller
    parent : QWidget, optional
    """

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self._filling = False
        self._shown: tuple[ObjectClass, ...] = ()
        self.hint = Notice()
        self.list = QListWidget()
        self.list.setToolTip("Double-click a class to rename it")
        self.list.setMinimumHeight(80)
        self.add = button("Add", "Add a class", self.add_class)
        self.colour = button("Colour…", "Choose a colour for the selected class", self._ask_for_colour)
        self.remove = button("Remove", "Remove the selected class; its objects stay, without a class", self._remove)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.hint, self.list, row(self.add, self.colour, self.remove)):
            layout.addWidget(widget)
        self.list.itemChanged.connect(self._on_renamed)
        self.list.currentRowChanged.connect(self._refresh_buttons)
        controller.layers.objects_changed.connect(self.refresh)
        controller.active_layers.target_chosen.connect(self.refresh)
        self.refresh()

    def classes(self) -> tuple[ObjectClass, ...]:
        """Return the classes of the target."""
        target = self._controller.target
        return () if target is None else target.classes

    def refresh(self, _: str = "") -> None:
        """Update list, hint and buttons from the target."""
        if self._shown != self.classes():
            self._fill()
        if self._controller.target is None:
            self.hint.say(NO_LABELS)
        else:
            self.hint.say("" if self.classes() else NO_CLASSES)
        self._refresh_buttons()

    def add_class(self) -> None:
        """Add a class with a free id and a colour that is not used yet, and let the user name it."""
        present = self.classes()
        self._set((*present, new_class(present)))
        if self.list.count():
            self.list.setCurrentRow(self.list.count() - 1)
            self.list.editItem(self.list.item(self.list.count() - 1))

    def set_colour(self, class_id: int, colour: QColor) -> None:
        """Give a class another colour."""
        rgb = _as_rgb(colour)
        self._set(tuple(replace(one, colour=rgb) if one.id == class_id else one for one in self.classes()))

    def _fill(self) -> None:
        self._filling = True
        current = self.list.currentRow()
        self.list.clear()
        self._shown = self.classes()
        for one in self._shown:
            pixels = QPixmap(16, 16)
            pixels.fill(QColor.fromRgbF(*one.colour))
            item = QListWidgetItem(QIcon(pixels), one.name)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
            item.setData(Qt.ItemDataRole.UserRole, one)
            self.list.addItem(item)
        self.list.setCurrentRow(min(max(current, 0), self.list.count() - 1))
        self._filling = False

    def _refresh_buttons(self, _: int = 0) -> None:
        chosen = self.list.currentRow() >= 0
        self.add.setEnabled(self._controller.target is not None)
        self.colour.setEnabled(chosen)
        self.remove.setEnabled(chosen)

    def _current(self) -> ObjectClass | None:
        item = self.list.currentItem()
        return None if item is None else item.data(Qt.ItemDataRole.UserRole)

    def _on_renamed(self, item: Any) -> None:
        if self._filling:
            return
        one: ObjectClass = item.data(Qt.ItemDataRole.UserRole)
        name = item.text().strip()
        if name and name != one.name:
            self._set(tuple(replace(other, name=name) if other.id == one.id else other for other in self.classes()))
        else:
            self._fill()

    def _ask_for_colour(self) -> None:
        one = self._current()
        if one is not None:
            chosen = QColorDialog.getColor(QColor.fromRgbF(*one.colour), self, f"Colour of {one.name}")
            if chosen.isValid():
                self.set_colour(one.id, chosen)

    def _remove(self) -> None:
        one = self._current()
        if one is not None:
            self._set(tuple(other for other in self.classes() if other.id != one.id))

    def _set(self, classes: tuple[ObjectClass, ...]) -> None:
        target = self._controller.target
        if target is not None:
            with self._controller.report_errors():
                target.set_classes(classes)
            self.refresh()


class ClassesDialog(QDialog):
    """Classes editor in a window of its own, which stays open beside the viewer."""

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Classes")
        self.editor = ClassesEditor(controller, self)
        layout = QVBoxLayout(self)
        layout.addWidget(self.editor)
        layout.addWidget(button("Close", "Close this window", self.close))


def _as_rgb(colour: QColor) -> tuple[float, float, float]:
    return colour.redF(), colour.greenF(), colour.blueF()

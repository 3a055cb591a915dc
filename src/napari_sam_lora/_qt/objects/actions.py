"""What can be done with the objects that are selected in the table: buttons, menu and keys share these actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QObject, Qt
from qtpy.QtGui import QAction, QKeySequence
from qtpy.QtWidgets import QPushButton

from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import action
from napari_sam_lora.session import EditResult, LabelSet, ObjectRecord
from napari_sam_lora.text import pluralize


class ObjectActions(QObject):
    """Edits of the selected objects of the target, each one step of the controller's undo.

    Parameters
    ----------
    controller : Controller
    selected : callable
        Ids of the selected objects.
    parent : QObject
    """

    def __init__(self, controller: Controller, selected: Callable[[], list[int]], parent: QObject) -> None:
        super().__init__(parent)
        self._controller, self._selected = controller, selected
        self._all_approved = False
        self.delete = self._action("Delete", "Remove the selected objects (Delete)", self._delete)
        self.delete.setShortcut(QKeySequence(Qt.Key.Key_Delete))
        self.delete.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        self.merge = self._action("Merge", "Make one object of the selected ones; it keeps the lowest id", self._merge)
        self.split = self._action("Split", "Make an object of each separate part of the selected one", self._split)
        self.approve = self._action("Approve", "", self._approve)
        self.edit = self._action(
            "Edit prompts", "Bring the prompts of the selected object back, to change them and its mask", self._edit
        )

    def of_selection(self) -> list[QAction]:
        """Those that need a selection."""
        return [self.delete, self.merge, self.split, self.approve, self.edit]

    def refresh(self, records: Sequence[ObjectRecord]) -> None:
        """Only what can be done with these objects is enabled."""
        self.delete.setEnabled(bool(records))
        self.merge.setEnabled(len(records) > 1)
        self.split.setEnabled(len(records) == 1)
        self.edit.setEnabled(len(records) == 1 and bool(records[0].prompts))
        self._all_approved = bool(records) and all(record.approved for record in records)
        self.approve.setEnabled(bool(records))
        self.approve.setText("Unapprove" if self._all_approved else "Approve")
        self.approve.setToolTip(
            "No longer approve the selected objects"
            if self._all_approved
            else "Mark the selected objects as right: segmenting again leaves them as they are"
        )

    def set_approved(self, label: int, approved: bool) -> None:
        """Approve one object, or take that back."""
        self._do(lambda labels: labels.approve([label], approved))

    def set_class(self, class_id: int) -> None:
        """Give the selected objects a class; 0 for none."""
        self._do(lambda labels: labels.set_class(self._selected(), class_id))

    def _delete(self) -> None:
        self._do(lambda labels: labels.delete(self._selected()))

    def _merge(self) -> None:
        self._do(lambda labels: labels.merge(sorted(self._selected())))

    def _split(self) -> None:
        self._do(lambda labels: labels.split(self._selected()[0]))

    def _approve(self) -> None:
        approved = not self._all_approved
        self._do(lambda labels: labels.approve(self._selected(), approved))

    def _edit(self) -> None:
        with self._controller.report_errors():
            self._controller.bring_back(self._selected()[0])

    def _do(self, edit: Callable[[LabelSet], EditResult]) -> None:
        self._controller.flush()
        target = self._controller.target
        if target is not None:
            with self._controller.report_errors():
                self._controller.report(edit(target))

    def _action(self, text: str, tip: str, call: Callable[[], Any]) -> QAction:
        made = QAction(text, self)
        made.setToolTip(tip)
        made.triggered.connect(lambda *_: call())
        return made


def button_of(shared: QAction) -> QPushButton:
    """A button that does what an action does, and looks as the action is."""
    made = action(shared.text(), shared.toolTip(), shared.trigger)

    def follow() -> None:
        made.setText(shared.text())
        made.setToolTip(shared.toolTip())
        made.setEnabled(shared.isEnabled())

    shared.changed.connect(follow)
    follow()
    return made


def summary(records: Sequence[ObjectRecord], selected: int, complete: int) -> str:
    """The objects of a label image in one line."""
    parts = [pluralize(len(records), "object")]
    approved = sum(record.approved for record in records)
    painted = sum(record.origin == "painted" for record in records)
    parts += [f"{number} {word}" for number, word in ((approved, "approved"), (painted, "painted")) if number]
    parts += [f"{pluralize(complete, 'plane')} complete"] if complete else []
    parts += [f"{selected} selected"] if selected > 1 else []
    return ", ".join(parts)
